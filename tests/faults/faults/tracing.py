"""The real daemon, whose system calls strace makes fail."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults.daemon import NEVER, Collector, Daemon, Refused, add, furnish
from faults.finding import found
from faults.ledger import Ledger, text_of

NAMES = ("ann", "bob", "joe")
#: By the names under which Linux has them; calls that only the store makes.
CALLS = {
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "EDQUOT"),
    "syncfs": ("EIO",),
    "pwrite64": ("ENOSPC", "EIO"),
    "link,linkat": ("EDQUOT", "EACCES"),
    "rename,renameat": ("ENOSPC", "EIO"),
    "unlink,unlinkat": ("EIO", "EACCES"),
    "mkdir,mkdirat": ("EDQUOT", "EACCES"),
    "fchmod": ("EIO",),
    "openat": ("EMFILE",),
}
_SPACE = ("ENOSPC", "EDQUOT")


@dataclass
class Outcome:
    """How often something was asked while a call failed, and how often the answer was no."""

    calls: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def trace(folder: Path, durability: str) -> Outcome:
    """Each call fails for a while, each time that it is called, and then it is as before."""
    if shutil.which("strace") is None:
        raise SystemExit("there is no strace here (the Debian package of this name)")
    furnish(folder, durability, NAMES)
    outcome, ledger = Outcome(), Ledger(atomic=False)
    daemon = Daemon(folder).open()
    try:
        number = 0
        _ask(daemon, ledger, "before", outcome, "")
        for call, errors in CALLS.items():
            for error in errors:
                number += 1
                new = f"new{number}"
                add(folder, new)
                where = f"{call} {error}"
                with _failing(daemon, call, error):
                    asked, refused = _ask(daemon, ledger, f"{number}", outcome, error, new)
                outcome.calls[where] = (asked, refused)
                _, no = _ask(daemon, ledger, f"{number}b", outcome, "", new)
                wrong = [f"{no} refused behind it"] if no else []
                wrong += ledger.check(found(daemon, ledger.names()), settled=False)
                outcome.problems += [f"{where}: {one}" for one in wrong]
        daemon.stop()
        outcome.problems += daemon.complaints()
        daemon = Daemon(folder).open()
        outcome.problems += ledger.check(found(daemon, ledger.names()))
    finally:
        daemon.kill()
    return outcome


@contextmanager
def _failing(daemon: Daemon, call: str, error: str) -> Iterator[None]:
    words = ["strace", "-f", "-o", "/dev/null", "-p", f"{daemon.pid}", "-e", f"trace={call}"]
    tracer = subprocess.Popen(
        [*words, "-e", f"inject={call}:error={error}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        raise SystemExit(f"strace cannot be used here: {said}")
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=NEVER)


def _ask(
    daemon: Daemon, ledger: Ledger, mark: str, outcome: Outcome, error: str, *new: str
) -> tuple[int, int]:
    """Post and collect in all ways; how often, and how often the answer was no."""
    asked = refused = 0
    expected = b"452 4.3.1" if error in _SPACE else b"451 4.3.0"
    posts = [(daemon.smtp, 200, ["joe"]), (daemon.smtp, 2000, [*NAMES, *new])]
    posts += [(daemon.smtp, 400_000, ["ann"]), (daemon.lmtp, 200, [*NAMES, *new])]
    for number, (connect, size, names) in enumerate(posts):
        poster = connect()
        token = f"{mark}.{number}.{size}"
        for said in poster.post(ledger, token, text_of(token), names):
            asked += 1
            if said.startswith(b"250"):
                continue
            refused += 1
            if not error or not said.startswith(expected):
                outcome.problems.append(f"{error}: {said!r}")
        poster.close()
    for name in NAMES:
        asked += 1
        try:
            _collect(daemon.pop3(), ledger, name)
        except Refused as why:
            refused += 1
            if not error or "[SYS/TEMP]" not in str(why):
                outcome.problems.append(f"{error}: {why}")
    return asked, refused


def _collect(client: Collector, ledger: Ledger, name: str) -> None:
    try:
        uidls = client.login(name).uidls()
        held = client.retrieve(uidls, range(1, len(uidls) + 1)[:2])
        tokens = [ledger.seen(name, one) for one in held]
        client.delete([number + 1 for number in range(len(held))][:1])
        ledger.removing(name, tokens[:1])
        client.quit()
        ledger.removed(name, tokens[:1])
    finally:
        client.close()
