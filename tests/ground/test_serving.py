"""Settings of how mail is served, and who says them."""

from __future__ import annotations

from dataclasses import fields

from postoffice.serving import PLAIN, Serving


def test_what_one_does_not_say_another_does():
    mine = Serving(keep=0, delete_on_collect=False)
    theirs = Serving(keep=9, keep_collected=5, delete_on_collect=True, in_use="wait")
    assert mine.or_else(theirs) == Serving(
        keep=0, keep_collected=5, delete_on_collect=False, in_use="wait"
    )
    assert Serving().or_else(theirs) is theirs


def test_what_stands_behind_all_says_everything():
    assert None not in [getattr(PLAIN, field.name) for field in fields(PLAIN)]
