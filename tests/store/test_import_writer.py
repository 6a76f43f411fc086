"""Messages that are written into a maildrop as they arrive: in groups, durable, recorded."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from postoffice.interfaces import IncomingMessage
from postoffice.model.errors import MaildropLocked
from postoffice.store import merge
from postoffice.store.transfer.text_digest import TextDigest
from postoffice.testing import cut, finish
from tests.store.on_disk import opened, read, started

JOE = "joe@example.net"
HEADER = b"Subject: x\r\nFrom: a@example.org\r\n\r\n"
TEXT = HEADER + b"body\r\n"


@pytest.fixture
def writer(store):
    writer = store.import_writer(JOE, False)
    writer.open()
    yield writer
    writer.close()


def put(writer, uidl, place, text=TEXT, arrived=None):
    writer.begin(IncomingMessage(uidl, place, uidl))
    for piece in cut(text, range(0, len(text), 7)):
        writer.write(piece)
    return writer.end(arrived)


def listed(store):
    return [(one.uidl, one.size) for one in store.reader(JOE).entries()]


def test_messages_are_seen_from_the_commit_on(store, writer):
    put(writer, "b", 2)
    digest = put(writer, "a", 1, arrived=1_600_000_000.0)
    assert listed(store) == []
    assert writer.waiting == 2
    assert writer.commit() == (2, 0)
    assert listed(store) == [("a", len(TEXT)), ("b", len(TEXT))]
    reader = store.reader(JOE)
    assert b"".join(reader.text(reader.entries()[0])) == TEXT
    said = reader.imported()["a"]
    assert said == (1, len(TEXT), hashlib.sha256(HEADER).hexdigest(), digest.whole)
    assert said.text == hashlib.sha256(TEXT).hexdigest()


def test_a_session_gets_what_was_written(store, writer):
    put(writer, "a/b", 1, b"Subject: lf\n\n.dot\nno end")
    writer.commit()
    maildrop, (entry,) = opened(store)
    assert entry.uidl == "a/b"
    assert read(maildrop, entry) == b"Subject: lf\r\n\r\n.dot\r\nno end\r\n"
    finish(maildrop.release())


def test_what_was_committed_is_known_and_what_was_not_is_gone(root, store, writer):
    put(writer, "a", 1)
    writer.commit()
    put(writer, "b", 2)
    writer.close()
    again = store.import_writer(JOE, False)
    again.open()
    assert again.place_of("a", "a") == 1
    assert again.place_of("b", "b") is None
    assert os.listdir(root / "example.net" / "joe" / "tmp") == []


def test_a_message_that_is_dropped_leaves_the_others(store, writer):
    put(writer, "a", 1)
    writer.begin(IncomingMessage("b", 2, "b"))
    writer.write(b"half a mess")
    assert writer.commit() == (1, 0)
    assert listed(store) == [("a", len(TEXT))]
    assert writer.commit() == (0, 0)


def test_a_message_that_cannot_be_served_is_left(store, writer):
    assert "gzip" in put(writer, "a", 1, b"\x1f\x8b\x08" + b"x" * 20)
    assert writer.commit() == (0, 0)


def test_a_session_that_holds_the_maildrop_is_waited_for(store, writer):
    put(writer, "a", 1)
    maildrop, _ = opened(store)
    with pytest.raises(MaildropLocked):
        writer.commit()
    with pytest.raises(MaildropLocked):
        store.import_writer(JOE, False).open()
    finish(maildrop.release())
    assert writer.commit() == (1, 0)


def test_retention_counts_from_the_arrival_if_it_is_to(root, store):
    long_ago = 1_600_000_000.0
    for uidl, age_real, arrived in (("old", True, long_ago), ("new", False, long_ago)):
        writer = store.import_writer(JOE, age_real)
        writer.open()
        put(writer, uidl, 1, arrived=arrived)
        writer.commit()
        writer.close()
    files = {
        ("old" if "U=old" in f.name else "new"): f for f in (root / "example.net/joe/new").iterdir()
    }
    assert files["old"].name.startswith("1600000000.")
    assert not files["new"].name.startswith("16000")
    assert all(file.stat().st_mtime == long_ago for file in files.values())


def test_nothing_arrives_in_the_future(store, root):
    writer = store.import_writer(JOE, True)
    writer.open()
    put(writer, "a", 1, arrived=time.time() + 1e9)
    writer.commit()
    (file,) = (root / "example.net/joe/new").iterdir()
    assert file.stat().st_mtime <= time.time()


def test_digests_are_of_what_is_sent():
    for text in (TEXT, TEXT.replace(b"\r\n", b"\n"), TEXT[:-2]):
        for pieces in ([text], cut(text, range(len(text)))):
            digest = TextDigest.of(pieces)
            assert digest.whole == hashlib.sha256(TEXT).hexdigest()
            assert digest.header == hashlib.sha256(HEADER).hexdigest()
            assert digest.size == len(TEXT)
    assert TextDigest.of([]).size == 0


def test_an_empty_maildrop_has_no_entries(root):
    store = started(root)
    assert list(store.reader("nobody@example.net").entries()) == []
    assert store.reader("nobody@example.net").imported() == {}
    finish(store.stop())


def test_a_commit_parses_only_names_that_it_has_not_seen(store, writer, monkeypatch):
    parsed = []
    plain = merge.uidl_of_file
    monkeypatch.setattr(merge, "uidl_of_file", lambda name: parsed.append(name) or plain(name))
    for number in range(1, 4):
        put(writer, f"m{number}", number)
        assert writer.commit() == (1, 0)
    assert len(parsed) == len(set(parsed)) == 3


def test_what_another_import_brought_meanwhile_is_not_written_twice(store, writer):
    other = store.import_writer(JOE, False)
    other.open()
    put(writer, "a", 1)
    assert writer.commit() == (1, 0)
    put(other, "a", 1)
    put(other, "b", 2)
    assert other.commit() == (1, 1)
    put(writer, "b", 2)
    put(writer, "c", 3)
    assert writer.commit() == (1, 1)
    assert [uidl for uidl, _ in listed(store)] == ["a", "b", "c"]
    other.close()
