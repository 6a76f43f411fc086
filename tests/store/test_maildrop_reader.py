"""A reader without a session: what has not changed is not listed again, and all else is seen."""

from __future__ import annotations

import os

import pytest

from postoffice.model.errors import MessageGone
from postoffice.store import maildir
from postoffice.store.transfer.maildrop_reader import ReadListings
from postoffice.testing import finish
from tests.store.on_disk import JOE, age, opened, post


@pytest.fixture
def listed(monkeypatch):
    """The folders that are listed from now on."""
    seen = []
    plain = maildir._messages

    def messages(path):
        seen.append(os.path.basename(path))
        return plain(path)

    monkeypatch.setattr(maildir, "_messages", messages)
    return seen


def texts(store):
    reader = store.reader(JOE)
    return [b"".join(reader.text(entry)) for entry in reader.entries()]


def test_an_unchanged_maildrop_is_listed_once(store, joe, listed):
    post(store, b"one\r\n", JOE)
    age(joe)
    assert texts(store) == [b"one\r\n"]
    listed.clear()
    assert texts(store) == [b"one\r\n"]
    assert listed == []


def test_what_came_and_what_went_is_seen(store, joe):
    post(store, b"one\r\n", JOE)
    age(joe)
    assert texts(store) == [b"one\r\n"]
    post(store, b"two\r\n", JOE)
    assert texts(store) == [b"one\r\n", b"two\r\n"]
    maildrop, entries = opened(store)
    finish(maildrop.remove([entries[0]]))
    maildrop.release()
    assert texts(store) == [b"two\r\n"]


def test_a_maildrop_that_is_made_anew_is_listed_anew(store, joe):
    post(store, b"one\r\n", JOE)
    age(joe)
    assert texts(store) == [b"one\r\n"]
    finish(store.discard(JOE, False))
    assert texts(store) == []
    post(store, b"two\r\n", JOE)
    age(joe)
    assert texts(store) == [b"two\r\n"]


def test_a_message_that_has_another_size_is_listed_with_it(store, joe):
    post(store, b"one\r\n", JOE)
    age(joe)
    reader = store.reader(JOE)
    (entry,) = reader.entries()
    with open(joe / entry.name, "ab") as file:
        file.write(b"more\r\n")
    with pytest.raises(MessageGone):
        list(reader.text(entry))
    assert texts(store) == [b"one\r\nmore\r\n"]


def test_sessions_list_for_themselves(store, joe, listed):
    post(store, b"one\r\n", JOE)
    age(joe)
    texts(store)
    listed.clear()
    opened(store)[0].release()
    assert listed != []


def test_memory_is_bounded(store, joe, listed, monkeypatch):
    monkeypatch.setattr(ReadListings, "LIMIT", 0)
    post(store, b"one\r\n", JOE)
    age(joe)
    small = ReadListings()
    for _ in range(2):
        listed.clear()
        assert len(small.scan(str(joe)).entries) == 1
        assert listed != []
