"""A store that was killed with much in its journal."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from twisted.internet.task import Clock

from faults.daemon import DOMAIN
from faults.ledger import text_of
from postoffice.store import commit, files, names
from postoffice.store.drafts import Draft
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish

GROUP = 32


def lay_down(store: str, whose: Sequence[str], messages: int) -> None:
    """Take in so many messages, and be killed before any of them is checkpointed."""
    child = os.fork()
    if not child:
        try:
            _take_in(store, whose, messages)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed, it has failed"


def _take_in(store: str, whose: Sequence[str], messages: int) -> None:
    running = MaildirStore(
        store, ImmediateExecutor(), hostname="h", clock=Clock(), durability="journal"
    )
    finish(running.start())
    places = files.find([f"{store}/{DOMAIN}/{name}" for name in whose])
    for first in range(0, messages, GROUP):
        drafts = []
        for number in range(first, min(first + GROUP, messages)):
            draft = Draft([places[number % len(places)]], names.new_name("h"))
            draft.parts.append(text_of(f"backlog.{number}.2000"))
            drafts.append(draft)
        assert not any(commit.commit_batch(drafts, running._journal))
    os.kill(os.getpid(), signal.SIGKILL)
