"""Waiting until all that was submitted has left the queue, and what its sender hears of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.daemon import NEVER, Daemon
from faults.finding import SOON, let_in
from postoffice.store.queue_files import MESSAGES
from tests import processes

#: All that is for others goes to one peer, and nobody is suspected.
OUTBOUND = """\
outbound:
  routes: [{{via: "smtp:127.0.0.1:{port}"}}]
  limits: {{recipients: []}}
"""


def drain(folder: Path) -> list[str]:
    """Let all be tried again until the queue is empty; what is in it if it does not become so."""
    waiting, until = _waiting(folder), time.monotonic() + NEVER
    while waiting and time.monotonic() < until:
        command = str(Path(sys.executable).with_name("postoffice"))
        processes.run([command, "queue", "retry", "--all"], cwd=folder)  # perhaps nothing waits
        time.sleep(0.2)
        waiting = _waiting(folder)
    return waiting


def _waiting(folder: Path) -> list[str]:
    return [one.name for one in (folder / "state" / "maildrops" / MESSAGES / "new").glob("*")]


def collect_letters(
    daemon: Daemon, name: str, missing: Callable[[Sequence[bytes]], Sequence[str]]
) -> list[bytes]:
    """Collect all that came to a sender; wait a little if something is missing in it."""
    letters: list[bytes] = []
    until = time.monotonic() + SOON
    while True:
        client = let_in(daemon, name)
        held = client.retrieve(client.uidls())
        client.delete(range(1, len(held) + 1))
        client.quit()
        letters += [one.text for one in held]
        if not missing(letters) or time.monotonic() > until:
            return letters
        time.sleep(0.05)
