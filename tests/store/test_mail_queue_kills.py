"""The queue of a store on disk, whose process is killed at any step."""

from __future__ import annotations

import json
import signal

import pytest

from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    dying_before,
    messages,
)
from tests.store.queued import (
    AWAY,
    FAR,
    LARGE,
    SMALL,
    begun,
    envelope,
    leftovers,
    posted,
    text_of,
)

pytestmark = pytest.mark.usefixtures("machine")


def killed_at(step: int, child, act, start=lambda: None) -> bool:
    """
    Whether a process that acts so was killed before so many steps.

    ``act`` gets what ``start`` returns, whose own steps do not count.
    """

    def work(parent):
        started = start()
        dying_before(step)
        act(started)

    return child(work).wait() == -signal.SIGKILL


@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
def test_whenever_it_is_killed_a_message_is_in_both_or_in_none(tmp_path, child, durability, text):
    for step in range(1, 1000):
        root = tmp_path / str(step)

        def act(_, root=root):
            posted(Served(root, durability=durability).store, envelope([JOE]), text)

        killed = killed_at(step, child, act)
        served = Served(root, durability=durability)
        names = finish(served.store.queue.names())
        assert all(text_of(served.store, name).endswith(text) for name in names)
        if durability == "journal":
            assert len(messages(root)) == len(names)
        else:  # the queue comes first
            assert len(messages(root)) <= len(names)
        assert finish(served.store.queue.usage())[0] == len(names)
        finish(served.store.sweep())
        assert leftovers(root) == []
        served.stop()
        if not killed:
            break
    assert len(names) == 1
    assert step > 20


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "marked"])
def test_whenever_it_is_killed_a_letter_is_there_once_with_its_mark(
    tmp_path, child, durability, whole
):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [], [0], whole=False))
        first.stop()

        def end(store, name=name):
            letters = [
                begun(store, envelope([JOE, ANN], [], ""), SMALL),
                begun(store, envelope([JOE], [AWAY], ""), LARGE),
            ]
            finish(store.queue.finish(name, [0], letters=letters, whole=whole))

        def start(root=root):
            return Served(root, durability=durability).store

        killed = killed_at(step, child, end, start)
        served = Served(root, durability=durability)
        for _ in range(2):
            [message] = finish(served.store.queue.read([name]))
            ended = message is None if whole else message.done == {0}
            others = [one for one in finish(served.store.queue.names()) if one != name]
            there = len(messages(root)), len(messages(root, ANN)), len(others)
            assert there == ((2, 1, 1) if ended else (0, 0, 0)), f"killed before step {step}"
            if message is not None:
                assert message.told == {0}
            finish(served.store.sweep())
            assert leftovers(root) == []
            if not ended:
                end(served.store)  # the next attempt
        served.stop()
        if not killed:
            break
    assert step > 20


def test_whenever_it_is_killed_a_sent_message_is_there_with_its_marks_or_gone(
    tmp_path, child, durability
):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [0], whole=False))
        first.stop()

        def start(root=root):
            return Served(root, durability=durability).store

        def act(store, name=name):
            finish(store.queue.finish(name, [1], whole=True))

        killed = killed_at(step, child, act, start)
        served = Served(root, durability=durability)
        [message] = finish(served.store.queue.read([name]))
        if message is None:
            assert list(root.glob(".queue/marks/new/*")) == []
        else:
            assert message.done == {0}
        served.stop()
        if not killed:
            break
    assert message is None


def test_whenever_it_is_killed_a_message_that_is_set_aside_is_kept(tmp_path, child, durability):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [0], whole=False))
        first.stop()

        def start(root=root):
            return Served(root, durability=durability).store

        def act(store, name=name):
            finish(store.queue.set_aside(name, "it makes us fail"))

        killed = killed_at(step, child, act, start)
        served = Served(root, durability=durability)
        [message] = finish(served.store.queue.read([name]))
        if message is None:
            aside = root / ".queue" / "aside" / name
            assert SMALL in aside.read_bytes()
            why = json.loads((root / ".queue" / "aside" / f"{name}.why").read_bytes())
            assert why == {"why": "it makes us fail", "done": [0], "told": []}
        else:
            assert message.done == {0}
        served.stop()
        if not killed:
            break
    assert message is None
