"""The queue of a store on disk, where any system call fails."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

import pytest

from postoffice.model.errors import TemporaryFailure
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    STEPS,
    Served,
    calling_first,
    messages,
)
from tests.store.queued import (
    AWAY,
    FAR,
    LARGE,
    SMALL,
    begun,
    envelope,
    open_files,
    posted,
)

pytestmark = pytest.mark.usefixtures("machine")


CALLS = (*STEPS, "open", "pread", "stat", "fstat")


@contextmanager
def failing(step: int, error: int, *, lasting: bool):
    """The call of this number fails, or all from there on do; yields whether it came to that."""
    left, failed = [step], []
    with pytest.MonkeyPatch.context() as patch:

        def count(*args, **named):
            left[0] -= 1
            if not left[0] or (lasting and left[0] < 0):
                failed.append(True)
                raise OSError(error, os.strerror(error))

        for name in CALLS:
            calling_first(patch, os, name, count)
        yield failed


def outcome(act) -> bool:
    """Whether it went well; nothing but a temporary failure is known here."""
    try:
        act()
    except TemporaryFailure:
        return False
    return True


FAULTS = [(errno.EIO, False), (errno.ENOSPC, True)]


@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("error", "lasting"), FAULTS, ids=["one EIO", "no space for long"])
def test_whatever_fails_a_message_is_in_both_or_in_none(tmp_path, durability, text, error, lasting):
    for step in range(1, 1000):
        served = Served(tmp_path / str(step), durability=durability)
        store = served.store
        posted(store, envelope([JOE]))
        before = open_files()
        with failing(step, error, lasting=lasting) as failed:
            well = outcome(lambda store=store: finish(begun(store, envelope([JOE]), text).commit()))
        names, mail = finish(store.queue.names()), messages(served.root)
        if well or not lasting:  # what lasts may keep it from being undone
            assert len(names) == len(mail) == 1 + well, f"call {step}"
        assert open_files() <= before + 1, f"call {step}"
        served.checkpoint()
        posted(store, envelope([JOE]))
        usage = finish(store.queue.usage())[0]
        served.stop()
        again = Served(tmp_path / str(step), durability=durability)
        now, mail = finish(again.store.queue.names()), messages(served.root)
        if well or not lasting:
            assert len(now) == len(mail) == 2 + well, f"call {step}"
            assert usage == len(now)
        assert 2 + well <= len(now) <= 3, f"call {step}"
        assert 2 + well <= len(mail) <= 3, f"call {step}"
        assert durability == "files" or len(now) == len(mail), f"call {step}"
        again.stop()
        if not failed:
            break
    assert step > 15


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "marked"])
@pytest.mark.parametrize(("error", "lasting"), FAULTS, ids=["one EIO", "no space for long"])
def test_whatever_fails_letters_are_there_with_the_end_or_not_at_all(
    tmp_path, durability, whole, error, lasting
):
    for step in range(1, 1000):
        served = Served(tmp_path / str(step), durability=durability)
        store = served.store
        name = posted(store, envelope([], [FAR, AWAY]))
        before = open_files()

        def end(store=store, name=name):
            letters = [
                begun(store, envelope([JOE, ANN], [], ""), SMALL),
                begun(store, envelope([JOE], [AWAY], ""), LARGE),
            ]
            finish(store.queue.finish(name, [0], letters=letters, whole=whole))

        with failing(step, error, lasting=lasting) as failed:
            well = outcome(end)
        served.checkpoint()
        there = len(messages(served.root)), len(messages(served.root, ANN))
        if well or not lasting:
            assert there == ((2, 1) if well else (0, 0)), f"call {step}"
        assert open_files() <= before + 2, f"call {step}"
        if not well:
            end()
        served.stop()
        again = Served(tmp_path / str(step), durability=durability)
        names = finish(again.store.queue.names())
        assert (name in names) is not whole, f"call {step}"
        there = len(messages(served.root)), len(messages(served.root, ANN)), len(names) + whole
        if well or not lasting:
            assert there == (2, 1, 2), f"call {step}"
        else:  # the first letters may have come after all
            assert (2, 1, 2) <= there <= (4, 2, 3), f"call {step}"
        again.stop()
        if not failed:
            break
    assert step > 30
