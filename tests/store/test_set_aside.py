"""Rule 15: what cannot be carried out is set aside, blocks nobody, and is done when it can be."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from postoffice.model.address import Quota
from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.store.journal import segments
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    die,
    folder_of,
    is_at_rest,
    messages,
    posted_and_killed,
    raising,
    set_aside,
    state_of,
    text_of,
    there,
    token_in,
)

pytestmark = pytest.mark.usefixtures("machine")

#: What a file system says that will say so for long.
FOR_GOOD = (
    errno.EPERM,
    errno.EACCES,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EROFS,
    errno.EIO,
    errno.EUCLEAN,
)


def is_joes(*paths, **named):
    """Whether a call is about a message in Joe's maildrop."""
    folders = [
        os.readlink(f"/proc/self/fd/{fd}")
        for key, fd in named.items()
        if key.endswith("dir_fd") and fd is not None
    ]
    if any(folder.endswith("/example.net/joe") for folder in folders):
        return any(str(path).startswith("new/") for path in paths)
    return any("/example.net/joe/new/" in str(path) for path in paths)


@contextmanager
def joes_mail_stays(number):
    """No name comes into Joe's maildrop, and none goes."""
    with pytest.MonkeyPatch.context() as patch:
        for call in ("unlink", "rename", "link"):
            calling_first(patch, os, call, raising(number, is_joes))
        yield


def found(one, repair=False, person=JOE):
    return finish(one.store.verify(person, Quota(), repair))


@pytest.mark.parametrize("number", FOR_GOOD)
@pytest.mark.parametrize("undelete", [0.0, 86400.0])
def test_a_removal_that_fails_for_good_blocks_nobody(root, served, logged, number, undelete):
    one = served(undelete=undelete)
    one.post("one", JOE, ANN)
    one.post("two")
    with joes_mail_stays(number):
        one.remove("one")  # its record is durable: it is gone
        one.checkpoint()
        assert is_at_rest(root)
        assert len(set_aside(root, "remove")) == 1
        assert any(
            "example.net/joe" in line and "failed" in line and os.strerror(number) in line
            for line in logged
        )
        assert one.listed() == ["two"]  # as often as somebody looks
        assert one.listed() == ["two"]
        assert there(root) == ["one", "two"]
        one.post("three", ANN)
        one.remove("one", person=ANN)
        one.checkpoint()
        assert is_at_rest(root)
        [finding] = found(one)
        assert "1 removed messages are hidden" in finding.what
        assert os.strerror(number) in finding.what
        assert not any(one.mended for one in found(one, repair=True))
        one.stop()
        one = Served(root, undelete=undelete)  # a start always starts
        assert one.listed() == ["two"]
        assert one.listed(ANN) == ["three"]
    [mended] = found(one, repair=True)
    assert mended.mended
    assert found(one) == []
    assert there(root) == one.listed() == ["two"]
    assert not (root / ".journal/set-aside/example.net/joe").exists()
    kept = finish(one.store.vault_sessions(JOE))
    assert sum(session.messages for session in kept) == (1 if undelete else 0)
    one.stop()


@pytest.mark.parametrize("number", FOR_GOOD)
@pytest.mark.parametrize("token", ["one", "large"])
def test_a_message_that_cannot_be_applied_is_set_aside_and_comes_later(
    root, child, logged, number, token
):
    posted_and_killed(root, child, (token, JOE, ANN), ("two", ANN))
    for path in messages(root, ANN) + messages(root):
        path.unlink()
    with joes_mail_stays(number):
        one = Served(root)
        assert there(root, ANN) == one.listed(ANN) == sorted([token, "two"])
        assert [token_in(path.read_bytes()) for path in set_aside(root, "place")] == [token]
        assert any("example.net/joe" in line and os.strerror(number) in line for line in logged)
        one.post("three", ANN)
        one.checkpoint()
        assert is_at_rest(root)
        assert one.listed() == []
        [finding] = found(one)
        assert "1 messages are set aside" in finding.what
        one.stop()
        one = Served(root)
        assert len(set_aside(root, "place")) == 1
        assert not list(root.glob(".journal/large/*"))
    assert one.listed() == there(root) == [token]  # who logs in tries again
    assert set_aside(root, "place") == []
    assert found(one) == []
    one.remove(token)
    one.stop()
    one = Served(root)
    assert one.listed() == []
    one.stop()


def test_what_is_mended_comes_with_the_next_start(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE))
    for path in messages(root):
        path.unlink()
    with joes_mail_stays(errno.EACCES):
        Served(root).stop()
    assert there(root) == []
    served()
    assert there(root) == ["one", "two"]


def test_a_message_that_is_set_aside_and_then_removed_does_not_come(root, served, monkeypatch):
    one = served()
    one.post("before")
    with joes_mail_stays(errno.EPERM), pytest.raises(TemporaryFailure):
        one.post("one", JOE, ANN)
    one.checkpoint()
    assert is_at_rest(root)
    assert there(root) == one.listed() == ["before"]
    assert there(root, ANN) == []
    assert set_aside(root, "place") == []


