"""`postoffice maildrop export`: the way out, to a Maildir for Dovecot and to mbox."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest

from postoffice.store import expunge, files, maildir, names
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.transfer import export_maildir, export_mbox

ANN, BOB = "ann@example.net", "bob@example.net"
YEAR = 365 * 86400


@pytest.fixture
def drops(run, office):
    for name in (ANN, BOB):
        run("account", "add", name, "--generate")
    return office / "state" / "maildrops" / "example.net"


@pytest.fixture
def ann(drops):
    """A maildrop with a message that was imported, two of our own, and one of another program."""
    folder = drops / "ann"
    files.make(str(folder))
    put(folder, "new", names.with_import(names.new_name("h"), "old/1", 7), "imported", age=YEAR)
    put(folder, "new", names.new_name("h"), "ours")
    put(folder, "cur", names.new_name("h"), "seen", flags=":2,FSab")
    (folder / "new" / "9000000000.a b").write_bytes(b"Subject: of another\n\nFrom here\n")
    return folder


def put(folder, box, name, subject, flags="", age=0.0):
    text = f"Subject: {subject}\r\n\r\nFrom here\r\n.\r\n".encode()
    path = folder / box / (names.with_sizes(name, len(text)) + flags)
    path.write_bytes(text)
    os.utime(path, (int(time.time() - age),) * 2)
    return path


def uidls(folder) -> list[str]:
    return [one.uidl for one in entries(folder)]


def entries(folder):
    return list(maildir.scan(str(folder), MeasuredSizes()).entries)


def exported(ask, *words, status=0):
    (one,) = ask("maildrop", "export", *words, status=status)["maildrops"]
    return one


def uidlist(target) -> list[str]:
    return (target / "dovecot-uidlist").read_text().splitlines()


def record(path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [line for line in lines if "n" in line]


# -- to a Maildir ---------------------------------------------------------------------------------


def test_a_maildir_has_a_list_for_dovecot_and_names_with_the_right_sizes(ask, ann, tmp_path):
    target = tmp_path / "out"
    said = exported(ask, ANN, "out")
    assert (said["messages"], said["there"], said["left"], said["linked"]) == (4, 0, [], 0)
    assert said["octets"] == sum(one.size for one in entries(ann))
    header, *lines = uidlist(target)
    assert header.startswith("3 V")
    assert " N5 G" in header
    assert [line.split()[:3] for line in lines] == [
        [str(n), f"P{uidl}", f"O{n}"] for n, uidl in enumerate(uidls(ann), 1)
    ]
    names_there = {line.partition(" :")[2] for line in lines}
    found = {path.name: path for box in ("new", "cur") for path in (target / box).iterdir()}
    assert {name.partition(":")[0] for name in found} == names_there
    for name, path in found.items():
        text = path.read_bytes()
        wire = len(text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert names.sizes_of(name)[:2] == (len(text), wire)
        assert ",U=" not in name
        assert path.stat().st_mode & 0o777 == 0o600
    assert [name for name in found if ":2," in name] == [
        name for name in found if name.endswith(":2,FS")
    ]
    first = next(path for path in found.values() if b"imported" in path.read_bytes())
    assert abs(first.stat().st_mtime + YEAR - time.time()) < 1000
    assert list((target / "tmp").iterdir()) == []
    assert [
        (line["n"], line["uidl"], line["size"]) for line in record(target / export_maildir.RECORD)
    ] == [(n, one.uidl, one.size) for n, one in enumerate(entries(ann), 1)]


def test_links_if_they_are_asked_for(ask, ann, tmp_path):
    said = exported(ask, ANN, "out", "--link")
    assert said["linked"] == 4
    ours = {os.stat(ann / one.name).st_ino for one in entries(ann)}
    theirs = {
        path.stat().st_ino for box in ("new", "cur") for path in (tmp_path / "out" / box).iterdir()
    }
    assert ours == theirs


def test_a_second_export_adds_what_is_new_and_brings_nothing_back(ask, ann, tmp_path):
    target = tmp_path / "out"
    exported(ask, ANN, "out")
    before = uidlist(target)
    os.unlink(ann / entries(ann)[1].name)  # collected here
    gone = next((target / "new").iterdir())
    gone.unlink()  # collected there
    put(ann, "new", names.new_name("h"), "new").rename(ann / "new" / "9000000001.b")
    said = exported(ask, ANN, "out")
    assert (said["messages"], said["there"]) == (1, 3)
    after = uidlist(target)
    assert after[1:-1] == before[1:]
    assert after[-1].split()[:3] == ["5", "P9000000001.b", "O5"]
    assert not gone.exists()
    assert exported(ask, ANN, "out")["messages"] == 0
    assert uidlist(target) == after


def test_what_is_imported_meanwhile_comes_before_what_was_there(ask, ann, tmp_path):
    target = tmp_path / "out"
    exported(ask, ANN, "out")
    put(ann, "new", names.with_import(names.new_name("h"), "old/2", 8), "imported later")
    assert exported(ask, ANN, "out")["messages"] == 1
    places = {line.split()[1][1:]: int(line.split()[2][1:]) for line in uidlist(target)[1:]}
    assert sorted(places, key=places.__getitem__) == uidls(ann)
    lines = sorted(record(target / export_maildir.RECORD), key=lambda line: line["n"])
    assert [line["uidl"] for line in lines] == uidls(ann)


def test_dovecot_s_own_messages_and_fields_stay_in_the_list(ask, ann, tmp_path):
    target = tmp_path / "out"
    exported(ask, ANN, "out")
    header, first, *lines = uidlist(target)
    first = first.replace(" :", " W99 :")
    (target / "dovecot-uidlist").write_text("\n".join([header, first, *lines, "9 G77 :own", ""]))
    put(ann, "new", names.new_name("h"), "new").rename(ann / "new" / "9000000001.b")
    exported(ask, ANN, "out")
    after = uidlist(target)
    assert after[1] == first
    assert after[-2] == "9 G77 :own"
    assert after[-1].startswith("10 P9000000001.b O5 :")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (export_maildir, "replace_file"),
        (export_maildir.os, "rename"),
        (export_maildir.ExportRecord, "add"),
    ],
    ids=["before the list", "before the files", "before the record"],
)
def test_an_export_goes_on_where_it_was_killed(ask, ann, tmp_path, monkeypatch, owner, name):
    target = tmp_path / "out"
    real, staged = getattr(owner, name), []

    def dies(*arguments, **options):
        if len(staged) > 3:  # in the second group
            raise KeyboardInterrupt
        return real(*arguments, **options)

    stage = export_maildir._base
    with monkeypatch.context() as patch:
        patch.setattr(export_maildir.MaildirTarget, "group", 2)
        patch.setattr(export_maildir, "_base", lambda one: staged.append(one) or stage(one))
        patch.setattr(owner, name, dies)
        with pytest.raises(BaseException):  # noqa: PT011
            exported(ask, ANN, "out")
    assert len(record(target / export_maildir.RECORD)) == 2
    (target / "tmp/.export.killed").mkdir()
    (target / "tmp/.export.killed/half").touch()
    said = exported(ask, ANN, "out")
    assert (said["messages"], said["there"]) == (2, 2)
    assert [line.split()[1][1:] for line in uidlist(target)[1:]] == uidls(ann)
    assert sum(1 for box in ("new", "cur") for _ in (target / box).iterdir()) == 4
    assert list((target / "tmp").iterdir()) == []
    assert exported(ask, ANN, "out")["messages"] == 0


def test_dovecot_s_lock_is_respected_unless_it_is_stale(ask, ann, tmp_path):
    exported(ask, ANN, "out")
    put(ann, "new", names.new_name("h"), "new")
    lock = tmp_path / "out" / "dovecot-uidlist.lock"
    lock.write_text("123:host")
    assert "Dovecot uses it" in exported(ask, ANN, "out", status=1)["error"]
    os.utime(lock, (time.time() - 1000,) * 2)
    assert exported(ask, ANN, "out")["messages"] == 1
    assert not lock.exists()
    put(ann, "new", names.new_name("h"), "newer")
    lock.write_text("postoffice\n")  # of an export that was killed
    assert exported(ask, ANN, "out")["messages"] == 1


# -- to an mbox -----------------------------------------------------------------------------------


def test_an_mbox(ask, ann, tmp_path):
    said = exported(ask, ANN, "out.mbox", "--format", "mbox")
    assert (said["messages"], said["left"]) == (4, [])
    text = (tmp_path / "out.mbox").read_text()
    assert text.count("\n\nFrom MAILER-DAEMON ") == 3
    assert "\nX-UIDL: old/1\nSubject: imported\n\n>From here\n.\n\nFrom " in text
    assert "\nStatus: RO\nX-Status: F\nSubject: seen\n" in text
    assert text.endswith("\nSubject: of another\n\n>From here\n\n")
    assert "\r" not in text
    assert (tmp_path / "out.mbox").stat().st_mode & 0o777 == 0o600
    assert [line["uidl"] for line in record(tmp_path / "out.mbox.exported")] == uidls(ann)


def test_a_second_export_to_an_mbox_adds_what_is_new(ask, ann, tmp_path):
    exported(ask, ANN, "out.mbox", "--format", "mbox")
    before = (tmp_path / "out.mbox").read_bytes()
    put(ann, "new", names.with_import(names.new_name("h"), "old/2", 8), "later")
    said = exported(ask, ANN, "out.mbox", "--format", "mbox")
    assert (said["messages"], said["there"]) == (1, 4)
    after = (tmp_path / "out.mbox").read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"X-UIDL: ") == 1
    assert exported(ask, ANN, "out.mbox", "--format", "mbox")["messages"] == 0
    os.unlink(tmp_path / "out.mbox")
    assert exported(ask, ANN, "out.mbox", "--format", "mbox")["messages"] == 5


@pytest.mark.parametrize("when", ["_rename", "add_at_once"])
def test_an_mbox_is_complete_after_a_kill(ask, ann, tmp_path, monkeypatch, when):
    def dies(*_):
        raise KeyboardInterrupt

    owner = export_mbox.MboxTarget if when == "_rename" else export_mbox.ExportRecord
    with monkeypatch.context() as patch:
        patch.setattr(owner, when, dies)
        with pytest.raises(BaseException):  # noqa: PT011
            exported(ask, ANN, "out.mbox", "--format", "mbox")
    assert (tmp_path / "out.mbox").read_bytes() == b""
    said = exported(ask, ANN, "out.mbox", "--format", "mbox")
    assert said["messages"] + said["there"] == 4
    assert (tmp_path / "out.mbox").read_bytes().count(b"X-UIDL: ") == 4


@pytest.mark.parametrize(
    ("form", "name"), [("maildir", "/postoffice.exported"), ("mbox", ".exported")]
)
def test_the_record_proves_what_was_exported(ask, ann, tmp_path, form, name):
    exported(ask, ANN, "out", "--format", form)
    words = ("maildrop", "compare", ANN, "--full", "--against", f"out{name}")
    (said,) = ask(*words)["maildrops"]
    assert (said["same"], said["wrong"]) == (4, 0)
    (ann / entries(ann)[1].name).write_bytes(b"Subject: another\r\n\r\n")
    (said,) = ask(*words, status=1)["maildrops"]
    assert said["wrong"] > 0


# -- many, and what goes wrong --------------------------------------------------------------------


def test_all_maildrops_and_one_s_fault_costs_only_that_one(run, ask, ann, drops, tmp_path):
    run("account", "rename", BOB, "rob@example.net")
    files.make(str(drops / "bob"))
    put(drops / "bob", "new", names.new_name("h"), "to rob")
    (tmp_path / "out" / "example.net" / "ann").mkdir(parents=True)
    (tmp_path / "out" / "example.net" / "ann" / "a file").touch()
    said = ask("maildrop", "export", "--all", "out", status=1)["maildrops"]
    assert [(one["address"], one["messages"], bool(one["error"])) for one in said] == [
        (ANN, 0, True), ("rob@example.net", 1, False),
    ]  # fmt: skip
    assert (tmp_path / "out" / "example.net" / "rob" / "dovecot-uidlist").exists()
    lines = run(
        "maildrop", "export", "--domain", "example.net", "out", status=1
    ).output.splitlines()
    assert lines[0].startswith(
        f"{ANN}: export failed: {tmp_path}/out/example.net/ann holds something"
    )
    assert lines[1].endswith("1 were there before")
    both = ask("maildrop", "export", "--all", "--format", "mbox", "boxes")["maildrops"]
    assert [os.path.basename(one["target"]) for one in both] == ["ann.mbox", "rob.mbox"]


def test_a_dry_run_writes_nothing(ask, ann, tmp_path):
    for form in ("maildir", "mbox"):
        assert exported(ask, ANN, "out", "--format", form, "--dry-run")["messages"] == 4
    assert not (tmp_path / "out").exists()
    exported(ask, ANN, "out")
    before = sorted(tmp_path.glob("out/**"))
    put(ann, "new", names.new_name("h"), "new")
    said = exported(ask, ANN, "out", "--dry-run")
    assert (said["messages"], said["there"]) == (1, 4)
    assert sorted(tmp_path.glob("out/**")) == before


def test_a_maildrop_in_use_is_exported(ask, ann):
    lock = expunge.lock(None, str(ann))
    try:
        assert exported(ask, ANN, "out")["messages"] == 4
    finally:
        os.close(lock)


@pytest.mark.parametrize("form", ["maildir", "mbox"])
def test_what_moves_or_goes_meanwhile(ask, ann, monkeypatch, form):
    listing = entries(ann)

    def scan(*arguments):
        found = real(*arguments)
        os.rename(ann / listing[1].name, f"{ann}/cur/{os.path.basename(listing[1].name)}:2,S")
        os.unlink(ann / listing[3].name)
        return found

    real = maildir.scan
    monkeypatch.setattr(maildir, "scan", scan)
    assert exported(ask, ANN, "out", "--format", form)["messages"] == 3


def test_damaged_lines_of_records_are_left_out(ask, ann, tmp_path):
    exported(ask, ANN, "out")
    for path, command in (
        (tmp_path / "out" / export_maildir.RECORD, ("export", ANN, "out")),
        (ann / "postoffice.imported", ("import", ANN, "out")),
    ):
        with path.open("ab") as file:
            file.write(b'{"n": 9, "uidl": "x\xff\n\0\0\0\n[1]\n{"n": "a"}\n')
        (said,) = ask("maildrop", *command)["maildrops"]
        assert (said["messages"], said["there"]) == (0, 4)


@pytest.mark.parametrize("form", ["maildir", "mbox"])
def test_a_target_of_another_user_is_refused(ask, ann, tmp_path, monkeypatch, form):
    exported(ask, ANN, "out", "--format", form)
    put(ann, "new", names.new_name("h"), "new")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    said = exported(ask, ANN, "out", "--format", form, status=1)
    assert "belongs to another user than the post office" in said["error"]


@pytest.mark.parametrize("form", ["maildir", "mbox"])
def test_what_is_not_ours_is_not_touched(ask, ann, tmp_path, form):
    other = tmp_path / "other"
    other.write_text("of another\n")
    assert exported(ask, ANN, "other", "--format", form, status=1)["error"]
    assert other.read_text() == "of another\n"
    exported(ask, ANN, "out", "--format", form)
    put(ann, "new", names.new_name("h"), "new")
    if form == "mbox":
        (tmp_path / "out").unlink()
        os.symlink(other, tmp_path / "out")
    else:
        (tmp_path / "elsewhere").mkdir()
        for path in (tmp_path / "out" / "new").iterdir():
            path.unlink()
        (tmp_path / "out" / "new").rmdir()
        os.symlink(tmp_path / "elsewhere", tmp_path / "out" / "new")
    assert exported(ask, ANN, "out", "--format", form, status=1)["error"]
    assert other.read_text() == "of another\n"
    assert form == "mbox" or not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("form", ["maildir", "mbox"])
def test_a_full_disk_leaves_nothing_half_done(ask, ann, tmp_path, monkeypatch, form):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "copy_file_range", full)
        patch.setattr(export_mbox, "MboxText", full)
        assert (
            os.strerror(errno.ENOSPC)
            in exported(ask, ANN, "out", "--format", form, status=1)["error"]
        )
    left = [path.name for path in tmp_path.glob("out/*/*")] if form == "maildir" else []
    assert left == []
    assert not (tmp_path / ".out.part").exists()
    assert exported(ask, ANN, "out", "--format", form)["messages"] == 4


@pytest.mark.parametrize("words", [(ANN,), ("--all",), (ANN, "out", "--all"), ("x", "out")])
def test_what_to_export_must_be_said(run, drops, words):
    run("maildrop", "export", *words, status=2)


def test_an_export_of_something_unknown_is_refused(run, drops):
    assert (
        "there is neither" in run("maildrop", "export", "eve@example.net", "out", status=1).output
    )
    assert (
        "there is no domain"
        in run("maildrop", "export", "--domain", "example.org", "out", status=1).output
    )
