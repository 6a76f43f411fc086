"""Maildirs of other programs: each message is served once, and what is not served is told."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os

import pytest
from twisted.logger import globalLogPublisher

from postoffice import interfaces
from postoffice.model.address import Quota
from postoffice.store import files, maintenance, names
from postoffice.store.quota import maildirsize, usage_file
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, folder_of

TEXT = b"Subject: x\r\n\r\ny\r\n"


@pytest.fixture
def joe(root):
    folder = folder_of(root)
    root.mkdir()
    files.make(str(folder))
    return folder


@pytest.fixture
def said():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [
        one["log_format"].format(**one) for one in events if one.get("event") == "files-not-served"
    ]
    globalLogPublisher.removeObserver(events.append)


def put(folder, place: str, text: bytes = TEXT) -> None:
    (folder / place).write_bytes(text)


def location(folder) -> list[str]:
    return sorted(
        f"{box}/{path.name}" for box in ("new", "cur") for path in (folder / box).iterdir()
    )


@pytest.fixture
def served(root, joe):
    return Served(root, durability="files")


def listed(served):
    maildrop = served.store.maildrop(JOE)
    try:
        listing = finish(maildrop.open()).entries
        texts = {one.uidl: finish(finish(maildrop.fetch(one)).read()) for one in listing}
        assert len(texts) == len(listing), "a UIDL is in a listing once"
        return texts
    finally:
        maildrop.release()


def delete(served, which=lambda entry: True):
    maildrop = served.store.maildrop(JOE)
    try:
        finish(maildrop.remove([one for one in finish(maildrop.open()).entries if which(one)]))
    finally:
        maildrop.release()


# -- behind a comma --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        ("100.a,b", "100.a,c"),
        ("100.a", "100.a,1"),
        ("100.a,S=17,b", "100.a,S=17,c"),
        ("100.a,b,S=17", "100.a,c,S=17"),
        ("100.M1P2.host,T=1", "100.M1P2.host,T=2"),
        ("100.a,S=x", "100.a,S=y"),
        ("100.a,", "100.a,,"),
    ],
)
def test_names_that_differ_behind_a_comma_are_two_messages(served, joe, pair):
    for name, text in zip(pair, (b"one\r\n", b"two\r\n"), strict=True):
        put(joe, f"cur/{name}:2,S", text)
    before = listed(served)
    assert sorted(before.values()) == [b"one\r\n", b"two\r\n"]
    first = min(before)
    delete(served, lambda entry: entry.uidl == first)
    assert listed(served) == {uidl: text for uidl, text in before.items() if uidl != first}


@pytest.mark.parametrize("name", ["100.a,S=17", "100.a,W=17,S=17", "100.a,D=9", "100.a,S=17,W=17"])
def test_sizes_are_no_part_of_a_message_s_name(name):
    assert names.uidl_of_file(f"{name}:2,FS") == "100.a"
    assert names.unique_part(",S=5") == ",S=5", "what would be nothing stays as it is"


def test_twins_whose_names_say_other_sizes_are_parted_where_they_are_others(served, joe):
    put(joe, "cur/100.a,S=5:2,S", b"one\r\n")
    put(joe, "cur/100.a,S=7:2,S", b"other\r\n")
    texts = listed(served)
    assert sorted(texts.values()) == [b"one\r\n", b"other\r\n"]
    delete(served, lambda entry: entry.uidl == "100.a")
    texts.pop("100.a")
    assert listed(served) == texts, "no UIDL has come back for another message"


# -- twins -----------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["files", "journal"])
@pytest.mark.parametrize(
    "places",
    [
        ("new/100.a", "cur/100.a:2,S"),
        ("cur/100.a:2,S", "cur/100.a:2,RS"),
        ("new/100.a", "new/100.a,S=17", "cur/100.a,S=17,W=17:2,"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_twins_of_a_message_go_with_it(root, joe, durability, places):
    for place in (*places, "new/200.b"):
        put(joe, place)
    served = Served(root, durability=durability)
    assert list(listed(served)) == ["100.a", "200.b"]
    delete(served, lambda entry: entry.uidl == "100.a")
    assert location(joe) == ["new/200.b"]
    assert list(listed(served)) == ["200.b"]
    served.stop()


def test_twins_go_with_what_is_purged_too(joe):
    for place in ("new/100.a", "cur/100.a:2,S", "new/9999999999.b"):
        put(joe, place)
    old = interfaces.PurgeCriteria(older_than=60)
    assert maintenance.purge(str(joe), old, None, keep=False, dry=False)[0] == 1
    assert location(joe) == ["new/9999999999.b"]


# -- what is not served ----------------------------------------------------------------------

COMPRESSED = {
    "gzip": gzip.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00" + TEXT,
    "lz4": b"Dovecot-LZ4\x0d\x2a\x9b\xc5" + TEXT,
}


@pytest.mark.parametrize("how", COMPRESSED)
@pytest.mark.parametrize("name", ["100.M1P1.h,S=17,W=17:2,SZ", "100.M000001P1Q1R00000000.h,S=17"])
def test_what_is_compressed_is_told_and_left_alone(served, joe, said, how, name):
    put(joe, f"cur/{name}", COMPRESSED[how])
    put(joe, "new/200.b")
    assert list(listed(served)) == ["200.b"]
    [line] = said()
    assert line.startswith("files-not-served ")
    assert " messages=1 " in line
    assert f' file=cur/{name} why="compressed ({how})' in line
    listed(served)
    assert len(said()) == 1, "it is told once"
    for repair in (False, True):
        [finding] = maintenance.verify(str(joe), Quota(), repair=repair)
        assert finding.what.startswith(f"compressed ({how})")
        assert not finding.mended
    assert (joe / "cur" / name).read_bytes() == COMPRESSED[how]


@pytest.mark.parametrize("text", [b"BZh9 is how bzip2 begins\r\n", b"\xfd7z\r\n", b"\x1f\x8b", b""])
def test_a_text_that_only_begins_so_is_served(served, joe, text):
    put(joe, "new/100.a", text)
    assert len(listed(served)) == 1


def test_what_may_not_be_read_is_told_and_counted(served, joe, said, monkeypatch, root):
    for place in ("new/100.a", "cur/200.b:2,S", "new/300.c"):
        put(joe, place)
    real = os.open

    def opened(path, *args, **named):
        if str(path).endswith(("100.a", "200.b:2,S")):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", opened)
    assert list(listed(served)) == ["300.c"]
    [line] = said()
    assert line.startswith("files-not-served ")
    assert " messages=2 " in line
    assert "it cannot be read: Permission denied" in line
    put(joe, "new/400.d")
    assert list(listed(served)) == ["300.c", "400.d"]
    assert len(said()) == 1
    assert maintenance.holdings(str(root))[0].messages == 4
    found = maintenance.verify(str(joe), Quota(), repair=True)
    assert [one.what for one in found] == [
        "it cannot be read: Permission denied; it is not served"
    ] * 2


def test_folders_that_no_account_can_have_are_told(root, joe):
    for path in ("example.net/Ann", "example.net/a b", "bob@example.net/new"):
        (root / path).mkdir(parents=True)
    found = {os.path.relpath(one.path, root): one.what for one in maintenance.strays(str(root))}
    assert sorted(found) == ["bob@example.net", "example.net/Ann", "example.net/a b"]
    assert "is in no domain's folder" in found["bob@example.net"]
    assert "no account can have" in found["example.net/Ann"]


# -- maildirsize -----------------------------------------------------------------------------


@pytest.mark.parametrize("lines", ["990 1", "990 1\n0 0", "5 99", "2000 5\n-10 -1", "999999999 1"])
def test_another_program_s_count_never_refuses_mail(joe, lines):
    put(joe, "new/100.a")
    (joe / "subfolder").mkdir()
    (joe / "new" / "folder").mkdir()
    fd = os.open(joe, os.O_RDONLY)
    limit = Quota(1000, 10)
    for _ in range(3):  # it says so again and again, just now each time
        (joe / "maildirsize").write_text(f"1000S,10C\n{lines}\n")
        assert maildirsize.has_room(fd, limit, usage_file.Usage(100, 1)) == (True, (len(TEXT), 1))
    os.close(fd)


# -- what was imported -------------------------------------------------------------------------


def test_an_imported_message_is_where_and_what_it_was(joe, served):
    """Its place and its UIDL are in its name; it stays before all that arrived here."""
    name = "18{}0000000.M000000P1Q{}R00000000.host,U={},O={},S=6,W=6"
    here = "1700000000.M000000P1Q1R00000000.host"
    put(joe, f"new/{here},S=6,W=6", b"here\r\n")
    put(joe, f"new/{name.format(2, 1, 'first', 1)}", b"one.\r\n")
    put(joe, f"cur/{name.format(1, 2, '~YS9i', 2)}:2,S", b"two.\r\n")
    there = listed(served)
    assert list(there) == ["first", "a/b", here]
    assert list(there.values()) == [b"one.\r\n", b"two.\r\n", b"here\r\n"]
    delete(served, lambda entry: entry.uidl == "a/b")
    assert list(listed(served)) == ["first", here]
