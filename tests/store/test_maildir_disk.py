"""The Maildir store and what may lie, or go wrong, on a disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

import postoffice
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MaildropLocked,
    MessageGone,
    NoSpace,
    StartupError,
    TemporaryFailure,
)
from postoffice.store import files, listing_cache, maildir
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.text import Normalizer
from postoffice.testing import ImmediateExecutor, cut, finish

JOE, ANN = "joe@example.net", "ann@example.net"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    return started(root)


def started(root) -> MaildirStore:
    store = MaildirStore(
        str(root),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability="files",
    )
    finish(store.start())
    return store


@pytest.fixture
def joe(root, store):
    """Joe's folder, made."""
    opened(store)[0].release()
    return root / "example.net" / "joe"


def post(store, text: bytes, *names: str) -> None:
    recipients = [Recipient(Address.parse(name), Account(name, name)) for name in names]
    delivery = finish(store.begin(Envelope("id.1", Client(), recipients=recipients)))
    try:
        for start in range(0, len(text), 100_000):
            finish(delivery.write(text[start : start + 100_000]))
        finish(delivery.commit())
    finally:
        delivery.abort()


def opened(store, name=JOE):
    maildrop = store.maildrop(name)
    return maildrop, finish(maildrop.open()).entries


def read(maildrop, entry) -> bytes:
    text = finish(maildrop.fetch(entry))
    octets = read_out(text)
    text.close()
    return octets


def read_out(text) -> bytes:
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    return octets


def read_all(store, name=JOE) -> list[bytes]:
    maildrop, entries = opened(store, name)
    texts = [read(maildrop, entry) for entry in entries]
    assert [len(text) for text in texts] == [entry.size for entry in entries]
    maildrop.release()
    return texts


def place_of(path, dir_fd=None) -> str:
    """Where an os function acts: its path made whole, or that of its open file."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else "", path)


def tree(root: Path) -> set[str]:
    """All files below a folder, but locks and the journal."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != "postoffice.lock" and ".journal" not in path.parts
    }


# -- as it is on disk -------------------------------------------------------------


def test_one_file_has_a_link_in_each_maildrop(store, root):
    post(store, b"hi\r\n", JOE, ANN)
    names = tree(root)
    assert len(names) == 2
    one, two = (os.stat(root / name) for name in names)
    assert one.st_ino == two.st_ino
    assert one.st_nlink == 2
    assert all(name.endswith(",S=4,W=4") for name in names)
    assert {name.split("/")[2] for name in names} == {"new"}


def test_nobody_else_may_look(store, root):
    umask = os.umask(0)
    try:
        post(store, b"x" * 400_000 + b"\r\n", JOE)
        read_all(store)
    finally:
        os.umask(umask)
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("size", [10, 400_000])
def test_it_is_synced_before_it_can_be_seen_and_seen_before_it_is_taken(
    store, root, monkeypatch, size
):
    post(store, b"makes the folders\r\n", JOE, ANN)
    done = []

    def watch(name):
        real = getattr(os, name)

        def watched(*args, **named):
            path = place_of(args[-1], named.get("dst_dir_fd"))
            done.append((name, str(Path(path).relative_to(root)).split("/")[1:3]))
            return real(*args, **named)

        monkeypatch.setattr(os, name, watched)

    watch("fsync")
    watch("link")
    post(store, b"x" * size + b"\r\n", JOE, ANN)
    steps = [(name, *where) for name, where in done]
    assert steps[0] == ("fsync", "joe", "tmp")
    assert steps[1:3] == [("link", "joe", "new"), ("link", "ann", "new")]
    assert sorted(steps[3:]) == [("fsync", "ann", "new"), ("fsync", "joe", "new")]


def test_a_given_up_delivery_leaves_no_litter(store, root):
    delivery = finish(
        store.begin(
            Envelope("x", Client(), recipients=[Recipient(Address.parse(JOE), Account(JOE, JOE))])
        )
    )
    for _ in range(10):
        finish(delivery.write(b"x" * 100_000))
    assert len(tree(root)) == 1
    delivery.abort()
    assert tree(root) == set()


