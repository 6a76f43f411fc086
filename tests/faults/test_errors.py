"""A few errors in each action; and stores that deal with them wrongly must be found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from faults.actions import ACTIONS
from faults.exploring import explore

from postoffice.model.errors import TemporaryFailure
from postoffice.store import batch, drafts, durability, expunge, files, mailbox, maildir
from postoffice.store.journal.journal import Journal


@pytest.mark.parametrize("durability", ["journal", "files"])
@pytest.mark.parametrize("name", ["several", "QUIT", "a start"])
def test_an_error_costs_no_more_than_it_must(name, durability):
    outcome = explore(name, durability, every=40)
    assert outcome.cases > 1
    assert outcome.wrong == []


def test_every_action_calls_what_can_fail():
    assert all(explore(name, "files", every=10_000).calls > 5 for name in ("one", "RETR"))
    assert len(ACTIONS) > 15


@dataclass(frozen=True)
class Broken:
    """What is broken, and the action and the function in which it must show."""

    place: Any
    name: str
    instead: Any
    durability: str
    action: str
    only: str


def _sync_again(draft):
    try:
        os.fsync(draft.fd)
    except OSError:
        os.fsync(draft.fd)


def _data_sync_again(self, state, records, real=Journal._append):
    def again(fd, real_sync=os.fdatasync):
        try:
            real_sync(fd)
        except OSError:
            real_sync(fd)

    with patch.object(os, "fdatasync", again):
        return real(self, state, records)


def _write_once(fd, data):
    os.write(fd, data)


def _keep_open(draft):
    draft.dropped = True
    draft.fd = -1


def _never_unlocked(self, *_):
    lock = expunge.lock(None, self._folder)
    return lock, maildir.scan(self._folder, self._sizes)


BROKEN = {
    "a sync that failed is tried again": Broken(
        durability, "_sync", _sync_again, "files", "one", "fsync"
    ),
    "a data sync that failed is tried again": Broken(
        Journal, "_append", _data_sync_again, "journal", "one", "fdatasync"
    ),
    "a short write is not gone on with": Broken(
        drafts, "write_all", _write_once, "files", "large", "write"
    ),
    "no space is told like any error": Broken(
        batch, "failure", lambda what, error: TemporaryFailure(f"{error}"), "files", "one", "write"
    ),
    "an error is a bug": Broken(
        files, "failure", lambda what, error: ValueError(what), "files", "login", "open"
    ),
    "a file is left open": Broken(drafts, "drop", _keep_open, "files", "several", "link"),
    "a lock is left behind": Broken(
        mailbox.OpenMaildir, "_open", _never_unlocked, "files", "login", "scandir"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_store_is_found(name, failures):
    broken = BROKEN[name]
    with patch.object(broken.place, broken.name, broken.instead):
        outcome = explore(broken.action, broken.durability, only=broken.only, until_wrong=True)
    failures.clear()
    assert outcome.wrong
