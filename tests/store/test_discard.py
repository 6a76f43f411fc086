"""Rule 10: a maildrop that is discarded takes along what the journal has of it."""

from __future__ import annotations

import os
import signal

import pytest

from postoffice.model.errors import TemporaryFailure
from postoffice.store import cleanup
from postoffice.store.journal import checkpoints
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    die,
    folder_of,
    is_free,
    pending,
    there,
    waiting_to_apply,
)

pytestmark = pytest.mark.usefixtures("machine")


def test_rule_10_a_maildrop_that_goes_takes_what_the_journal_has_of_it(root, child, served):
    def discard(parent):
        one = Served(root)
        one.post("one", JOE, ANN)
        finish(one.store.discard(JOE, False))
        assert pending(root) == []
        one.post("two")
        die()

    assert child(discard).wait() == -signal.SIGKILL
    one = served()
    assert one.listed() == ["two"]
    assert one.listed(ANN) == ["one"]


def test_rule_10_what_was_brought_back_stays(root, child, served):
    def bring_back(parent):
        one = Served(root, undelete=86400.0)
        one.post("one")
        one.post("two")
        one.remove("one", "two")
        assert finish(one.store.undelete(JOE, "", 0.0)) == 2
        assert pending(root) == []
        one.remove("two")
        die()

    assert child(bring_back).wait() == -signal.SIGKILL
    assert served().listed() == ["one"]


def test_rule_10_deliveries_to_others_do_not_wait_until_its_files_are_gone(
    root, served, monkeypatch
):
    one = served()
    one.post("one")
    seen = []
    calling_first(
        monkeypatch,
        cleanup,
        "_empty",
        lambda _: seen.append((folder_of(root).exists(), is_free(root / ".journal" / "append"))),
    )
    assert finish(one.store.discard(JOE, False)) == ""
    assert seen == [(False, True)]


def test_rule_10_nobody_delivers_meanwhile(root, served, monkeypatch):
    one = served()
    one.post("one")
    seen = []
    calling_first(
        monkeypatch,
        os,
        "rename",
        lambda *_, **named: seen.append((is_free(root / ".journal" / "append"), pending(root))),
    )
    assert finish(one.store.discard(JOE, True))
    assert seen.count((False, [])) == len(seen) > 0


def test_rule_10_where_it_never_rests_nothing_is_done(root, child, served, monkeypatch):
    one = served()
    one.post("one")
    slow = waiting_to_apply(root, child)
    monkeypatch.setattr(checkpoints, "PATIENCE", 0.0)
    with pytest.raises(TemporaryFailure):
        finish(one.store.discard(JOE, False))
    assert there(root) == ["one"]
    slow.say("go on")
    assert slow.hear() == "posted"