# -- what others leave there ---------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "sent"),
    [
        (b"", b""),
        (b"A: b\n\nx\n", b"A: b\r\n\r\nx\r\n"),
        (b"A: b\n\nno end", b"A: b\r\n\r\nno end\r\n"),
        (b"A: b\r\n\r\nmixed\nends\r\n", b"A: b\r\n\r\nmixed\r\nends\r\n"),
        (b"\n", b"\r\n"),
        (b"lone\rcr\n", b"lone\rcr\r\n"),
        (b"cr at the end\r", b"cr at the end\r\r\n"),
        (b".\n..\n", b".\r\n..\r\n"),
        (b"x" * 300_000 + b"\n" + b"y\n" * 100_000, b"x" * 300_000 + b"\r\n" + b"y\r\n" * 100_000),
    ],
)
@pytest.mark.parametrize(
    "name", ["1700000000.x.h", "1700000000.x.h:2,S", "odd", "1.x,S=7777,W=7777"]
)
def test_files_of_others_are_sent_with_crlf(joe, octets, sent, name):
    (joe / ("cur" if ":" in name else "new") / name).write_bytes(octets)
    assert read_all(started(joe.parents[1])) == [sent]


@pytest.mark.parametrize(
    "name",
    [f"1.x,S={s},W={w}" for s in (0, 8, 9, 99) for w in (0, 8, 9, 11, 99)]
    + ["1.x,S=8", "1.x,W=8", "1.x,S=,W="],
)
def test_a_name_that_lies_costs_that_entry_at_most(joe, name):
    store = started(joe.parents[1])
    (joe / "new" / name).write_bytes(b"A: b\n\nx\n")  # 8 octets, 11 on the wire
    (joe / "new" / "2.good").write_bytes(b"good\n")
    for _ in range(2):  # what is found out is known at the next login
        maildrop, entries = opened(store)
        assert len(entries) == 2
        failed = 0
        for entry in entries:
            try:
                assert len(read(maildrop, entry)) == entry.size
            except MessageGone:
                failed += 1
                assert entry.uidl == "1.x"
        maildrop.release()
    assert failed == 0


INTERNATIONAL = "Subject: ü\n\nü\n".encode()
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


def test_a_message_that_lies_there_twice_is_listed_once(joe):
    (joe / "new" / "1.x").write_bytes(b"new\n")
    (joe / "cur" / "1.x:2,S").write_bytes(b"cur\n")
    assert read_all(started(joe.parents[1])) == [b"cur\r\n"]


def test_what_moves_while_it_is_listed_is_not_missed(joe, monkeypatch):
    (joe / "new" / "1.x").write_bytes(b"x\n")
    scandir = os.scandir

    def moving(path):
        found = list(scandir(path))
        if os.path.exists(joe / "new" / "1.x"):
            os.rename(joe / "new" / "1.x", joe / "cur" / "1.x:2,S")
        return _Items(found)

    class _Items(list):
        def __enter__(self):
            return iter(self)

        def __exit__(self, *why):
            pass

    store = started(joe.parents[1])
    monkeypatch.setattr(os, "scandir", moving)
    assert read_all(store) == [b"x\r\n"]


@pytest.mark.parametrize("box", ["new", "cur", "tmp"])
def test_a_missing_folder_is_an_empty_one_and_made_again(joe, box):
    store = started(joe.parents[1])
    post(store, b"one\r\n", JOE)
    os.rename(joe / box, joe / "away")
    there = [] if box == "new" else [b"one\r\n"]
    assert read_all(store) == there
    if box != "cur":
        with pytest.raises(TemporaryFailure):
            post(store, b"two\r\n", JOE)
    post(store, b"two\r\n", JOE)
    assert read_all(store) == [*there, b"two\r\n"]


def test_a_text_that_changes_while_it_is_read_breaks_off(joe):
    store = started(joe.parents[1])
    post(store, b"x" * 1_000_000 + b"\r\n", JOE)
    maildrop, [entry] = opened(store)
    for change in (500_000, 1_500_000):
        text = finish(maildrop.fetch(entry))
        os.truncate(joe / entry.name, change)
        with pytest.raises(MessageGone):
            read_out(text)
        text.close()
        os.truncate(joe / entry.name, entry.size - 2)
        with open(joe / entry.name, "ab") as file:
            file.write(b"\r\n")
    maildrop.release()


OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b".", b""])).map(b"".join)


@given(OCTETS, st.lists(st.integers(0, 100)))
def test_line_ends_are_made_the_same_in_pieces_as_whole(octets, places):
    def sent(parts):
        normalizer = Normalizer()
        text = b"".join(map(normalizer.feed, parts)) + normalizer.end()
        assert normalizer.size == len(text)
        return text

    text = sent([octets])
    assert text == sent(cut(octets, places))
    assert text.count(b"\n") == text.count(b"\r\n")
    assert not text or text.endswith(b"\r\n")
    assert text.replace(b"\r\n", b"\n").removesuffix(b"\n") == octets.replace(
        b"\r\n", b"\n"
    ).removesuffix(b"\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(OCTETS, st.integers(0, 30), st.integers(0, 30))
def test_any_file_under_any_name_is_sent_in_the_octets_that_were_listed(joe, octets, s, w):
    for old in (joe / "new").iterdir():
        old.unlink()
    (joe / "new" / f"1.x,S={s},W={w}").write_bytes(octets)
    store = started(joe.parents[1])
    maildrop, [entry] = opened(store)
    try:
        assert len(read(maildrop, entry)) == entry.size
    except MessageGone:
        maildrop.release()
        maildrop, [entry] = opened(store)
        assert len(read(maildrop, entry)) == entry.size
    maildrop.release()


def test_what_is_no_plain_file_is_not_listed(joe):
    store = started(joe.parents[1])
    secret = joe.parents[2] / "secret"
    secret.write_bytes(b"secret\n")
    (joe / "new" / "1.folder").mkdir()
    os.mkfifo(joe / "new" / "2.fifo")
    (joe / "new" / "3.link").symlink_to(secret)
    (joe / "new" / "4.dangling").symlink_to("nowhere")
    (joe / "new" / ".hidden").write_bytes(b"x\n")
    (joe / "new" / "5.good").write_bytes(b"good\n")
    assert read_all(store) == [b"good\r\n"]


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_what_becomes_something_else_under_a_session_is_not_read(joe, what):
    store = started(joe.parents[1])
    path = joe / "new" / "1.x"
    path.write_bytes(b"x\n")
    maildrop, [entry] = opened(store)
    path.unlink()
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entry))
    maildrop.release()


def test_odd_names_have_uidls_that_stay(joe):
    names = [b"1.\xff\xfe", b"2. with spaces", "3.ünï".encode(), b"4." + b"x" * 200, b"\n\r5"]
    for name in names:
        Path(os.fsdecode(bytes(joe / "new") + b"/" + name)).write_bytes(b"x\n")
    store = started(joe.parents[1])
    maildrop, entries = opened(store)
    assert len({entry.uidl for entry in entries}) == len(names)
    assert all(read(maildrop, entry) == b"x\r\n" for entry in entries)
    maildrop.release()
    for name in names:
        place = bytes(joe / "new") + b"/" + name
        os.rename(place, bytes(joe / "cur") + b"/" + name + b":2,S")
    maildrop, again = opened(store)
    assert [entry.uidl for entry in again] == [entry.uidl for entry in entries]
    finish(maildrop.remove(again))
    maildrop.release()
    assert read_all(store) == []


def test_a_message_that_another_program_renames_is_found_again(joe):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    for path in list((joe / "new").iterdir()):
        path.rename(joe / "cur" / f"{path.name}:2,S")
    assert [read(maildrop, entry) for entry in reversed(entries)] == [b"2\r\n", b"1\r\n", b"0\r\n"]
    finish(maildrop.remove(entries[:2]))
    maildrop.release()
    assert read_all(store) == [b"2\r\n"]


def test_a_message_that_vanishes_costs_itself(joe):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    (joe / entries[1].name).unlink()
    assert read(maildrop, entries[0]) == b"0\r\n"
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entries[1]))
    assert read(maildrop, entries[2]) == b"2\r\n"
    finish(maildrop.remove(entries))
    maildrop.release()


