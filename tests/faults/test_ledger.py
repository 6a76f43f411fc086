"""The ledger of the campaigns: what it must find."""

from __future__ import annotations

import pytest
from faults.ledger import Held, Ledger, text_of

TRACE = b"Return-Path: <a@example.org>\r\nReceived: from x\r\n\tby y; z\r\n"
LETTER = "m1.300"


def held(token: str = LETTER, uidl: str = "u") -> Held:
    return Held(f"{uidl}.{token}", TRACE + text_of(token))


@pytest.fixture
def ledger():
    ledger = Ledger(atomic=True)
    ledger.posting(LETTER, ["ann", "joe"])
    return ledger


def test_what_was_acknowledged_is_there_once(ledger):
    ledger.posted(LETTER, "ann", "joe")
    assert ledger.check({"ann": [held()], "joe": [held()]}) == []
    assert ledger.check({"ann": [held()]}) == ["joe has lost m1.300"]


def test_what_is_there_twice_is_found(ledger):
    ledger.posted(LETTER, "ann", "joe")
    assert ledger.check({"ann": [held(), held()], "joe": [held()]}) == ["ann has m1.300 2 times"]


@pytest.mark.parametrize("there", [[], ["ann", "joe"]])
def test_what_nobody_was_told_of_is_there_or_not_and_stays_so(ledger, there):
    assert ledger.check({name: [held()] for name in there}) == []
    later = ledger.check({} if there else {"ann": [held()], "joe": [held()]})
    assert len(later) == 2
    assert all("lost" in one or "was gone" in one for one in later)


def test_what_is_there_in_part_is_found(ledger):
    assert "another is not" in ledger.check({"ann": [held()]})[0]


def test_a_changed_text_is_found(ledger):
    changed = Held("u", held().text.replace(b"m1", b"m2", 2)[:-3])
    assert len(ledger.check({"ann": [changed], "joe": [changed]})) == 2


def test_another_uidl_is_found(ledger):
    ledger.posted(LETTER, "ann", "joe")
    both = {"ann": [held()], "joe": [held()]}
    assert ledger.check(both) == []
    both["ann"] = [held(uidl="v")]
    assert "it was u" in ledger.check(both)[0]


def test_what_was_removed_does_not_come_back(ledger):
    ledger.posted(LETTER, "ann", "joe")
    ledger.removing("joe", [LETTER])
    ledger.removed("joe", [LETTER])
    assert ledger.check({"ann": [held()]}) == []
    assert "was gone" in ledger.check({"ann": [held()], "joe": [held()]})[0]


def test_a_quit_that_was_cut_takes_all_or_none():
    ledger = Ledger(atomic=True)
    tokens = ["m1.300", "m2.300"]
    for token in tokens:
        ledger.posting(token, ["joe"])
        ledger.posted(token, "joe")
    ledger.removing("joe", tokens)
    assert "another is not" in ledger.check({"joe": [held("m2.300")]})[0]
