"""Maildrops that refuse, in the campaigns: what is left of that when they do no more."""

from __future__ import annotations

import os
from random import Random

import pytest
from faults.daemon import DOMAIN
from faults.finding import beside
from faults.refusing import MESSAGES, Refusing, cannot, is_immutable


def test_no_name_that_could_not_be_swept_meanwhile_is_left(tmp_path):
    """The campaign may have come between the names in new and in tmp of one file."""
    if why := cannot(tmp_path):
        pytest.skip(why)
    maildrop = tmp_path / DOMAIN / "ann"
    for box in ("new", "cur", "tmp"):
        (maildrop / box).mkdir(parents=True)
    message, draft = maildrop / "new" / "one", maildrop / "tmp" / "one"
    message.write_bytes(b"a message")
    os.link(message, draft)
    others = maildrop / "tmp" / "two"
    others.write_bytes(b"what a start has to sweep")
    refusing = Refusing(tmp_path, ["ann"])
    refusing.begin(Random(1), MESSAGES)
    try:
        assert is_immutable(draft)
    finally:
        refusing.end()
    assert not is_immutable(message)
    assert beside(tmp_path, ["ann"]) == ["left over: ['two']"]