def test_oldest_first_whatever_the_program(joe):
    (joe / "new" / "1700000002.M5P1.h").write_bytes(b"c\n")
    (joe / "new" / "1700000002.M40P1.h").write_bytes(b"d\n")
    (joe / "cur" / "1700000001.9.h:2,S").write_bytes(b"b\n")
    (joe / "new" / "strange").write_bytes(b"a\n")
    os.utime(joe / "new" / "strange", (1, 1))
    assert read_all(started(joe.parents[1])) == [b"a\r\n", b"b\r\n", b"c\r\n", b"d\r\n"]


# -- the next login ------------------------------------------------------------------


def age(folder: Path) -> None:
    """Make a maildrop look as if nothing had happened for a while."""
    for box in ("new", "cur"):
        os.utime(folder / box, (1_700_000_000, 1_700_000_000))


def test_an_unchanged_maildrop_is_not_read_again(joe, monkeypatch):
    store = started(joe.parents[1])
    post(store, b"x\r\n", JOE)
    age(joe)
    read_all(store)
    monkeypatch.setattr(os, "scandir", None)
    assert read_all(store) == [b"x\r\n"]


def test_a_fresh_or_a_changed_maildrop_is_read_again(joe):
    store = started(joe.parents[1])
    for number in range(5):
        post(store, b"%d\r\n" % number, JOE)
        assert len(read_all(store)) == number + 1
        if number % 2:
            age(joe)


def test_remembered_listings_are_bounded(joe, monkeypatch):
    monkeypatch.setattr(listing_cache.ListingCache, "LIMIT", 1000)  # octets: of one, and no more
    store = started(joe.parents[1])
    for name in ("a", "b", "c", "d"):
        post(store, b"x\r\n", f"{name}@example.net")
        post(store, b"x\r\n", f"{name}@example.net")
        age(joe.parent / name)
        opened(store, f"{name}@example.net")[0].release()
    assert len(store._listings._snapshots) == 1


# -- the lock ------------------------------------------------------------------------