def test_only_what_fails_is_hidden_and_an_undelete_brings_the_rest(root, served, monkeypatch):
    one = served(undelete=86400.0)
    for token in ("one", "two", "three"):
        one.post(token)
    odd = messages(root)[1]
    with monkeypatch.context() as patch:
        calling_first(patch, os, "rename", raising(errno.EPERM, lambda at, *_, **n: at == str(odd)))
        one.remove("one", "two", "three")
        one.checkpoint()
        assert one.listed() == []
        assert finish(one.store.undelete(JOE, "", 0.0)) == 2
        assert one.listed() == ["one", "three"]
    assert one.listed() == ["one", "three"]
    assert finish(one.store.undelete(JOE, "", 0.0)) == 1
    assert one.listed() == ["one", "three", "two"]


def test_a_session_keeps_repair_away_and_nothing_is_lost(root, served):
    one = served()
    one.post("one")
    with joes_mail_stays(errno.EPERM):
        one.remove("one")
        one.checkpoint()
        maildrop = one.store.maildrop(JOE)
        finish(maildrop.open())
    [finding] = found(one, repair=True)
    assert not finding.mended
    maildrop.release()
    assert found(one, repair=True)[0].mended
    assert there(root) == []


@pytest.mark.parametrize("odd", ["file", "dangling", "loop", "box"])
def test_a_maildrop_that_is_none_keeps_no_start_and_no_command(root, child, odd):
    posted_and_killed(root, child, ("one", JOE, ANN), ("two", ANN))
    folder = folder_of(root)
    os.rename(folder, root / ".away")
    if odd == "file":
        folder.write_bytes(b"in the way")
    elif odd == "box":
        folder.mkdir()
        (folder / "new").write_bytes(b"in the way")
    else:
        folder.symlink_to(folder if odd == "loop" else root / "nowhere")
    one = Served(root)
    assert one.listed(ANN) == ["one", "two"]
    with pytest.raises(TemporaryFailure):
        one.listed()
    assert sorted(holding.name for holding in finish(one.store.holdings())) == [ANN, JOE]
    assert any("set aside" in finding.what for finding in found(one, repair=True))
    one.post("three", ANN)
    one.checkpoint()
    assert is_at_rest(root)
    finish(one.store.sweep())
    if odd == "box":
        (folder / "new").unlink()
    else:
        folder.unlink()
    assert one.listed() == ["one"]
    one.stop()


def test_a_maildrop_that_is_discarded_takes_along_what_waits_for_it(root, child):
    posted_and_killed(root, child, ("one", JOE))
    messages(root)[0].unlink()
    with joes_mail_stays(errno.EPERM):
        one = Served(root)
        [path] = set_aside(root, "place")
    place = finish(one.store.discard(JOE, True))
    assert Path(place, "set-aside/place", path.name).read_bytes() == text_of("one")
    assert one.listed() == []
    one.stop()


def test_what_earlier_releases_put_beside_the_store_is_tried_again(root, served):
    served().stop()
    for person in (JOE, ANN):
        late = root / ".unplaced" / "example.net" / person.partition("@")[0]
        for box in ("tmp", "new", "cur"):
            (late / box).mkdir(parents=True)
        (late / "new" / f"1.M1P1Q1R00000000.h,S={len(text_of('one'))}").write_bytes(text_of("one"))
    one = served()
    assert there(root) == there(root, ANN) == one.listed() == ["one"]
    assert not (root / ".unplaced").exists()


@pytest.mark.parametrize("step", range(1, 40))
def test_a_kill_while_mail_is_set_aside_or_retried_loses_nothing(root, child, step):
    from tests.store.journaled import dying_before

    posted_and_killed(root, child, ("one", JOE, ANN), ("two", JOE))
    for path in messages(root):
        path.unlink()

    def set_aside_and_mend(parent):
        dying_before(step)
        with joes_mail_stays(errno.EPERM):
            one = Served(root)
            one.checkpoint()
        one.listed()
        with joes_mail_stays(errno.EIO):
            one.remove("one")
            one.checkpoint()
        parent.say("removed")
        one.listed()
        die()

    process = child(set_aside_and_mend)
    removed = process.hear() == "removed"
    assert process.wait() == -signal.SIGKILL
    one = Served(root)
    left = one.listed()
    assert left in ([["two"]] if removed else [["one", "two"], ["two"]])
    assert there(root) == left
    assert one.listed(ANN) == ["one"]
    one.stop()


def test_a_disk_that_is_full_is_nobodys_record(root, child, logged):
    posted_and_killed(root, child, ("one", JOE))
    messages(root)[0].unlink()
    with joes_mail_stays(errno.ENOSPC):
        one = Served(root)
        assert set_aside(root, "place") == []
        assert state_of(root).no_space
    one.checkpoint()
    assert there(root) == ["one"]
    one.stop()


