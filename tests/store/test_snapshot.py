"""What a backup sees of a maildrop, and how messages come back: none is missed, none is doubled."""

from __future__ import annotations

import errno
import os

import pytest

from postoffice.interfaces import IStoreBackup
from postoffice.model.errors import MaildropLocked, NoSpace
from postoffice.store import files, merge, set_aside, snapshot
from postoffice.testing import finish
from tests.store.journaled import Served

WHERE = "example.net/joe"


@pytest.fixture
def folder(root):
    path = f"{root}/{WHERE}"
    os.makedirs(root, exist_ok=True)
    files.make(path)
    return path


def message(folder, name, box="new", text=b"x\r\n"):
    path = f"{folder}/{box}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text)
    return path


def seen(root) -> list[str]:
    return [piece.name.removeprefix(f"{WHERE}/") for piece in snapshot.pieces(str(root), WHERE)]


def test_it_offers_what_a_backup_asks_for(root):
    served = Served(root)
    assert IStoreBackup.providedBy(served.store)
    served.post("one")
    assert finish(served.store.folders()) == [(WHERE, 1)]
    assert len(finish(served.store.pieces(WHERE))) == 1
    served.stop()


def test_what_is_set_aside_is_in_it_and_what_is_hidden_is_not(root, folder):
    message(folder, "2.hidden")
    message(folder, "3.there")
    set_aside.keep_text(folder, "1.waits", [b"text\r\n"], "no permission")
    set_aside.keep_removal(folder, ["2.hidden"], "", "it is immutable")
    assert seen(root) == ["new/1.waits", "new/3.there"]
    (waits, _) = snapshot.pieces(str(root), WHERE)
    assert waits.path.endswith("/set-aside/example.net/joe/place/1.waits")


@pytest.mark.parametrize("there", ["new/1.waits", "cur/1.waits:2,S"])
def test_what_is_set_aside_and_in_its_place_too_is_in_it_once(root, folder, there):
    """Its folder could not be synced; or it is just being put there."""
    message(folder, os.path.basename(there), os.path.dirname(there), b"text\r\n")
    set_aside.keep_text(folder, "1.waits", [b"text\r\n"], "the disk failed")
    assert seen(root) == [there]
    (piece,) = snapshot.pieces(str(root), WHERE)
    assert "set-aside" in piece.path, "what the disk has of the other, nobody knows"


def test_a_maildrop_that_is_a_link_is_in_it(root, folder, tmp_path):
    message(folder, "1.here")
    os.rename(folder, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder)
    assert snapshot.folders(str(root)) == [(WHERE, 1)]
    assert seen(root) == ["new/1.here"]


def test_a_maildrop_that_has_nothing_but_what_is_set_aside_is_one(root):
    os.makedirs(f"{root}/.journal")
    os.chmod(root, 0o700)
    set_aside.keep_text(f"{root}/{WHERE}", "1.waits", [b"text\r\n"], "no permission")
    assert snapshot.folders(str(root)) == [(WHERE, 0)]
    assert seen(root) == ["new/1.waits"]


@pytest.mark.parametrize(
    ("moves", "there"),
    [
        ([("new/1.a", "cur/1.a:2,S")], "cur/1.a:2,S"),
        ([("cur/1.a:2,S", "cur/1.a:2,RS")], "cur/1.a:2,RS"),
        ([("cur/1.a:2,S", "cur/1.a:2,RS"), ("cur/1.a:2,RS", "cur/1.a:2,S")], "cur/1.a:2,S"),
    ],
)
def test_what_moves_while_it_is_listed_is_seen_once(root, folder, monkeypatch, moves, there):
    """Between any two listings, and in the middle of one."""
    first = moves[0][0]
    for when in range(6):
        for box in ("new", "cur"):
            for name in os.listdir(f"{folder}/{box}"):
                os.unlink(f"{folder}/{box}/{name}")
        box, _, name = first.partition("/")
        message(folder, name, box)
        message(folder, "2.stays")
        steps, left = iter(range(100)), list(moves)
        real = os.listdir

        def listdir(path, when=when, steps=steps, left=left, real=real):
            found = real(path)
            if next(steps) >= when and left:
                old, new = left.pop(0)
                os.rename(f"{folder}/{old}", f"{folder}/{new}")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listdir)
            pieces = snapshot.pieces(str(root), WHERE)
        assert sorted(piece.uidl for piece in pieces) == ["1.a", "2.stays"], when
        for piece in pieces:
            again = piece if os.path.exists(piece.path) else snapshot.find_again(str(root), piece)
            assert again is not None
            assert os.path.exists(again.path)