HOLD = """
    import sys
    from postoffice.store import files
    lock = files.lock(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(joe) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(postoffice.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(joe)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_lock_holds_across_processes_and_dies_with_its_holder(joe):
    store = started(joe.parents[1])
    with holder(joe) as process:
        with pytest.raises(MaildropLocked):
            finish(store.maildrop(JOE).open())
        process.send_signal(signal.SIGKILL)
        process.wait()
        maildrop, _ = opened(store)
        maildrop.release()
        process.stdin.close()


def test_the_lock_is_of_the_maildrop_that_is_there_now(joe):
    lock = files.lock(str(joe))
    os.rename(joe, joe.with_name("aside"))
    other = files.lock(str(joe))
    os.close(lock)
    with pytest.raises(MaildropLocked):
        files.lock(str(joe))
    os.close(other)


def test_a_lost_client_frees_the_lock_when_its_mail_is_removed(joe):
    store = started(joe.parents[1])
    post(store, b"x\r\n", JOE)
    waiting = []

    class SlowWorkers(ImmediateExecutor):
        def run(self, function, *args):
            if function is maildir.remove:
                from twisted.internet.defer import Deferred

                waiting.append((Deferred(), function, args))
                return waiting[0][0]
            return super().run(function, *args)

    store._context = replace(store._context, executor=SlowWorkers())
    maildrop, entries = opened(store)
    from twisted.internet.defer import Deferred

    removing = Deferred.fromCoroutine(maildrop.remove(entries))
    removing.addErrback(lambda _: None)
    removing.cancel()
    maildrop.release()
    with pytest.raises(MaildropLocked):
        finish(store.maildrop(JOE).open())
    done, function, args = waiting[0]
    done.callback(function(*args))
    assert read_all(store) == []


# -- faults --------------------------------------------------------------------------


def fail(monkeypatch, name, number, when=lambda *args, **named: True):
    """Let an os function fail while the returned switch is on."""
    real = getattr(os, name)
    switch = [True]

    def failing(*args, **named):
        if switch[0] and when(*args, **named):
            raise OSError(number, os.strerror(number))
        return real(*args, **named)

    monkeypatch.setattr(os, name, failing)
    return switch


ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.EACCES, errno.EROFS]


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("size", [10, 700_000])
def test_a_delivery_that_fails_leaves_nothing_and_the_next_one_works(
    root, monkeypatch, call, error, size
):
    store = started(root)
    if call != "mkdir":
        post(store, b"before\r\n", JOE, ANN)
    switch = fail(monkeypatch, call, error)
    with pytest.raises(TemporaryFailure) as raised:
        post(store, b"x" * size + b"\r\n", JOE, ANN)
    assert isinstance(raised.value, NoSpace) is (error in (errno.ENOSPC, errno.EDQUOT))
    switch[0] = False
    monkeypatch.undo()
    before = [b"before\r\n"] if call != "mkdir" else []
    assert read_all(store) == read_all(store, ANN) == before
    assert not [name for name in tree(root) if "/tmp/" in name]
    post(store, b"after\r\n", JOE, ANN)
    assert read_all(store) == read_all(store, ANN) == [*before, b"after\r\n"]


def test_all_get_it_or_none(store, root, monkeypatch):
    post(store, b"before\r\n", JOE, ANN)
    fail(
        monkeypatch,
        "link",
        errno.EIO,
        lambda source, target, *, src_dir_fd, dst_dir_fd: "/ann/" in place_of(target, dst_dir_fd),
    )
    with pytest.raises(TemporaryFailure):
        post(store, b"x\r\n", JOE, ANN)
    monkeypatch.undo()
    assert read_all(store) == read_all(store, ANN) == [b"before\r\n"]


def test_a_folder_that_cannot_be_synced_is_no_delivery(store, monkeypatch):
    post(store, b"before\r\n", JOE, ANN)
    fail(
        monkeypatch,
        "fsync",
        errno.EIO,
        lambda fd: os.readlink(f"/proc/self/fd/{fd}").endswith("/ann/new"),
    )
    with pytest.raises(TemporaryFailure):
        post(store, b"x\r\n", JOE, ANN)
    monkeypatch.undo()
    assert read_all(store) == read_all(store, ANN) == [b"before\r\n"]


def test_another_file_system_gets_a_file_of_its_own(store, root, monkeypatch):
    fail(
        monkeypatch,
        "link",
        errno.EXDEV,
        lambda source, target, *, src_dir_fd, dst_dir_fd: src_dir_fd != dst_dir_fd,
    )
    post(store, b"x" * 300_000 + b"\r\n", JOE, ANN)
    assert read_all(store) == read_all(store, ANN) == [b"x" * 300_000 + b"\r\n"]
    assert not [name for name in tree(root) if "/tmp/" in name]


def test_a_removal_that_fails_says_so_and_removes_the_others(store, root, monkeypatch):
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    fail(monkeypatch, "unlink", errno.EACCES, lambda path: path.endswith(entries[1].name))
    with pytest.raises(TemporaryFailure):
        finish(maildrop.remove(entries))
    monkeypatch.undo()
    maildrop.release()
    assert read_all(store) == [b"1\r\n"]


def test_a_removal_that_cannot_be_synced_says_so(store, monkeypatch):
    post(store, b"x\r\n", JOE)
    maildrop, entries = opened(store)
    fail(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(TemporaryFailure):
        finish(maildrop.remove(entries))


def _is_one_of(bad):
    return lambda path, *_, **__: any(map(str(path).endswith, bad))


def test_an_unreadable_message_costs_itself(joe, monkeypatch):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    maildrop.release()
    (joe / "new" / "9999999999.sizeless").write_bytes(b"x\n")
    bad = {entries[1].name, "new/9999999999.sizeless"}
    store = started(joe.parents[1])
    fail(monkeypatch, "open", errno.EACCES, _is_one_of(bad))
    maildrop, entries = opened(store)
    assert len(entries) == 3, "what cannot be counted cannot be listed"
    assert read(maildrop, entries[0]) == b"0\r\n"
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entries[1]))
    assert read(maildrop, entries[2]) == b"2\r\n"
    maildrop.release()


def test_a_disk_that_fails_under_a_large_text_breaks_it_off(store, monkeypatch):
    post(store, b"x" * 1_000_000 + b"\r\n", JOE)
    maildrop, [entry] = opened(store)
    text = finish(maildrop.fetch(entry))
    fail(monkeypatch, "read", errno.EIO)
    finish(text.read())  # read ahead before
    with pytest.raises(MessageGone):
        finish(text.read())
    text.close()


def test_a_missing_maildrop_is_made_again(joe):
    store = started(joe.parents[1])
    post(store, b"lost\r\n", JOE)
    os.rename(joe, joe.with_name("gone"))
    post(store, b"x\r\n", JOE)
    assert read_all(store) == [b"x\r\n"]
    os.rename(joe.parent, joe.parent.with_name("gone.net"))
    assert read_all(store) == []
    post(store, b"y\r\n", JOE)
    assert read_all(store) == [b"y\r\n"]


def test_a_maildrop_that_goes_under_a_delivery_is_for_later(joe):
    store = started(joe.parents[1])
    recipient = Recipient(Address.parse(JOE), Account(JOE, JOE))
    delivery = finish(store.begin(Envelope("x", Client(), recipients=[recipient])))
    for _ in range(5):
        finish(delivery.write(b"x" * 100_000))
    finish(store.discard(JOE, keep=False))
    with pytest.raises(TemporaryFailure):
        finish(delivery.commit())
    assert read_all(store) == []


@pytest.mark.parametrize("what", ["a file", "below a file", "read-only"])
def test_a_store_that_cannot_be_used_does_not_start(root, monkeypatch, what):
    if what == "a file":
        root.write_bytes(b"")
    elif what == "below a file":
        root.write_bytes(b"")
        root = root / "x"
    else:
        monkeypatch.setattr(os, "access", lambda path, mode, **named: False)
    with pytest.raises(StartupError, match="the store"):
        started(root)


def test_a_real_disk_that_is_full(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        store = started(disk / "store")
        post(store, b"before\r\n", JOE)
        for size in (2_000_000, 1_200_000):
            with pytest.raises(NoSpace):
                post(store, b"x" * size, JOE)
        assert not [name for name in tree(disk) if "/tmp/" in name]
        post(store, b"after\r\n", JOE)
        assert read_all(store) == [b"before\r\n", b"after\r\n"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_real_disk_that_turns_read_only(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        store = started(disk / "store")
        post(store, b"before\r\n", JOE)
        maildrop, entries = opened(store)
        maildrop.release()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for size in (10, 700_000):
            with pytest.raises(TemporaryFailure):
                post(store, b"x" * size, JOE)
        assert read_all(store) == [b"before\r\n"]
        with pytest.raises(TemporaryFailure):
            finish(store.maildrop(JOE).remove(entries))
        with pytest.raises(StartupError, match="cannot be written to"):
            started(disk / "store")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert read_all(store) == [b"before\r\n"]
        post(store, b"after\r\n", JOE)
        assert read_all(store) == [b"before\r\n", b"after\r\n"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- leftovers -----------------------------------------------------------------------


def test_leftovers_of_a_crash_are_swept_and_nothing_else(joe):
    store = started(joe.parents[1])
    post(store, b"kept\r\n", JOE)
    recipient = Recipient(Address.parse(JOE), Account(JOE, JOE))
    delivery = finish(store.begin(Envelope("x", Client(), recipients=[recipient])))
    for _ in range(5):
        finish(delivery.write(b"x" * 100_000))
    [being_written] = (joe / "tmp").iterdir()
    (joe / "tmp" / "1700000000.M000001P1Q1R0a0b0c0d.mail-example-net").write_bytes(b"crashed")
    (joe / "tmp" / "1700000000.other.program").write_bytes(b"old")
    os.utime(joe / "tmp" / "1700000000.other.program", (1, 1))
    (joe / "tmp" / "1700000000.another.program").write_bytes(b"young")
    started(joe.parents[1])
    assert {path.name for path in (joe / "tmp").iterdir()} == {
        being_written.name,
        "1700000000.another.program",
    }
    finish(delivery.write(b"\r\n"))
    finish(delivery.commit())
    assert read_all(store) == [b"kept\r\n", b"x" * 500_000 + b"\r\n"]


def test_a_maildrop_that_is_there_anew_takes_the_first_delivery(joe):
    store = started(joe.parents[1])
    post(store, b"old\r\n", JOE)
    finish(started(joe.parents[1]).discard(JOE, keep=True))  # as the command does it
    post(store, b"new\r\n", JOE)
    assert read_all(store) == [b"new\r\n"]
    os.rename(joe, joe.with_name("gone"))
    post(store, b"newer\r\n", JOE)
    assert read_all(store) == [b"newer\r\n"]
