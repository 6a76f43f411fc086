"""Failures are the same behind a copy, and behind a pipe to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from postoffice.model import errors
from postoffice.model.reply import Reply

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.PostOfficeError)
]


def made(kind):
    if kind is errors.PermanentFailure:
        return kind("why", Reply(550, (5, 7, 1), "no"))
    if kind is errors.NotAllRemoved:
        return kind("why", 17)
    return kind("why")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_failure_stays_what_it_is(kind, again):
    before = made(kind)
    after = again(before)
    assert type(after) is kind
    assert str(after) == str(before) == "why"
    assert after.reply == before.reply
    assert vars(after) == vars(before)