def test_two_files_of_one_uidl_are_both_in_it(root, folder):
    message(folder, "1.a", "new", b"one\r\n")
    message(folder, "1.a:2,S", "cur", b"another\r\n")
    assert seen(root) == ["cur/1.a:2,S", "new/1.a"]


def test_what_was_deleted_and_is_in_the_vault_is_in_it_once(root, folder):
    name = "example.net/.vault/joe/1700000000.session"
    message(f"{root}/{name}", "1.gone", "")
    message(f"{root}/{name}", "2.back", "")
    message(f"{root}/{name}", ".part.3", "")
    message(folder, "2.back")
    found = [piece.name for piece in snapshot.pieces(str(root), WHERE)]
    assert found == [f"{WHERE}/new/2.back", f"{name}/1.gone"]
    os.rename(folder, f"{root}.elsewhere")
    assert snapshot.folders(str(root))[0] == (WHERE, 0), "a vault without a maildrop"


def test_mail_that_waits_in_the_journal_for_room_is_put_in_its_place_first(root, monkeypatch):
    served = Served(root)
    calls = []

    def checkpoint(*, now):
        calls.append(now)
        raise NoSpace("mail waits")

    finish(served.store.settle())
    state = served.journal._files.state.read()
    state.no_space = True
    served.journal._files.state.write(state)
    with monkeypatch.context() as patch:
        patch.setattr(served.journal, "checkpoint", checkpoint)
        with pytest.raises(NoSpace):
            finish(served.store.settle())
    assert calls == [True]
    state.no_space = False
    served.journal._files.state.write(state)
    served.stop()


# -- coming back ----------------------------------------------------------------------------------


def test_messages_come_back_beside_those_that_came_later(root):
    served = Served(root)
    served.post("one")
    folder = f"{root}/{WHERE}"
    (name,) = os.listdir(f"{folder}/new")
    staged = finish(served.store.staging(WHERE))
    message(staged, f"{name}:2,S", "cur", b"the same message\r\n")
    message(staged, "1.back", "new")
    message(staged, "2.back:2,RS", "cur")
    assert finish(served.store.put_back(WHERE, staged)) == (2, 1)
    assert sorted(os.listdir(f"{folder}/new")) == ["1.back", name]
    assert os.listdir(f"{folder}/cur") == ["2.back:2,RS"]
    assert os.listdir(f"{folder}/tmp") == []
    served.stop()


def test_they_wait_for_no_session(root):
    served = Served(root)
    served.post("one")
    staged = finish(served.store.staging(WHERE))
    message(staged, "1.back")
    lock = files.lock(f"{root}/{WHERE}")
    with pytest.raises(MaildropLocked):
        finish(served.store.put_back(WHERE, staged))
    os.close(lock)
    assert finish(served.store.put_back(WHERE, staged)) == (1, 0)
    served.stop()


def test_a_rename_that_fails_in_the_middle_can_be_done_again(root, monkeypatch):
    served = Served(root)
    served.post("one")
    staged = finish(served.store.staging(WHERE))
    for number in range(3):
        message(staged, f"{number}.back")
    real = os.rename

    def rename(source, target, **named):
        if source.endswith("/1.back"):
            raise OSError(errno.EIO, "Input/output error", target)
        real(source, target, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(Exception, match="Input/output"):
            finish(served.store.put_back(WHERE, staged))
    finish(served.store.put_back(WHERE, staged))
    assert len(os.listdir(f"{root}/{WHERE}/new")) == 4
    served.stop()


def test_what_a_restore_left_long_ago_goes_with_the_next(root, folder):
    old, new = (merge.staging(folder) for _ in range(2))
    os.utime(old, (1, 1))
    merge.staging(folder)
    assert not os.path.exists(old)
    assert os.path.exists(new)
