"""The vault: what was taken out of maildrops, for a while."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from postoffice.store import files, vault
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.sweep import PAUSE, SWEEP
from postoffice.testing import ImmediateExecutor, finish


@pytest.fixture
def joe(tmp_path):
    folder = tmp_path / "example.net" / "joe"
    files.make(str(folder))
    return folder


def put(folder: Path, session: str, *messages: str) -> Path:
    """Into the vault of a maildrop."""
    path = folder.parent / ".vault" / folder.name / session
    vault.make(str(path), sync=True)
    for message in messages:
        (path / message).write_bytes(b"x\r\n")
    return path


def test_a_vault_that_is_emptied_while_it_is_made_is_made(joe, monkeypatch):
    make = vault.make_folder
    emptied = []

    def empty_first(path):
        if path.endswith("/1000.me") and not emptied:
            emptied.append(vault.empty(str(joe.parent), 2000.0))
            assert not (joe.parent / ".vault" / "joe").exists()
        return make(path)

    monkeypatch.setattr(vault, "make_folder", empty_first)
    path = put(joe, "1000.me", "1")
    assert emptied == [(0, True)]
    assert (path / "1").exists()


def test_no_vault_is_made_for_a_domain_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        vault.make(f"{tmp_path}/example.org/.vault/joe/1000.me", sync=True)


def test_a_file_in_the_place_of_a_vault_is_an_error(joe):
    (joe.parent / ".vault").mkdir()
    (joe.parent / ".vault" / "joe").touch()
    with pytest.raises(NotADirectoryError):
        vault.make(f"{joe.parent}/.vault/joe/1000.me", sync=False)
    (joe.parent / ".vault" / "joe").unlink()
    (joe.parent / ".vault" / "joe").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        vault.make(f"{joe.parent}/.vault/joe/1000.me", sync=False)


def test_two_may_empty_a_vault(joe, monkeypatch):
    for session in ("1000.a", "1000.b"):
        put(joe, session, "1", "2")
    unlink = os.unlink

    def other_first(path):
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink)
            vault.empty(str(joe.parent), 2000.0)
        unlink(path)

    monkeypatch.setattr(os, "unlink", other_first)
    assert vault.empty(str(joe.parent), 2000.0) == (0, True)
    assert not (joe.parent / ".vault" / "joe").exists()


def test_what_goes_out_of_it_while_it_is_brought_back_costs_nothing_else(joe, monkeypatch):
    first, second = put(joe, "1000.a", "1", "2"), put(joe, "3000.b", "3")
    listdir = os.listdir

    def emptied_behind(path):
        found = listdir(path)
        if path == str(first):
            with monkeypatch.context() as patch:
                patch.setattr(os, "listdir", listdir)
                vault.empty(str(joe.parent), 2000.0)
        return found

    monkeypatch.setattr(os, "listdir", emptied_behind)
    assert vault.bring_back(str(joe), "", 0.0) == ["3"]
    assert (joe / "new" / "3").exists()
    assert not second.exists()


def test_it_is_emptied_gently(joe, monkeypatch):
    monkeypatch.setattr(vault, "PORTION", 2)
    put(joe, "1000.a", "1", "2", "3")
    kept = put(joe, "2000.b", "4")
    assert vault.empty(str(joe.parent), 2000.0) == (2, False)
    assert vault.empty(str(joe.parent), 2000.0) == (1, True)
    assert vault.empty(str(joe.parent), 2000.0) == (0, True)
    assert os.listdir(joe.parent / ".vault" / "joe") == [kept.name]


@pytest.fixture
def store(tmp_path):
    """Serves with a clock; what was removed is kept for a day."""
    clock = Clock()
    store = MaildirStore(
        str(tmp_path),
        ImmediateExecutor(),
        hostname="h",
        clock=clock,
        durability="files",
        undelete=86400.0,
    )
    store.clock = clock
    finish(store.start())
    yield store
    finish(store.stop())


def sessions(folder: Path) -> list[str]:
    return [kept.session for kept in vault.sessions(str(folder))]


def test_once_a_day_it_lets_go_what_it_kept_for_long_enough(joe, store):
    now = time.time()
    put(joe, f"{now - 86000:.0f}.today", "1")
    put(joe, f"{now - 86500:.0f}.yesterday", "2")
    assert sessions(joe) == ["yesterday", "today"]
    store.clock.advance(SWEEP)
    assert sessions(joe) == ["today"]


def test_much_that_goes_goes_slowly(joe, store, monkeypatch):
    monkeypatch.setattr(vault, "PORTION", 1)
    put(joe, "1000.old", "1", "2", "3")
    left = []
    store.clock.advance(SWEEP)
    while sessions(joe):
        left.append(sum(kept.messages for kept in vault.sessions(str(joe))))
        store.clock.advance(PAUSE)
    assert left == [2, 1, 0][: len(left)]
    assert len(left) >= 2


def test_a_stop_does_not_wait_for_it(joe, store, monkeypatch):
    monkeypatch.setattr(vault, "PORTION", 1)
    put(joe, "1000.old", "1", "2", "3")
    store.clock.advance(SWEEP)
    finish(store.stop())
    assert store.clock.getDelayedCalls() == []
    assert sessions(joe) == ["old"]


def test_what_a_session_takes_out_is_kept_under_its_name_with_its_date(joe, store):
    message = joe / "cur" / "1000.a.h,S=3:2,S"
    message.write_bytes(b"x\r\n")
    os.utime(message, (5000, 5000))
    (joe / "maildirsize").write_text("1000S\n3 1\n")
    maildrop = store.maildrop("joe@example.net")
    [entry] = finish(maildrop.open()).entries
    finish(maildrop.remove([entry], "18eb"))
    maildrop.release()
    [kept] = vault.sessions(str(joe))
    assert (kept.session, kept.messages, kept.octets) == ("18eb", 1, 3)
    assert (joe / "maildirsize").read_text().splitlines()[1:] == ["3 1", "-3 -1"]
    assert finish(store.undelete("joe@example.net", "18eb", 0.0)) == 1
    assert message.stat().st_mtime == 5000
    assert not (joe / "maildirsize").exists(), "it is counted anew"
    maildrop = store.maildrop("joe@example.net")
    assert [one.uidl for one in finish(maildrop.open()).entries] == [entry.uidl]
    maildrop.release()
