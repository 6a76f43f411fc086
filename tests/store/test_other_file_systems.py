"""Rule 13: maildrops and vaults on another file system than the store."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from postoffice.model.errors import TemporaryFailure
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    die,
    folder_of,
    in_segments,
    is_at_rest,
    litter,
    messages,
    posted_and_killed,
    set_aside,
    there,
    token_in,
)

pytestmark = pytest.mark.usefixtures("machine")


# -- rule 13: one file system --------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("what", ["example.net", "example.net/joe"])
def test_rule_13_a_maildrop_on_another_file_system_is_told_at_the_start(
    root, served, elsewhere, what, logged
):
    (root / what).parent.mkdir(parents=True)
    (root / what).symlink_to(elsewhere)
    Served(root).stop()
    assert [line for line in logged if what in line and "mail for it is refused" in line]
    served(durability="")
    assert [line for line in logged if what in line and "using durability: files" in line]


def test_rule_13_one_that_comes_later_gets_no_mail(root, served, elsewhere):
    one = served()
    one.post("one", ANN)
    (folder_of(root)).symlink_to(elsewhere)
    before = in_segments(root)
    with pytest.raises(TemporaryFailure):
        one.post("two", JOE, ANN)
    assert in_segments(root) == before
    assert there(root, ANN) == ["one"]
    (folder_of(root)).unlink()
    one.post("two", JOE, ANN)
    assert there(root) == ["two"]


# -- on other file systems, with other people's rights ---------------------------------------------


@pytest.mark.parametrize("token", ["one", "large"])
def test_a_vault_on_another_file_system_gets_copies(root, served, elsewhere, token):
    one = served(undelete=86400.0)
    one.post(token)
    one.post("two")
    (root / "example.net/.vault").symlink_to(elsewhere)
    one.remove(token)
    one.checkpoint()
    assert is_at_rest(root)
    assert there(root) == ["two"]
    assert [token_in(path.read_bytes()) for path in elsewhere.glob("joe/*/*")] == [token]
    assert not list(elsewhere.glob("joe/.part*"))
    assert set_aside(root, "remove") == []


@pytest.mark.parametrize("token", ["one", "large"])
def test_a_recovery_copies_into_a_vault_on_another_file_system(
    root, child, served, elsewhere, token
):
    def post(parent):
        one = Served(root, undelete=86400.0)
        one.post(token)
        (root / "example.net/.vault").symlink_to(elsewhere)
        one.remove(token)
        die()

    assert child(post).wait() == -signal.SIGKILL
    served(undelete=86400.0)
    assert there(root) == []
    assert [token_in(path.read_bytes()) for path in elsewhere.glob("joe/*/*")] == [token]


def test_a_folder_on_another_file_system_loses_no_mail(root, served, elsewhere):
    one = served()
    one.post("before", JOE, ANN)
    (elsewhere / "new").mkdir()
    os.rename(folder_of(root) / "new", root / ".away")
    (folder_of(root) / "new").symlink_to(elsewhere / "new")
    for token in ("one", "large"):
        for people in ((JOE,), (JOE, ANN), (ANN, JOE)):
            with pytest.raises(TemporaryFailure):
                one.post(token, *people)
    one.post("two", ANN)
    one.checkpoint()
    assert is_at_rest(root)
    assert one.listed(ANN) == ["before", "two"]
    assert one.listed() == []


def test_a_maildrop_that_was_moved_to_another_disk_gets_none_and_blocks_nobody(
    root, child, elsewhere
):
    posted_and_killed(root, child, ("one", JOE, ANN), ("two", JOE))
    subprocess.run(["mv", folder_of(root), elsewhere / "joe"], check=True)
    folder_of(root).symlink_to(elsewhere / "joe")
    for path in (elsewhere / "joe/new").iterdir():
        path.unlink()
    one = Served(root)
    assert one.listed() == ["one", "two"]
    with pytest.raises(TemporaryFailure, match="not on the journal's file system"):
        one.post("three")
    one.post("three", ANN)
    one.remove("one")
    other = Served(root, durability="")  # as the command comes
    assert sorted(holding.name for holding in finish(other.store.holdings())) == [ANN, JOE]
    other.stop()
    one.checkpoint()
    assert is_at_rest(root)
    assert there(root) == ["two"]
    one.stop()


def test_what_a_crash_left_in_a_maildrop_that_was_moved_is_swept(root, served, elsewhere):
    """Nobody else does: what is linked there is served like any other."""
    one = served()
    one.post("one")
    left = folder_of(root) / "tmp" / messages(root)[0].name.partition(",")[0].replace("P", "P9")
    left.write_bytes(b"half a mess")
    subprocess.run(["mv", folder_of(root), elsewhere / "joe"], check=True)
    folder_of(root).symlink_to(elsewhere / "joe")
    (root / "example.net" / "loop").symlink_to("loop")
    (root / "example.net" / "other").symlink_to(elsewhere)
    (elsewhere / "tmp").mkdir()
    other = elsewhere / "tmp" / left.name
    other.write_bytes(b"not of a maildrop")
    finish(one.store.sweep())
    assert not (elsewhere / "joe/tmp" / left.name).exists()
    assert other.exists()
    assert one.listed() == ["one"]


@pytest.fixture(params=["example.net/.vault", "example.net/joe"])
def one(request, root, served, elsewhere):
    """A store with a removed message of JOE; the vault or the maildrop is on another disk."""
    one = served(undelete=86400.0, durability="files")
    one.post("one")
    (root / "example.net/.vault").mkdir()
    subprocess.run(["mv", root / request.param, elsewhere / "moved"], check=True)
    (root / request.param).symlink_to(elsewhere / "moved")
    one.remove("one")
    assert there(root) == []
    return one


def test_mail_comes_back_from_a_vault_on_another_file_system(one, root):
    assert finish(one.store.undelete(JOE, "", 0.0)) == 1
    assert there(root) == ["one"]
    assert list((root / "example.net/.vault").glob("*/*/*")) == []
    assert litter(root) == []


def test_a_backup_has_the_mail_of_a_deleted_account_on_another_file_system(one, root):
    one.post("two")
    finish(one.store.discard(JOE, keep=True))
    kept = [Path(piece.path) for piece in one.store.removed()]
    texts = [path.read_bytes() for path in kept if path.parent.name == "new"]
    assert [token_in(text) for text in texts] == ["two"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_discarded_maildrop_takes_along_a_vault_on_another_file_system(one, root, keep):
    aside = finish(one.store.discard(JOE, keep=keep))
    assert list((root / "example.net/.vault").iterdir()) == []
    kept = [token_in(path.read_bytes()) for path in Path(aside).glob("vault/*/*")]
    assert kept == (["one"] if keep else [])
    assert keep or not any(path.is_symlink() for path in (root / ".removed/example.net").iterdir())
