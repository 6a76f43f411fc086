"""`maildrop import --remove-gone`: what owners have deleted at the old server goes here, too."""

from __future__ import annotations

import os

import pytest

from postoffice.store import expunge, maildir
from postoffice.store.listing_cache import MeasuredSizes
from tests.pop3_server import OldServer

ANN = "ann@example.net"


@pytest.fixture
def old(tmp_path):
    """A Maildir of another server with five messages."""
    folder = tmp_path / "old"
    for box in ("new", "cur", "tmp"):
        (folder / box).mkdir(parents=True)
    for number in range(1, 6):
        put(folder, number)
    return folder


def put(folder, number: int) -> None:
    path = folder / f"new/{number}.a"
    path.write_text(f"Subject: {number}\n\nx\n")
    os.utime(path, (number, number))


def uidls(folder) -> list[str]:
    return [one.uidl for one in maildir.scan(str(folder), MeasuredSizes()).entries]


@pytest.fixture
def imported(ask):
    def imported(source, *options: str, status: int = 0):
        said = ask("maildrop", "import", ANN, str(source), *options, status=status)
        return said["maildrops"][0]

    return imported


def test_what_is_gone_there_goes_here_and_can_be_restored(run, ann, old, imported):
    imported(old)
    name = "1900000000.M000000P1Q1R00000000.h"
    (ann / "new" / f"{name},S=3,W=3").write_bytes(b"x\r\n")
    for number in (2, 5):
        (old / f"new/{number}.a").unlink()
    (old / "new/3.a").rename(old / "cur/3.a:2,S")
    put(old, 6)
    assert imported(old)["removed"] == 0, "only if it is asked for"
    assert imported(old, "--remove-gone", "--dry-run")["removed"] == 2
    assert uidls(ann) == ["1.a", "2.a", "3.a", "4.a", "5.a", "6.a", name]
    said = imported(old, "--remove-gone")
    assert (said["removed"], said["there"]) == (2, 4)
    assert "listed" not in said
    assert uidls(ann) == ["1.a", "3.a", "4.a", "6.a", name], "what came here stays"
    assert imported(old, "--remove-gone")["removed"] == 0
    run("maildrop", "undelete", ANN, "--session", "import")
    assert sorted(uidls(ann)) == sorted(["1.a", "2.a", "3.a", "4.a", "5.a", "6.a", name])


def test_it_says_what_it_removed(run, ann, old, imported):
    imported(old)
    (old / "new/2.a").unlink()
    said = run("maildrop", "import", ANN, str(old), "--remove-gone").output
    assert "; 1 message removed that the old server no longer has" in said


def test_a_session_is_not_disturbed(ann, old, imported):
    imported(old)
    (old / "new/2.a").unlink()
    lock = expunge.lock(None, str(ann))
    try:
        said = imported(old, "--remove-gone", status=1)
    finally:
        os.close(lock)
    assert said["error"] == "a POP3 session is open; try again later"
    assert len(uidls(ann)) == 5


def test_from_a_server_that_runs(ann, imported, tmp_path):
    (tmp_path / "password").write_text("secret")
    words = ("--password-file", str(tmp_path / "password"))
    messages = [(f"uidl{number}", b"Subject: x\r\n\r\nx\r\n") for number in range(3)]
    with OldServer(messages) as server:
        imported(server.url, *words)
        del server.messages[1]
        assert imported(server.url, *words, "--remove-gone", "--dry-run")["removed"] == 1
        assert imported(server.url, *words, "--remove-gone")["removed"] == 1
    assert uidls(ann) == ["uidl0", "uidl2"]


def test_what_an_import_has_deleted_there_stays_here(ann, imported, tmp_path):
    (tmp_path / "password").write_text("secret")
    words = ("--password-file", str(tmp_path / "password"))
    messages = [(f"uidl{number}", b"Subject: x\r\n\r\nx\r\n") for number in range(3)]
    with OldServer(messages) as server:
        imported(server.url, *words)
        del server.messages[0]
        assert imported(server.url, *words, "--delete-after-verify")["deleted"] == 2
        assert imported(server.url, *words, "--remove-gone")["removed"] == 1
    assert uidls(ann) == ["uidl1", "uidl2"]


def test_a_server_whose_lists_are_doubtful_removes_nothing(ann, imported, tmp_path):
    (tmp_path / "password").write_text("secret")
    words = ("--password-file", str(tmp_path / "password"))
    with OldServer([(f"uidl{n}", b"Subject: x\r\n\r\nx\r\n") for n in range(3)]) as server:
        imported(server.url, *words)
        short = {"UIDL": b"+OK\r\n1 uidl0\r\n.\r\n", "LIST": b"+OK\r\n1 16\r\n.\r\n"}
        server.fault = lambda number, line: short.get(line)
        said = imported(server.url, *words, "--remove-gone", status=1)
        assert said["removed"] == 0
        assert "contradict" in said["error"]
    assert uidls(ann) == ["uidl0", "uidl1", "uidl2"]


def test_a_server_that_fails_removes_nothing(ann, imported, tmp_path):
    (tmp_path / "password").write_text("secret")
    words = ("--password-file", str(tmp_path / "password"), "--patience", "0")
    with OldServer([("uidl", b"Subject: x\r\n\r\nx\r\n")]) as server:
        imported(server.url, *words)
        del server.messages[0]
        server.fault = lambda number, line: b"-ERR [AUTH] x\r\n" if line[:4] == "PASS" else None
        assert imported(server.url, *words, "--remove-gone", status=1)["removed"] == 0
    assert uidls(ann) == ["uidl"]


def test_it_is_for_the_last_import(run, ann):
    words = ("pop3s://old.example", "--remove-gone", "--watch", "60", "--password-stdin")
    said = run("maildrop", "import", ANN, *words, status=2, text="x\n")
    assert "--watch excludes --remove-gone" in said.output
