"""What is set aside waits, and each login says why; also where there is no journal any more."""

from __future__ import annotations

import os

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from postoffice.store import drafts, set_aside
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, folder_of


@pytest.fixture
def lines():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [formatEvent(one) for one in events if one["log_level"].name == "error"]
    globalLogPublisher.removeObserver(events.append)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("durability", ["journal", "files"])
def test_a_login_that_cannot_place_what_waits_says_so(root, monkeypatch, lines, durability):
    one = Served(root, durability=durability)
    one.post("one")
    folder = folder_of(root)
    waiting = f"{set_aside.home(str(folder))}/place"
    os.makedirs(waiting)
    (folder.parent / waiting / "1000.a.h").write_bytes(b"x\r\n")
    with monkeypatch.context() as patch:

        def move(*paths):
            raise OSError(5, "Input/output error")

        patch.setattr(drafts, "move", move)
        maildrop = one.store.maildrop(JOE)
        assert len(finish(maildrop.open()).entries) == 1
        maildrop.release()
    [line] = [line for line in lines() if "retrying what is set aside failed" in line]
    assert "Input/output error" in line
    maildrop = one.store.maildrop(JOE)
    assert len(finish(maildrop.open()).entries) == 2
    maildrop.release()
    one.stop()
