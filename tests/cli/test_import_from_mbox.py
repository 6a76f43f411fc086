"""`postoffice maildrop import` from an mbox: of any program, and as Dovecot's pop3 listed it."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from hashlib import md5
from pathlib import Path

import pytest

from postoffice.interfaces import ImportSource
from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.transfer import import_mbox
from tests.cli import dovecots

ANN = "ann@example.net"
FROM = "From ann@example.org Sat Jan  3 01:05:34 1996\n"
WHEN = 820631134


@pytest.fixture
def old(tmp_path):
    return tmp_path / "old"


def message(text: str, first: str = FROM) -> str:
    return f"{first}{text}\n"


def imported(ask, old, *options, status=0):
    (one,) = ask("maildrop", "import", ANN, str(old), *options, status=status)["maildrops"]
    return one


def entries(folder):
    return maildir.scan(str(folder), MeasuredSizes()).entries


def texts(folder) -> list[str]:
    return [(folder / one.name).read_bytes().decode("latin-1") for one in entries(folder)]


def test_messages_keep_order_dates_flags_and_their_uidls(ask, ann, old):
    old.write_text(
        message("Subject: 1\nX-UIDL: one\n\nx\n")
        + message("X-UIDL:two \nStatus: RO\nX-Status: AF\nX-UID: 7\nX-Keywords: \nSubject: 2\n\n")
        + message("Subject: 3\n\nno line end", "From x Sat Jan  3 02:05:34 1996 +0100\n").rstrip()
    )
    said = imported(ask, old)
    assert (said["kind"], said["messages"], said["left"], said["copied"]) == ("mbox", 3, [], 3)
    assert said["warnings"] == [
        "1 of the messages have no UIDL yet at the old server: they get new ones"
    ]
    first, second, third = entries(ann)
    assert [first.uidl, second.uidl] == ["one", "two"]
    assert second.name.startswith("cur/")
    assert second.name.endswith(":2,FRS")
    assert first.name.startswith("new/")
    assert {int((ann / one.name).stat().st_mtime) for one in (first, second, third)} == {WHEN}
    assert texts(ann) == [
        "Subject: 1\r\n\r\nx\r\n", "Subject: 2\r\n\r\n", "Subject: 3\r\n\r\nno line end\r\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "lines"), [("mbox", ">From a\r\n>>From b\r\n"), ("mboxrd", "From a\r\n>From b\r\n")]
)
def test_quoted_lines_are_undone_only_where_that_is_possible(ask, ann, old, form, lines):
    old.write_text(message("Subject: 1\n\n>From a\n>>From b\n"))
    assert imported(ask, old, "--from", form)["kind"] == form
    assert texts(ann) == [f"Subject: 1\r\n\r\n{lines}"]


def test_only_a_line_with_a_date_behind_an_empty_one_begins_a_message(ask, ann, old):
    text = f"Subject: 1\n\nx\n{FROM}y\n\nFrom here on, nothing\n\nFrom x Sat Foo  3 01:05:34 1996\n"
    old.write_text(message(text) + message("Subject: 2\n"))
    _, odd = imported(ask, old)["warnings"]
    assert odd.startswith("1 lines look like the first of a message")
    assert texts(ann) == [text.replace("\n", "\r\n"), "Subject: 2\r\n"]


def test_crlf_line_ends_and_a_header_that_never_ends(ask, ann, old):
    old.write_bytes(
        (message("Subject: 1\n\nx\n") + message("Subject: 2\n")).replace("\n", "\r\n").encode()
    )
    assert imported(ask, old)["messages"] == 2
    assert texts(ann) == ["Subject: 1\r\n\r\nx\r\n", "Subject: 2\r\n"]


def test_what_a_program_notes_of_the_whole_mbox_is_no_message(ask, ann, old):
    old.write_text(
        message("X-IMAP: 99 3\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nx\n")
        + message("X-UID: 3\nSubject: 1\n\n")
    )
    assert imported(ask, old, "--uidl-format", "%v.%u")["messages"] == 1
    assert [one.uidl for one in entries(ann)] == ["99.3"]


def test_a_second_import_adds_what_is_new(ask, ann, old):
    one, twin, two = message("Subject: 1\n\n"), message("Subject: 2\n\n"), message("X-UIDL: u\n\n")
    old.write_text(one + twin + twin + two)
    assert imported(ask, old)["messages"] == 4
    before = [one.uidl for one in entries(ann)]
    assert len(set(before)) == 4
    assert before[3] == "u"
    os.unlink(ann / entries(ann)[0].name)
    seen = two.replace("\n\n", "\nStatus: RO\n\n", 1)
    old.write_text(twin + twin.replace("\n\n", "\nStatus: RO\n\n", 1) + seen + message("new"))
    said = imported(ask, old)
    assert (said["messages"], said["there"]) == (1, 3)
    assert [one.uidl for one in entries(ann)][:3] == before[1:]


@pytest.mark.parametrize(
    ("octets", "options", "why"),
    [
        (b"Subject: x\n\nx\n", (), "is no mbox: it does not begin with a From line"),
        (b"From x\n", (), "is no mbox"),
        (b"", ("--uidl-format", "%f"), "is no pop3_uidl_format"),
        (None, ("--from", "mbox"), "No such file"),
    ],
)
def test_a_source_that_cannot_be_read_is_an_error(ask, ann, old, octets, options, why):
    if octets is not None:
        old.write_bytes(octets)
    assert why in imported(ask, old, *options, status=1)["error"]


def test_an_empty_mbox_has_no_messages(ask, ann, old):
    old.touch()
    assert imported(ask, old)["messages"] == 0


def test_an_mbox_that_is_rewritten_meanwhile(ask, ann, old, monkeypatch):
    old.write_text(message("Subject: 1\n\nx\n") + message("Subject: 2\n\nx\n"))
    real = import_mbox.OldMbox.stage

    def stage(*arguments):
        os.truncate(old, 40)
        return real(*arguments)

    monkeypatch.setattr(import_mbox.OldMbox, "stage", stage)
    said = imported(ask, old, status=1)
    assert said["messages"] == 0
    assert all("meanwhile; import it again" in why for why in said["left"])


def test_an_export_is_read_as_what_it_is(run, ask, ann, old):
    old.write_text(message("Subject: 1\nX-UIDL: a\n\nFrom here\n>From there\n"))
    imported(ask, old)
    before = texts(ann)
    run("maildrop", "export", ANN, "out.mbox", "--format", "mbox")
    for one in entries(ann):
        (ann / one.name).unlink()
    (ann / "postoffice.imported").unlink()
    assert imported(ask, "out.mbox")["kind"] == "mboxrd"
    assert texts(ann) == before


def test_memory_does_not_grow_with_the_messages(tmp_path):
    path, size = tmp_path / "large", 12 << 20
    with path.open("wb") as file:
        file.write(FROM.encode() + b"Subject: 1\n\n" + b"x" * size)  # no line end in all of it
        file.write(b"\n\n" + FROM.encode() + b"x: y\n" * (size // 5))  # no end of the header
    (tmp_path / "new").mkdir()
    tracemalloc.start()
    try:
        with import_mbox.opened(ImportSource(str(path), "mboxrd")) as mbox:
            staged = [
                mbox.stage(one, str(tmp_path), f"{n}.x") for n, one in enumerate(mbox.messages)
            ]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one.digest.size > size for one in staged] == [True, True]
    assert peak < 8 << 20


# -- as Dovecot listed it -------------------------------------------------------------------------

THEIRS = [
    "Received: from one (two)\n\tby three;  Sat\nReceived: second\nDelivered-To:  Ann@x  \n"
    "X-Delivery-ID: 7 \nSubject: 1\n\nbody\n",
    "Subject: 2\nX-UIDL: abc\n\nbody\n",
    "Delivered-To: z\nSubject: 3\nReceived:x\n\nbody\nFrom here\n\nFrom there\nbody\n",
    "Received: q\n  r\nSubject: 4\nStatus: RO\n\nbody\n>From b\n",
]


@pytest.mark.parametrize("reuse", ["no", "yes"])
@pytest.mark.parametrize("form", ["%m", "%08Xu%08Xv", "%v.%u", "%g"])
@dovecots.needed
def test_each_format_of_dovecot(ask, ann, form, reuse):
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        home = Path(name)
        (home / "mbox").write_text("".join(map(message, THEIRS)))
        listed = dovecots.listed(
            home, form, "mbox:{home}/mail:INBOX={home}/mbox", f"pop3_reuse_xuidl = {reuse}"
        )
        options = ("--reuse-xuidl",) if reuse == "yes" else ()
        said = imported(ask, home / "mbox", "--uidl-format", form, *options)
    assert said["messages"] == 4
    assert [one.uidl for one in entries(ann)] == [uidl for uidl, _ in listed]
    field = len("X-UIDL: abc\r\n")  # Dovecot sends it
    assert [one.size for one in entries(ann)] == [
        size - field * (n == 1) for n, (_, size) in enumerate(listed)
    ]


def test_dovecot_s_digest_of_a_header(ask, ann, old):
    """As above, where there is no Dovecot."""
    old.write_text(message(THEIRS[0]) + message(THEIRS[2]))
    imported(ask, old, "--uidl-format", "%m")
    parts = b"from one (two)\tby three;  Sat Ann@x  7 ", b"zx"
    assert [one.uidl for one in entries(ann)] == [md5(part).hexdigest() for part in parts]
