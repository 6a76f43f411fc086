"""The vault: what was taken out of maildrops, for a while."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postoffice.maildrop import files, vault


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
        make(path)

    monkeypatch.setattr(vault, "make_folder", empty_first)
    path = put(joe, "1000.me", "1")
    assert emptied == [(0, True)]
    assert (path / "1").exists()


def test_no_vault_is_made_for_a_domain_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        vault.make(f"{tmp_path}/example.org/.vault/joe/1000.me", sync=True)


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


def test_it_is_emptied_gently(joe, monkeypatch):
    monkeypatch.setattr(vault, "GENTLY", 2)
    put(joe, "1000.a", "1", "2", "3")
    kept = put(joe, "2000.b", "4")
    assert vault.empty(str(joe.parent), 2000.0) == (2, False)
    assert vault.empty(str(joe.parent), 2000.0) == (1, True)
    assert vault.empty(str(joe.parent), 2000.0) == (0, True)
    assert os.listdir(joe.parent / ".vault" / "joe") == [kept.name]
