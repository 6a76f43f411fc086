"""Two daemons over one store: locks, quotas, and that both tell the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.daemon import DOMAIN, Daemon, Refused, environment
from faults.finding import counted, empty, found, let_in
from faults.ledger import Ledger, text_of
from faults.load import Load
from postoffice.store import maildir

COMMAND = "import sys; sys.argv[0] = 'postoffice'; from postoffice.cli import main; main()"
#: Messages that fit into a maildrop with a quota.
ROOM = 40


@dataclass
class Outcome:
    """What two daemons together have come to."""

    logins: int = 0
    released: list[float] = field(default_factory=list)  # seconds, behind QUIT and lost links
    released_by_kill: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    quotas: int = 0
    kills: int = 0
    commands: int = 0
    problems: list[str] = field(default_factory=list)


def several_at_once(daemons: Sequence[Daemon], name: str, outcome: Outcome) -> None:
    """Eight log in at the same time: one gets in, the others hear [IN-USE], and at once."""
    in_, ready = [], threading.Barrier(8)

    def login(daemon: Daemon) -> None:
        client = daemon.pop3()
        ready.wait()
        began = time.monotonic()
        try:
            in_.append(client.login(name))
        except Refused as why:
            outcome.refusals.append(time.monotonic() - began)
            if "[IN-USE]" not in str(why):
                outcome.problems.append(f"a login heard {why}")
            client.close()

    threads = [threading.Thread(target=login, args=(daemons[n % len(daemons)],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.logins += len(threads)
    if len(in_) != 1:
        outcome.problems.append(f"{len(in_)} of 8 got into one maildrop")
    for client in in_:
        client.quit()


def handed_over(
    folder: Path, daemons: list[Daemon], name: str, outcome: Outcome, random: Random
) -> None:
    """One holds the maildrop, the other does not get in; until QUIT, a lost link, or a kill."""
    one, other = random.sample(range(len(daemons)), 2)
    client = let_in(daemons[one], name)
    how = random.choice(("QUIT", "lost", "kill"))
    with suppress(Refused):
        daemons[other].pop3().login(name)
        outcome.problems.append("two got into one maildrop")
    began = time.monotonic()
    if how == "QUIT":
        client.quit()
    elif how == "lost":
        client.close()
    else:
        daemons[one].kill()
        outcome.kills += 1
    let_in(daemons[other], name).quit()
    took = time.monotonic() - began
    (outcome.released_by_kill if how == "kill" else outcome.released).append(took)
    outcome.logins += 3
    if how == "kill":
        outcome.problems += daemons[one].complaints()
        daemons[one] = Daemon(folder).open()


def quotas(
    folder: Path, daemons: list[Daemon], name: str, outcome: Outcome, random: Random, *, kill: bool
) -> None:
    """
    Many post until there is no room: as many come in as fit, and no more.

    With ``kill``, one of the daemons goes in the middle.
    """
    ledger = Ledger(atomic=True)
    maildrop = folder / "state" / "maildrops" / DOMAIN / name
    before = len(maildir.subpaths(str(maildrop))) if maildrop.exists() else 0

    def fill(daemon: Daemon, mark: str) -> None:
        with suppress(OSError):
            poster = daemon.smtp()
            for number in range(10 * ROOM):
                token = f"{mark}.{number}.300"
                said = poster.post(ledger, token, text_of(token), [name])[0]
                if not said.startswith(b"250"):
                    if not re.match(rb"452 4\.2\.2|552 5\.2\.2", said):
                        outcome.problems.append(f"over its quota, a poster heard {said!r}")
                    return

    mark = f"q{outcome.quotas}"
    threads = [
        threading.Thread(target=fill, args=(daemons[n % len(daemons)], f"{mark}.{n}"))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    if kill:
        time.sleep(random.uniform(0, 0.1))
        one = random.randrange(len(daemons))
        daemons[one].kill()
        outcome.kills += 1
        outcome.problems += daemons[one].complaints()
        daemons[one] = Daemon(folder).open()
    for thread in threads:
        thread.join()
    if kill:  # what the dead one had reserved is free again when somebody has counted
        let_in(daemons[0], name).quit()
        fill(daemons[0], f"{mark}.behind")
    there = len(maildir.subpaths(str(maildrop)))
    if there != ROOM:
        outcome.problems.append(f"{there} messages in a maildrop for {ROOM} ({before} before)")
    said = counted(maildrop)
    octets = sum(
        (maildrop / one).stat().st_size for one in maildir.subpaths(str(maildrop)).values()
    )
    if said != (octets, there):
        outcome.problems.append(f"maildirsize says {said}, it is {(octets, there)}")
    client = let_in(random.choice(daemons), name)
    client.delete(range(1, random.randint(2, ROOM)))
    client.quit()
    outcome.quotas += 1


def killed_beside_another(
    folder: Path,
    daemons: list[Daemon],
    names: Sequence[str],
    ledger: Ledger,
    outcome: Outcome,
    random: Random,
) -> None:
    """Both have their hands full, one is killed; nothing is lost, and all say the same."""
    load = Load(ledger, names, random, f"s{outcome.kills}.{outcome.commands}")
    load.begin(daemons)
    asking = _count_beside(folder, random.choice(names))
    time.sleep(random.uniform(0, 1.5))
    one = random.randrange(len(daemons))
    daemons[one].kill()
    outcome.kills += 1
    time.sleep(random.uniform(0, 0.3))
    load.end()
    outcome.problems += load.problems + daemons[one].complaints()
    daemons[one] = Daemon(folder).open()
    _counted(asking, outcome)
    for daemon in daemons:
        outcome.problems += ledger.check(found(daemon, names), settled=False)
    name = random.choice(names)
    told = _counted(_count_beside(folder, name), outcome)
    for daemon in daemons:
        client = let_in(daemon, name)
        if told not in (-1, len(client.uidls())):
            outcome.problems.append(f"the command counts {told} for {name}, POP3 another number")
        client.quit()
    empty(daemons[0], ledger, found(daemons[1], names), random, 0.7)


def _count_beside(folder: Path, name: str) -> subprocess.Popen[str]:
    """The command, which opens the store, too."""
    words = ["account", "show", "--json", f"{name}@{DOMAIN}"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _counted(asking: subprocess.Popen[str], outcome: Outcome) -> int:
    said, _ = asking.communicate()
    outcome.commands += 1
    if asking.returncode:
        outcome.problems.append(f"the command says {said}")
        return -1
    return int(json.loads(said)["messages"])
