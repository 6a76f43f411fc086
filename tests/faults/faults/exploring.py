"""From an action to all that can go wrong in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from faults.actions import ACTIONS
from faults.layer import SHORT, Call, Fault
from faults.scene import Scene


@dataclass
class Outcome:
    """What the faults in one action have come to."""

    calls: int = 0
    cases: int = 0
    wrong: list[tuple[str, list[str]]] = field(default_factory=list)


def explore(
    name: str, durability: str, *, every: int = 1, only: str = "", until_wrong: bool = False
) -> Outcome:
    """
    Play an action once for each of its calls and each error that the call can have.

    Once with the error in this call alone, and once with it in all that
    follow, until the clients have their replies.  Of all these cases each
    ``every``-th is played; of one function's ``only``.
    """
    outcome = Outcome()
    with _folder() as place:
        calls = _play(place, name, durability, None, outcome)
        outcome.calls = len(calls)
        cases = [
            Fault(number, kind, lasting)
            for number, call in enumerate(calls, 1)
            for kind in call.faults
            for lasting in ((False,) if kind == SHORT else (False, True))
            if only in ("", call.function)
        ]
        for fault in cases[len(name) % every :: every]:
            _play(place, name, durability, fault, outcome)
            outcome.cases += 1
            if until_wrong and outcome.wrong:
                break
    return outcome


def _play(
    place: str, name: str, durability: str, fault: Fault | None, outcome: Outcome
) -> list[Call]:
    action = ACTIONS[name]
    scene = Scene(f"{place}/scene", action.kind(durability))
    try:
        scene.furnish()
        action.before(scene)
        calls = scene.play(action.act, fault)
    finally:
        scene.close()
        shutil.rmtree(f"{place}/scene")
    if scene.problems:
        where = f"{name}, {durability}" + (f": {fault}" if fault else "")
        outcome.wrong.append((where, scene.problems))
    return calls


@contextmanager
def _folder() -> Iterator[str]:
    """In memory, where there is such a place: nothing is synced anyway."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="errors-", dir=where)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
