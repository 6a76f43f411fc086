"""From traces to states, and what was found in them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from crashes import failures, scenarios  # noqa: F401  (they fill the table)
from crashes.checking import Looking, State
from crashes.disk import Disk, Model
from crashes.operations import Note
from crashes.scenario import SCENARIOS, Scenario
from crashes.world import Era

#: Of so many states one is cut once more, and in so many ways and places.
AGAIN = 12
TIMES = 4
#: A play is worth while for so many states.
PLAY = 10


@dataclass
class Outcome:
    """What was looked at, and what was wrong."""

    states: int = 0
    cut_again: int = 0
    possible: int = 0  # some of which nobody can tell apart
    every: bool = True  # whether each possible one was looked at
    seconds: float = 0.0
    wrong: list[tuple[str, list[str]]] = field(default_factory=list)


def explore(
    name: str, seed: int, most: int, *, until_wrong: bool = False, again: int = AGAIN
) -> Outcome:
    """Play a scenario, and look at about so many of its states."""
    began = time.monotonic()
    random, outcome = Random(f"{seed} {name}"), Outcome()
    with _folder() as folder:
        eras = _recorded(SCENARIOS[name], folder, random, most)
        counts = [count for era in eras for count in _counts(era)]
        # each point has its kill, and one power cut at least; where they are too many, some do
        chance = min(1.0, most / (2 * len(counts)))
        share = _share(counts, most - len(counts))
        looking = Looking(f"{folder}/states")
        for era in eras:
            for state in _states(era, random, share, chance):
                where = f"{name}, state {outcome.states}"
                _look(looking, state, where, outcome, random, again)
                if outcome.wrong and until_wrong:
                    break
    outcome.possible = sum(counts)
    outcome.every = chance == 1.0 and max(counts) <= share
    outcome.seconds = time.monotonic() - began
    return outcome


def _recorded(scenario: Scenario, folder: str, random: Random, most: int) -> list[Era]:
    plays = [(kind, variant) for kind in scenario.kinds for variant in range(scenario.variants)]
    if len(plays) > most // PLAY:
        plays = sorted(random.sample(plays, max(1, most // PLAY)), key=plays.index)
    eras = []
    for number, (kind, variant) in enumerate(plays):
        eras += scenario.recorded(f"{folder}/{number}", kind, variant)
    os.mkdir(f"{folder}/states")
    return eras


def _look(
    looking: Looking, state: State, where: str, outcome: Outcome, random: Random, again: int
) -> None:
    problems = looking.problems(state)
    outcome.states += 1
    if problems:
        outcome.wrong.append((where, problems))
    elif again and state.cut and random.randrange(again) == 0:
        for next_one in looking.again(state, random, TIMES):
            outcome.cut_again += 1
            if problems := looking.problems(next_one):
                outcome.wrong.append((f"{where}, and cut again", problems))


def _counts(era: Era) -> list[int]:
    """How many states there are at each point of it."""
    model, counts = Model(era.base), []
    for operation in era.trace:
        counts.append(model.count())
        model.do(operation)
    return [*counts, model.count()]


def _share(counts: list[int], most: int) -> int:
    """How many each point may have, so that all have no more than ``most``."""
    left, share = most, 1
    for done, count in enumerate(sorted(counts)):
        share = max(1, left // (len(counts) - done))
        if count > share:
            break
        left -= count
        share = count
    return share


def _states(era: Era, random: Random, share: int, chance: float) -> Iterator[State]:
    """At each point of an era, or at some: the process is killed, or the power goes."""
    model, promises, seen = Model(era.base), era.before.copy(), set()
    for operation in [*era.trace, None]:
        crashes: list[tuple[Disk, bool]] = []
        if random.random() < chance:
            crashes += [(disk, False) for disk in model.killed(operation)]
            crashes += [(disk, True) for disk in model.states(random, share)]
        for disk, cut in crashes:
            key = (disk.key(), cut)
            if key not in seen:
                seen.add(key)
                yield State(disk, era.kind, promises.copy(), era.texts, cut, era.boot)
        if isinstance(operation, Note):
            promises.hear(operation)
            seen.clear()  # the same disk, but other promises
        elif operation is not None:
            model.do(operation)


@contextmanager
def _folder() -> Iterator[str]:
    """In memory, where there is such a place: no state needs a disk."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="crash-states-", dir=where)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
