"""Backups that are damaged, or hostile, are refused before anything is written."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.backup.manifest import BackupError, Entry, Manifest, split_name
from postoffice.backup.reader import check, source_of
from tests.cli.backups import ANN, FORMS, name_of


def damage(path: Path, how: str) -> None:
    octets = path.read_bytes()
    if how == "cut":
        path.write_bytes(octets[: len(octets) // 2])
    elif how == "letter":
        path.write_bytes(octets.replace(b"Subject: to both", b"Subject: to none"))
    elif how == "manifest":
        path.write_bytes(octets.replace(b'"messages": 7', b'"messages": 9'))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"a letter, and no backup\n" * 1000)


@pytest.mark.parametrize("how", ["cut", "letter", "manifest", "empty", "other"])
def test_a_damaged_file_is_refused_before_anything_is_written(run, here, how):
    run("backup", "b.tar")
    damage(Path("b.tar"), how)
    words = ("restore", "b.tar", "--config", "there/p.yaml", "--state", "new")
    assert "restore failed" in run(*words, status=1).stderr
    assert not Path("there").exists()
    assert not Path("new").exists()


@pytest.mark.parametrize("form", FORMS[1:-1])
def test_a_compressed_file_that_is_cut_off_is_refused(run, here, form):
    run("backup", form)
    octets = Path(form).read_bytes()
    for length in (0, 1, 10, len(octets) // 2, len(octets) - 1):
        Path(form).write_bytes(octets[:length])
        assert "restore failed" in run("restore", form, "--check", status=1).stderr


@pytest.mark.parametrize("how", ["gone", "changed", "link", "behind a link", "no manifest"])
def test_a_damaged_folder_is_refused(run, here, how):
    run("backup", "b")
    message = Path("b/mail/example.org/eve/new") / name_of(4, 16)
    if how == "gone":
        message.unlink()
    elif how == "changed":
        message.write_bytes(b"Subject: EVE\r\n\r\n")
    elif how == "link":
        message.rename("elsewhere")
        message.symlink_to(here / "elsewhere")
    elif how == "behind a link":
        message.parent.rename("elsewhere")
        message.parent.symlink_to(here / "elsewhere")
    else:
        Path("b/MANIFEST").unlink()
    run("restore", "b", "--check", status=1)


HEADER = {"whole": True, "config": "", "state": "/x", "begun": "", "hostname": ""}


def tar_of(path: Path, members, *, manifest: bool = True, header=HEADER) -> None:
    """A tar with right digests, whatever its names are: members are names and kinds."""
    spool = io.BytesIO()
    told = Manifest(spool, header)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
            empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            told.add(Entry(name, 0, 0, empty))
        octets = told.end({"messages": 0, "octets": 0, "files": 0}).read()
        if manifest:
            info = tarfile.TarInfo("MANIFEST")
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))


PARTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "mail", "files", "state", "config", "machine", "20260101T000000Z", "~",
         ".journal", ".vault", ".removed", "new", "a\0b", "a\nb", "MANIFEST", "\udcff", "x" * 256]
    ),
    st.text(max_size=5),
)  # fmt: skip
NAMES = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "/", "mail/", "./mail/", "files/20260101T000000Z/", "mail/../", "//"]),
    st.lists(PARTS, max_size=6),
)


@given(NAMES)
def test_a_name_stays_below_its_root_or_is_refused(name):
    try:
        root, path = split_name(name)
    except BackupError:
        return
    assert root in ("mail", "state", "config", "machine")
    assert os.path.normpath(path) == path
    assert not path.startswith(("/", "../"))
    assert path != ".."
    assert "\0" not in path
    assert ".journal" not in path.split("/")


@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from([b"0", b"0", b"1", b"2", b"3", b"5", b"6"])), max_size=3
    )
)
def test_a_hostile_tar_writes_nothing_outside(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("hostile")
    try:
        tar_of(folder / "b.tar", members)
    except ValueError:
        return  # tarfile itself writes no such name
    source = source_of(str(folder / "b.tar"))
    try:
        told, index = check(source, lambda _: None)
    except BackupError:
        return
    finally:
        source.close()
    index.close()
    assert all(kind in (b"0", b"\0") for _, kind in members)
    assert told.header["whole"]
    assert len({name for name, _ in members}) == len(members)
    for name, _ in members:
        split_name(name)


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/passwd", tarfile.REGTYPE)],
        [("mail/../../../etc/passwd", tarfile.REGTYPE)],
        [("mail/example.net/ann/new/x", tarfile.SYMTYPE)],
        [("mail/example.net/ann/new/x", tarfile.LNKTYPE)],
        [("mail/example.net/ann/new/x", tarfile.CHRTYPE)],
        [("mail/example.net/ann/new/x", tarfile.FIFOTYPE)],
        [("mail/example.net", tarfile.DIRTYPE)],
        [("mail/.journal/seg.0", tarfile.REGTYPE)],
        [("files/1/state/maildrops/.journal/key", tarfile.REGTYPE)],
        [("mail/.vault/x", tarfile.REGTYPE)],
        [("mail/example.net/a/new/x", tarfile.REGTYPE)] * 2,
        [("MANIFEST", tarfile.REGTYPE)],
        [("files/../state/x", tarfile.REGTYPE)],
    ],
)
def test_hostile_members_are_refused(run, tmp_path, members):
    tar_of(tmp_path / "b.tar", members)
    run("restore", "b.tar", "--state", "new", status=1)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"hostname": None},
        {"begun": 1},
        {"whole": "yes"},
        {"config": ["x"]},
        {"state": {}},
        {"accounts": ["database"]},
        {"accounts": {"database": 1, "key": "state/accounts.key"}},
        {"accounts": {"x/../../evil": "state/accounts.db"}},
        {"maildrops": 1},
        {"domains": [1]},
    ],
)
def test_a_manifest_that_says_what_none_of_ours_says_is_refused(run, here, said):
    tar_of(here / "b.tar", [("files/1/state/accounts.db", b"0")], header=HEADER | said)
    for words in (("--check",), ("--state", "new"), ("--maildrop", ANN)):
        assert "its manifest is damaged" in run("restore", "b.tar", *words, status=1).stderr


def test_a_backup_of_others_does_not_control_the_terminal(run, here):
    header = HEADER | {"hostname": "mail\x1b[2J.example", "begun": "\r", "maildrops": ["\x9b"]}
    tar_of(here / "b.tar", [], header=header)
    said = run("restore", "b.tar", "--check").stdout
    assert r"mail\x1b[2J.example of \x9b, \r" in said
    assert said.replace("\n", "").isprintable()


def test_what_a_manifest_says_leads_out_of_no_folder(run, here, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    accounts = {"x/../../evil": "state/accounts.db"}
    member = ("files/1/state/accounts.db", b"0")
    tar_of(here / "b.tar", [member], header=HEADER | {"accounts": accounts})
    run("restore", "b.tar", "--maildrop", ANN, status=1)
    assert os.listdir(temporary) == []


def test_a_header_of_a_tar_that_would_fill_the_memory_is_refused(run, here):
    info = tarfile.TarInfo("mail/example.net/ann/new/x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    (here / "b.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    said = run("restore", "b.tar", "--check", status=1).stderr
    assert "a header of 1048576 octets is too large" in said


def test_a_tar_that_is_not_ours_is_refused(run, tmp_path):
    tar_of(tmp_path / "b.tar", [("mail/example.net/ann/new/x", b"0")], manifest=False)
    assert "no manifest" in run("restore", "b.tar", "--check", status=1).stderr
    tar_of(tmp_path / "good.tar", [("mail/example.net/ann/new/x", b"0")])
    run("restore", "good.tar", "--check")


def test_a_newer_layout_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("postoffice.backup.manifest.FORMAT", 99)
    tar_of(tmp_path / "b.tar", [])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "its format is 99" in run("restore", "b.tar", "--check", status=1).stderr
