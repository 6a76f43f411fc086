"""Rule 14: counts and listings from before a recovery are thrown away."""

from __future__ import annotations

import os
import signal

import pytest

from postoffice.store import maildir
from postoffice.util import file_times
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    before_applying,
    die,
    folder_of,
    posted_and_killed,
)

pytestmark = pytest.mark.usefixtures("machine")


def test_rule_14_counts_of_what_is_recovered_are_thrown_away(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE), ("three", ANN))
    for person in (JOE, ANN):
        (folder_of(root, person) / "maildirsize").write_text("1000S\n7 1\n")
    (folder_of(root, "bob@example.net")).mkdir()
    bobs = folder_of(root, "bob@example.net") / "maildirsize"
    bobs.write_text("1000S\n0 0\n")
    served()
    assert not (folder_of(root) / "maildirsize").exists()
    assert not (folder_of(root, ANN) / "maildirsize").exists()
    assert bobs.exists(), "nothing of his was recovered"


def test_rule_14_a_listing_is_remembered_when_its_folders_have_settled(root, served, monkeypatch):
    one = served()
    one.post("one")
    folder, sizes = str(folder_of(root)), one.store._sizes
    changed = max((folder_of(root) / box).stat().st_mtime_ns for box in ("new", "cur"))
    assert file_times.SETTLED == 20_000_000
    monkeypatch.setattr(file_times.time, "time_ns", lambda: changed + file_times.SETTLED - 1)
    assert maildir.scan(folder, sizes).stamp is None
    monkeypatch.setattr(file_times.time, "time_ns", lambda: changed + file_times.SETTLED)
    assert maildir.scan(folder, sizes).stamp is not None


def test_rule_14_what_was_listed_before_a_recovery_is_not_believed(root, child, served):
    def post(parent):
        other = Served(root)
        parent.say("there")
        parent.hear()
        before_applying(die)
        other.post("one", JOE)

    other = child(post)
    assert other.hear() == "there"
    one = served()
    one.post("two")
    for box in ("new", "cur"):
        os.utime(folder_of(root) / box, (1, 1))
    assert one.listed() == ["two"]
    other.say("go on")
    assert other.wait() == -signal.SIGKILL
    for _ in range(5):
        one.checkpoint()
    assert one.listed() == ["one", "two"]
