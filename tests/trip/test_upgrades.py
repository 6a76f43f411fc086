"""
A start upgrades what an older version has left, and there is a way back (docs/upgrading.rst).

The states in ``tests/upgrades`` were written by those versions themselves (``make.py`` there);
one was cut off with all its mail in the journal alone.
"""

from __future__ import annotations

import json
import poplib
import re
import shutil
import smtplib
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from postoffice.accounts.schema import SCHEMA

UPGRADES = Path(__file__).parent.parent / "upgrades"
ANN, BOB, PASSWORD = "ann@example.net", "bob@example.net", "a password of before"
STATES = ["0.1.0", "0.2.0.dev"]


@pytest.fixture(params=STATES)
def older(request, tmp_path):
    """A post office of an older version, as it was when it ended."""
    with tarfile.open(UPGRADES / f"{request.param}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="tar")
    path = tmp_path / "postoffice.yaml"
    text = re.sub(r"tcp:\d+", "tcp:0", path.read_text())
    for service in ("submission", "lmtp"):
        if f"\n  {service}:" not in text:
            text = text.replace("\nlisteners:", f"\nlisteners:\n  {service}: []")
    path.write_text(text)
    return request.param


def subjects(office, address: str) -> dict[str, str]:
    """The UIDLs of what somebody has, by their subjects."""
    with closing(poplib.POP3("127.0.0.1", office.pop3)) as client:
        client.user(address)
        client.pass_(PASSWORD)
        found = {}
        for line in client.uidl()[1]:
            number, uidl = line.decode().split()
            header = b"\n".join(client.top(number, 0)[1])
            found[re.search(rb"^Subject: (.*)", header, re.MULTILINE)[1].decode()] = uidl
        client.quit()
    return found


def test_all_is_there_and_goes_on(older, start, command):
    assert command("check-config").returncode == 0
    office = start().open()
    found = subjects(office, ANN)
    assert [re.sub(r"=\?utf-8\?\w\?.*\?=", "Grüße", each) for each in found] == (
        ["both", "Grüße", "last"]  # the first was deleted
    )
    assert subjects(office, BOB) == {"both": found["both"]}
    with smtplib.SMTP("127.0.0.1", office.smtp) as post:
        post.sendmail("joe@example.org", [ANN, BOB], b"Subject: today\r\n\r\nHello.\r\n")
    assert {**found, "today": ""}.keys() == subjects(office, ANN).keys()
    listed = json.loads(command("--json", "account", "list").stdout)
    assert [one["address"] for one in listed["accounts"]] == [
        ANN, BOB, "postmaster@example.net",
    ]  # fmt: skip
    command("maildrop", "verify", "--repair")  # 0.1.0 did not measure what needs UTF8
    assert command("maildrop", "verify").returncode == 0
    assert any(subject.startswith("=?utf-8?") for subject in subjects(office, ANN))
    office.check()


def test_the_way_back_is_open(older, start, tmp_path):
    """Behind a clean stop all mail lies in files, with names that each version can read."""
    office = start().open()
    with smtplib.SMTP("127.0.0.1", office.smtp) as post:
        letter = "Subject: Grüße\r\n\r\nHello.\r\n".encode()
        post.sendmail("joe@example.org", [BOB], letter)
    office.check()
    maildrops = tmp_path / "state" / "maildrops"
    shutil.rmtree(maildrops / ".journal")  # nothing is in it alone
    names = [path.name for path in (maildrops / "example.net/bob/new").iterdir()]
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"\d+\.M\w+\.mail-example-net,S=\d+,W=\d+(,H=\d+)?", name)
    again = start().open()
    assert len(subjects(again, BOB)) == 2
    again.check()


def test_a_copy_of_the_accounts_is_kept_for_the_way_back(older, command, tmp_path):
    """By whatever is first to open them, the command too; and once."""
    accounts = tmp_path / "state" / "accounts.db"
    before = version(accounts)
    for _ in range(2):
        assert command("account", "list").returncode == 0
    (kept,) = accounts.parent.glob("accounts.db.version-*")
    assert kept.name == f"accounts.db.version-{before}"
    assert (version(kept), version(accounts)) == (before, SCHEMA)
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as database:
        assert database.execute("SELECT count(*) FROM account").fetchone() == (3,)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA user_version").fetchone()[0]
