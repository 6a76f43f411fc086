"""The size for clients without UTF-8: in names, measured once, and found out where it lies."""

from __future__ import annotations

import os

import pytest

from postoffice.model.address import Quota
from postoffice.model.errors import (
    MessageGone,
)
from postoffice.store import maildir
from postoffice.testing import finish
from tests.store.on_disk import INTERNATIONAL, JOE, age, opened, post, read, read_all, started

FOR_OTHERS = len("Subject: =?utf-8?b?w7w=?=\r\n\r\nüx\r\n")


def looks(monkeypatch) -> list[str]:
    """Messages that are opened from now on."""
    seen: list[str] = []
    plain = maildir.open_plain

    def open_plain(path):
        seen.append(os.path.basename(path))
        return plain(path)

    monkeypatch.setattr(maildir, "open_plain", open_plain)
    return seen


def test_names_hold_the_size_for_clients_without_utf8(joe, monkeypatch):
    store = started(joe.parents[1])
    for text in (INTERNATIONAL, b"Subject: u\n\n\xfc\n"):
        post(store, text.replace(b"\n", b"\r\n"), JOE)
    said = [name.partition(",")[2] for name in sorted(os.listdir(joe / "new"))]
    assert said == [f"S=19,W=19,H={FOR_OTHERS}", "S=17,W=17"]
    seen = looks(monkeypatch)
    assert [entry.downgraded for entry in opened(started(joe.parents[1]))[1]] == [FOR_OTHERS, None]
    assert seen == []


def test_what_other_programs_brought_is_looked_at_once(joe, monkeypatch):
    (joe / "new" / "1.x,S=16,W=19,H=5").write_bytes(INTERNATIONAL)
    (joe / "cur" / "2.y:2,").write_bytes(b"plain\n")
    seen = looks(monkeypatch)
    for number in range(3):
        maildrop, entries = opened(started(joe.parents[1]))
        maildrop.release()
        facts = [(entry.size, entry.downgraded) for entry in entries]
        assert facts[:2] == [(19, FOR_OTHERS), (7, None)]
        (joe / "new" / f"3.new{number}").write_bytes(b"")
    assert [name[:5] for name in seen if not name.startswith("postoffice")] == [
        "1.x,S",
        "2.y:2",
        "3.new",
        "3.new",
    ]


@pytest.mark.parametrize(
    "noted", [b"", b"1 2 3\n", b"\xff\n", b"1 2 3 4 x\n", b"1 2 3 4 0\n", None]
)
def test_a_note_that_is_broken_is_written_anew(joe, monkeypatch, noted):
    if noted is None:
        (joe / "postoffice.sizes").mkdir()  # nor can it be written, and that is no harm
    else:
        (joe / "postoffice.sizes").write_bytes(noted)
    (joe / "new" / "1.x").write_bytes(INTERNATIONAL)
    for _ in range(2):
        maildrop, [entry] = opened(started(joe.parents[1]))
        assert entry.downgraded == FOR_OTHERS
        maildrop.release()


#: A name that only we give: what it says is believed.
OURS = "1.M000000P1Q1R00000000.h"


@pytest.mark.parametrize("said", ["", ",H=5", ",H=0"])
def test_verify_mends_what_a_name_says_of_clients_without_utf8(joe, said):
    """It may be from before names said that."""
    store = started(joe.parents[1])
    place = joe / "cur" / f"{OURS},S=19,W=19{said}:2,S"
    place.write_bytes(INTERNATIONAL.replace(b"\n", b"\r\n"))
    (joe / "new" / "2.foreign,S=16,W=19,H=5").write_bytes(INTERNATIONAL)
    [found] = finish(store.verify(JOE, Quota(), True))
    assert found.what.endswith(f"{said[1:] or 'no H='}, but H={FOR_OTHERS}")
    assert os.listdir(joe / "cur") == [f"{OURS},S=19,W=19,H={FOR_OTHERS}:2,S"]
    assert finish(store.verify(JOE, Quota(), True)) == []
    assert [entry.downgraded for entry in opened(store)[1]] == [FOR_OTHERS] * 2


@pytest.mark.parametrize("said", [",D=5", ",D=0", ",D=27", ",D=5,H=6"])
def test_what_a_name_says_by_older_rules_is_not_believed_but_measured_once(joe, monkeypatch, said):
    name = f"{OURS},S=19,W=19{said}"
    (joe / "new" / name).write_bytes(INTERNATIONAL.replace(b"\n", b"\r\n"))
    seen = looks(monkeypatch)
    for _ in range(2):
        store = started(joe.parents[1])
        maildrop, [entry] = opened(store)
        assert (entry.size, entry.downgraded) == (19, FOR_OTHERS)
        maildrop.release()
    assert seen.count(name) == 1
    assert finish(store.verify(JOE, Quota(), False)) == []


def test_what_was_noted_by_older_rules_is_not_believed(joe):
    place = joe / "new" / "1.x"
    place.write_bytes(INTERNATIONAL)
    maildrop, _ = opened(started(joe.parents[1]))
    maildrop.release()
    notes = joe / "postoffice.sizes"
    assert notes.read_text().endswith(f" 19 H{FOR_OTHERS}\n")
    for stale in ("5", "0"):
        notes.write_text(notes.read_text().rpartition(" ")[0] + f" {stale}\n")
        maildrop, [entry] = opened(started(joe.parents[1]))
        maildrop.release()
        assert (entry.size, entry.downgraded) == (19, FOR_OTHERS)


@pytest.mark.parametrize("body", [b"", b"x" * (300 << 10)])
def test_a_name_that_lies_of_clients_without_utf8_is_found_out_once(joe, body):
    text = INTERNATIONAL.replace(b"\n", b"\r\n") + body + b"\r\n"
    size = len(text)
    (joe / "new" / f"{OURS},S={size},W={size},H=5").write_bytes(text)
    store = started(joe.parents[1])
    maildrop, [entry] = opened(store)
    assert entry.downgraded == 5
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entry))
    maildrop.release()
    maildrop, [entry] = opened(store)
    assert entry.downgraded == size + FOR_OTHERS - 19
    finish(maildrop.fetch(entry)).close()
    maildrop.release()


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"A: b\n\nx\r\n", "S=9,W=9"),  # bare LFs, said to be sent as they are
        (b"A: b\n\nx\n", "S=8,W=12"),
        (b"A: b\r\n\r\nx", "S=9,W=9"),
        (b"x\n" * 50_000, "S=100000,W=150001"),
    ],
)
def test_a_lie_is_known_at_the_next_login_though_no_folder_changed(joe, octets, says):
    store = started(joe.parents[1])
    (joe / "new" / f"{OURS},{says}").write_bytes(octets)
    (joe / "new" / "2.good,S=6,W=6").write_bytes(b"good\r\n")
    age(joe)
    maildrop, [liar, good] = opened(store)
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(liar))
    assert read(maildrop, good) == b"good\r\n"
    maildrop.release()
    age(joe)
    assert read_all(store) == [in_crlf(octets), b"good\r\n"]


def in_crlf(octets: bytes) -> bytes:
    text = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"