@pytest.mark.parametrize("token", ["one", "large"])
def test_a_folder_that_cannot_be_synced_sets_aside_what_came_into_it(root, served, token):
    one = served()
    one.post(token, JOE, ANN)
    new = f"{folder_of(root)}/new"

    def is_joes_new(fd):
        return os.readlink(f"/proc/self/fd/{fd}") == new

    with pytest.MonkeyPatch.context() as patch:
        calling_first(patch, os, "fsync", raising(errno.EIO, is_joes_new))
        calling_first(patch, segments, "sync_all", raising(errno.EIO))
        one.checkpoint()
    assert is_at_rest(root)
    [path] = set_aside(root, "place")
    assert token_in(path.read_bytes()) == token
    messages(root)[0].unlink()  # it was never on the disk
    assert one.listed() == [token]
    assert set_aside(root, "place") == []


def immutable(path, on=True):
    flag = "+i" if on else "-i"
    return subprocess.run(["chattr", flag, path], capture_output=True, check=False)


@pytest.fixture
def chattr(tmp_path):
    """Makes files immutable, as an administrator does; in the end none is."""
    probe, made = tmp_path / "probe", []
    probe.write_bytes(b"")
    try:
        tried = immutable(probe)
    except FileNotFoundError:
        pytest.skip("there is no chattr")
    if tried.returncode:
        pytest.skip(f"files cannot be made immutable here: {tried.stderr.decode().strip()}")
    immutable(probe, on=False)

    def chattr(path):
        made.append(path)
        assert not immutable(path).returncode

    yield chattr
    for path in made:
        immutable(path, on=False)


@pytest.mark.parametrize("undelete", [0.0, 86400.0])
def test_an_immutable_message_is_removed_and_goes_when_it_can(root, served, chattr, undelete):
    one = served(undelete=undelete)
    one.post("one", JOE)
    one.post("two", JOE, ANN)
    [path] = [path for path in messages(root) if b"one" in path.read_bytes()]
    chattr(path)
    one.remove("one", "two")
    one.checkpoint()
    assert is_at_rest(root)
    one.stop()
    one = served(undelete=undelete)
    assert one.listed() == []
    assert one.listed(ANN) == ["two"]
    assert there(root) == ["one"]
    immutable(path, on=False)
    assert one.listed() == there(root) == []


def test_a_large_message_that_is_immutable_stops_no_start_and_no_checkpoint(
    root, child, served, chattr, logged
):
    """The journal's text and the message are one file, which then has to keep both names."""
    posted_and_killed(root, child, ("large", JOE))
    [path] = messages(root)
    [text] = root.glob(".journal/large/*")
    chattr(path)
    one = served()
    one.post("one")
    one.checkpoint()
    assert is_at_rest(root)
    one.stop()
    one = served()
    assert one.listed() == ["large", "one"]
    assert text.exists()
    assert any(
        "removing" in line and "failed" in line and "/.journal/large/" in line for line in logged
    )
    immutable(path, on=False)
    one.stop()
    served()
    assert not text.exists()


def test_an_immutable_folder_gets_its_mail_when_it_can(root, child, served, chattr):
    posted_and_killed(root, child, ("one", JOE, ANN), ("large", JOE))
    for path in messages(root):
        path.unlink()
    chattr(folder_of(root) / "new")
    one = served()
    assert there(root) == []
    assert one.listed(ANN) == ["one"]
    immutable(folder_of(root) / "new", on=False)
    assert one.listed() == ["large", "one"]


@pytest.fixture
def root_of_nobody():
    """
    Where another user may have a store: below no folder of pytest's.

    Every pytest that starts on this machine closes those to others again.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder, "store")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o000, 0o500])
@pytest.mark.parametrize("where", ["", "new"])
def test_a_folder_without_permission_blocks_nobody(root_of_nobody, child, mode, where):
    root = root_of_nobody

    def as_nobody(parent):
        os.setgid(65534)
        os.setuid(65534)
        one = Served(root)
        one.post("one", JOE, ANN)
        one.post("two", JOE)
        parent.say("posted")
        parent.hear()
        if not mode:
            with pytest.raises((TemporaryFailure, MaildropLocked)):
                one.remove("one")
        one.post("three", ANN)
        one.checkpoint()
        assert is_at_rest(root)
        one.stop()
        one = Served(root)
        assert one.listed(ANN) == ["one", "three"]
        finish(one.store.holdings())
        found(one)
        one.stop()

    process = child(as_nobody)
    assert process.hear() == "posted"
    (folder_of(root) / where).chmod(mode)
    process.say("go")
    status = process.wait()
    (folder_of(root) / where).chmod(0o700)
    assert status == 0


@pytest.mark.parametrize("token", ["one", "large"])
def test_what_is_set_aside_leaves_no_litter_in_the_maildrop(root, served, monkeypatch, token):
    """Nobody sweeps there before the next start."""
    one = served()
    one.post(token)
    one.post(token, JOE, ANN)
    with joes_mail_stays(errno.EPERM), monkeypatch.context() as patch:
        calling_first(patch, segments, "sync_all", raising(errno.EIO))
        one.checkpoint()
        assert set_aside(root, "place")
        assert list(folder_of(root).glob("tmp/*")) == []
        assert list(folder_of(root, ANN).glob("tmp/*")) == []
    assert one.listed() == [token, token]
