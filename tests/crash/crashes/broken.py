"""Broken stores, each in one way: what looks at crash states must find every one of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from crashes.recorder import EVERYTHING, Recorder
from postoffice.store import cleanup, drafts, expunge, intents, maildir, queue_files
from postoffice.store.commit import Commit
from postoffice.store.durability import Journaled
from postoffice.store.journal import records, segments
from postoffice.store.journal.checkpoints import Checkpoints
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.large_texts import LargeTexts
from postoffice.store.journal.recovery import PendingBatches
from postoffice.store.journal.redo import MaildirRedo


@dataclass(frozen=True)
class Broken:
    """
    What is broken, and the scenario in which it must show.

    ``again``: when the power goes a second time, behind one in so many states of the first.
    """

    scenario: str
    how: Callable[[], AbstractContextManager[Any]]
    again: int = 0


def not_synced(is_left_out: Callable[[str], bool]) -> Callable[[], AbstractContextManager[Any]]:
    """These files or folders are not synced."""
    return lambda: patch.object(Recorder, "left_out", staticmethod(is_left_out))


def ends(*with_these: str) -> Callable[[], AbstractContextManager[Any]]:
    """What has such a path is not synced."""
    return not_synced(lambda path: path.endswith(with_these))


def holds(this: str) -> Callable[[], AbstractContextManager[Any]]:
    """What has this in its path is not synced."""
    return not_synced(lambda path: this in path)


def _link_first(self: Commit) -> None:
    self._batch.each(drafts.finish)
    self._reservations.reserve()
    self._settle(self._batch.drafts)
    self._durability.make_durable()


def _mark_first(self: Checkpoints, oldest: int, until: int) -> None:
    with self._files.appending.held():
        state = self._files.state.read()
        self._set_checkpointed(state, until)
        self._files.state.write(state)
    segments.sync_all(self._files.sync_fd)


def _sync_again(self: Checkpoints, oldest: int, until: int) -> None:
    try:
        segments.sync_all(self._files.sync_fd)
    except OSError:
        segments.sync_all(self._files.sync_fd)
    with self._files.appending.held():
        state = self._files.state.read()
        self._set_checkpointed(state, until)
        self._files.state.write(state)


_has_room = Journal._has_room


def _use_again(self: Journal, state: Any, octets: int) -> bool:
    if state.current >= 0 and state.tail + octets > self._files.size:
        state.generations[state.pending()[0]] = 0
    return _has_room(self, state, octets)


_begin = expunge.begin


def _remove_first(journal: Any, lock: int, folder: str, entries: Any, vault: str) -> Any:
    maildir.remove(folder, entries, vault, sync=False)
    return _begin(journal, lock, folder, entries, vault)


_make_durable = Journaled.make_durable


def _large_not_kept(self: Journaled) -> None:
    _make_durable(self)
    for draft, _ in self._committed:
        draft.moved = False


_init = MaildirRedo.__init__


def _believing(self: MaildirRedo, *args: Any, anew: bool, synced: bool) -> None:
    _init(self, *args, anew=False, synced=synced)


_redo_pending = PendingBatches.redo


def _without_removals(self: PendingBatches, *args: Any) -> Any:
    self.removals = []
    return _redo_pending(self, *args)


def _all_large_go(self: LargeTexts, checkpointed: int) -> None:
    self.unlink(os.listdir(self.folder))


_records = Journaled._records


def _without_others(self: Journaled) -> Any:
    others = [removal.record for removal in self._batch.others]
    return [record for record in _records(self) if record not in others]


_unlink_message = queue_files.unlink_message


def _marks_first(removal: Any) -> None:
    queue_files.unlink(removal.paths[1:])
    _unlink_message(removal)


BROKEN = {
    "the journal is not synced": Broken("one", not_synced(lambda path: path[-6:-1] == "/seg.")),
    "a large text is not synced": Broken("large", holds("/large/")),
    "the folder of large texts is not synced": Broken("large", ends("/large")),
    "the journal's folder is not synced": Broken("first-start", ends("/.journal")),
    "the key is not synced": Broken("first-start", ends("/key.new")),
    "the mark is not synced": Broken("busy", ends("/mark")),
    "what is checkpointed is not synced": Broken("checkpointed", ends(EVERYTHING)),
    "the mark is written before the rest is synced": Broken(
        "checkpointed", lambda: patch.object(Checkpoints, "_sync", _mark_first)
    ),
    "a segment is used again before it is checkpointed": Broken(
        "full-journal", lambda: patch.object(Journal, "_has_room", _use_again)
    ),
    "a sync that failed is tried again": Broken(
        "failed-syncfs", lambda: patch.object(Checkpoints, "_sync", _sync_again)
    ),
    "names are given before the journal is synced": Broken(
        "one", lambda: patch.object(Commit, "run", _link_first)
    ),
    "names go before the journal is synced": Broken(
        "removal", lambda: patch.object(expunge, "begin", _remove_first)
    ),
    "a large text goes before it is checkpointed": Broken(
        "large", lambda: patch.object(Journaled, "make_durable", _large_not_kept)
    ),
    "a recovery believes what it finds": Broken(
        "one", lambda: patch.object(MaildirRedo, "__init__", _believing)
    ),
    "a recovery does not sync what it has read": Broken(
        "started-behind-a-kill",
        lambda: patch.object(PendingBatches, "sync", lambda self: True),
    ),
    "a recovery forgets what was removed": Broken(
        "removal", lambda: patch.object(PendingBatches, "redo", _without_removals)
    ),
    "a large text goes before its recovery is checkpointed": Broken(
        "large", lambda: patch.object(LargeTexts, "sweep", _all_large_go), again=2
    ),
    "every signature is right": Broken(
        "forged", lambda: patch.object(records, "compare_digest", lambda *_: True)
    ),
    "what is removed is not synced": Broken(
        "removal", lambda: patch.object(maildir, "sync_folder", lambda path: None)
    ),
    "what letters come with is not written down": Broken(
        "letters", lambda: patch.object(intents, "_settle", lambda store, said: None)
    ),
    "an intent is not synced": Broken("letters", holds("/.queue/intents")),
    "the names in the queue are not synced": Broken("queued", ends("/messages/new")),
    "marks go before their message": Broken(
        "sent", lambda: patch.object(queue_files, "unlink_message", _marks_first)
    ),
    "what leaves the queue with a group is not in the journal": Broken(
        "sent-meanwhile", lambda: patch.object(Journaled, "_records", _without_others)
    ),
    "files are not synced": Broken("one", holds("/tmp/")),
    "new is not synced": Broken("one", ends("/new")),
    "a new maildrop is not synced": Broken("first-start", ends("/joe", "/example.net")),
    "what is set aside is not synced": Broken(
        "discard", lambda: patch.object(cleanup, "sync_folder", lambda path: None)
    ),
}
