"""What lies in the maildrops, asked over POP3 and looked up on the disk."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

from faults.daemon import DOMAIN, NEVER, Collector, Daemon, Refused
from faults.ledger import Held, Ledger
from postoffice.store import maildir
from postoffice.store.files import LATE
from postoffice.store.quota.usage_file import FILE

#: Seconds in which a start has swept.
SOON = 10


def found(daemon: Daemon, names: Iterable[str]) -> dict[str, list[Held]]:
    """All that lies in these maildrops."""
    return {name: _all(daemon, name) for name in names}


def _all(daemon: Daemon, name: str) -> list[Held]:
    client = let_in(daemon, name)
    held = client.retrieve(client.uidls())
    client.quit()
    return held


def let_in(daemon: Daemon, name: str) -> Collector:
    """As soon as whoever is there has left."""
    until = time.monotonic() + NEVER
    while True:
        client = daemon.pop3()
        try:
            return client.login(name)
        except Refused as why:
            client.close()
            if "[IN-USE]" not in str(why) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def empty(
    daemon: Daemon, ledger: Ledger, held: Mapping[str, Sequence[Held]], random: Random, part: float
) -> None:
    """Collect such a part of what lies there, for good."""
    for name, ones in held.items():
        going = {one.uidl: one for one in ones if random.random() < part}
        client = let_in(daemon, name)
        uidls = client.uidls()
        tokens = [ledger.seen(name, one) for one in going.values()]
        client.delete(number for number, uidl in enumerate(uidls, 1) if uidl in going)
        ledger.removing(name, tokens)
        client.quit()
        ledger.removed(name, tokens)


def beside_soon(store: Path, names: Iterable[str]) -> list[str]:
    """As ``beside``, where a start may be sweeping still."""
    until = time.monotonic() + SOON
    while (wrong := beside(store, names)) and time.monotonic() < until:
        time.sleep(0.05)
    return wrong


def beside(store: Path, names: Iterable[str]) -> list[str]:
    """What is wrong in the maildrops that no client sees."""
    problems = []
    for name in names:
        folder = store / DOMAIN / name
        if not folder.exists():
            continue
        places = [folder / place for place in maildir.subpaths(str(folder)).values()]
        there = (sum(place.stat().st_size for place in places), len(places))
        said = counted(folder)
        if said is not None and said != there:
            problems.append(f"{folder / FILE} says {said}, it is {there}")
        if left := list((folder / "tmp").glob("*")):
            problems.append(f"left over: {[one.name for one in left]}")
    return problems


def aside(store: Path) -> list[str]:
    """What a start could not put in its place."""
    return [f"put aside: {path}" for path in (store / LATE).rglob("*")]


def counted(folder: Path) -> tuple[int, int] | None:
    """Octets and messages, as a maildrop's quota counts them; None where nobody does."""
    try:
        lines = (folder / FILE).read_text("ascii").splitlines()[1:]
    except FileNotFoundError:
        return None
    pairs = [re.fullmatch(r"\s*(-?\d+) +(-?\d+)\s*", line) for line in lines]
    if not all(pairs):
        return (-1, -1)
    return sum(int(one[1]) for one in pairs if one), sum(int(one[2]) for one in pairs if one)
