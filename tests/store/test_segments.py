"""The journal's files: the key, the mark, segments, the state, and locks."""

from __future__ import annotations

import errno
import os
import threading
from fcntl import LOCK_EX, LOCK_NB, flock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.store.journal import segments
from postoffice.store.journal.records import BLOCK
from postoffice.store.journal.segments import SEGMENTS, CheckpointFile, FileLock, State, StateFile

KEY = bytes(range(32))


@pytest.fixture
def folder(tmp_path):
    segments.prepare(str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
def mark(folder):
    mark = CheckpointFile(f"{folder}/mark", KEY)
    yield mark
    mark.close()


def failing(monkeypatch, name, wanted=lambda *args: True):
    real = getattr(os, name)

    def fail(*args, **named):
        if wanted(*args):
            raise OSError(errno.EIO, "the disk says no")
        return real(*args, **named)

    monkeypatch.setattr(os, name, fail)


# -- the key ----------------------------------------------------------------------------


def test_the_key_is_made_once_and_stays(folder):
    key = segments.read_key(str(folder))
    assert len(key) == 32
    assert segments.read_key(str(folder)) == key


def test_segments_without_a_key_are_not_given_another(folder):
    segments.make_segment(f"{folder}/seg.0", BLOCK)
    with pytest.raises(FileNotFoundError):
        segments.read_key(str(folder))


def test_nobody_else_may_look(folder):
    umask = os.umask(0)
    try:
        segments.read_key(str(folder))
        segments.make_segment(f"{folder}/seg.0", BLOCK)
        CheckpointFile(f"{folder}/mark", KEY).close()
        StateFile(f"{folder}/state").close()
        with FileLock(f"{folder}/append").held():
            pass
    finally:
        os.umask(umask)
    for path in [folder, *folder.iterdir()]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
def test_a_file_that_cannot_be_made_is_not_there(folder, monkeypatch, call):
    with monkeypatch.context() as patch:
        failing(patch, call)
        with pytest.raises(OSError, match="the disk says no"):
            segments.create(f"{folder}/key", [b"half", b"and half"])
    assert not (folder / "key").exists()
    segments.create(f"{folder}/key", [b"half", b"and half"])
    assert (folder / "key").read_bytes() == b"halfand half"
    assert set(os.listdir(folder)) == {"key", "large"}


# -- the mark ---------------------------------------------------------------------------


def test_a_new_checkpoint_file_says_that_nothing_is_checkpointed(mark):
    assert mark.read() == 0


def test_the_mark_says_what_was_written_last(folder, mark):
    for last, checkpointed in ((0, 1), (1, 2), (2, 7), (7, 8)):
        mark.write(checkpointed, last)
        assert mark.read() == CheckpointFile(f"{folder}/mark", KEY).read() == checkpointed


@pytest.mark.parametrize("last", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", range(0, 49, 8))
def test_a_torn_slot_leaves_the_other(folder, mark, last, torn):
    for checkpointed in range(1, last + 1):
        mark.write(checkpointed, checkpointed - 1)
    before = (folder / "mark").read_bytes()
    mark.write(last + 1, last)
    after = (folder / "mark").read_bytes()
    [slot] = [at for at in (0, BLOCK) if before[at : at + BLOCK] != after[at : at + BLOCK]]
    with open(folder / "mark", "r+b") as file:
        file.seek(slot)
        file.write(after[slot : slot + torn] + b"\xff" * (48 - torn))
    assert mark.read() == (last + 1 if torn == 48 else last)
    mark.write(last + 1, last)  # and is written again, not the one that is left
    assert mark.read() == last + 1


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("last", [0, 1, 2])
def test_writing_that_fails_never_touches_what_is_on_the_disk(
    folder, mark, monkeypatch, call, last
):
    for checkpointed in range(1, last + 1):
        mark.write(checkpointed, checkpointed - 1)
    before = (folder / "mark").read_bytes()
    with monkeypatch.context() as patch:
        failing(patch, call)
        for _ in range(3):  # it is tried again, and again
            with pytest.raises(OSError, match="the disk says no"):
                mark.write(last + 1, last)
    after = (folder / "mark").read_bytes()
    same = [before[at : at + BLOCK] == after[at : at + BLOCK] for at in (0, BLOCK)]
    assert any(same)
    (folder / "mark").write_bytes(  # what was never synced is lost, or torn
        b"".join(
            after[at : at + BLOCK] if kept else b"\xff" * BLOCK
            for at, kept in zip((0, BLOCK), same, strict=True)
        )
    )
    assert mark.read() == last


@given(st.binary(max_size=2 * BLOCK))
def test_any_octets_in_its_place_say_nothing_and_raise_nothing(tmp_path_factory, octets):
    path = tmp_path_factory.mktemp("mark") / "mark"
    path.write_bytes(octets)
    mark = CheckpointFile(str(path), KEY)
    assert mark.read() == 0
    mark.close()


def test_the_mark_of_another_journal_says_nothing(folder, mark):
    mark.write(5, 0)
    assert CheckpointFile(f"{folder}/mark", KEY[::-1]).read() == 0


# -- segments -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [BLOCK, 16 * BLOCK, 3 << 20])
def test_a_segment_is_all_zeros_and_all_written(folder, size):
    segments.make_segment(f"{folder}/seg.0", size)
    assert (folder / "seg.0").read_bytes() == bytes(size)
    assert os.stat(folder / "seg.0").st_blocks * 512 >= size


def test_what_is_written_in_pieces_is_all_written(folder, monkeypatch):
    segments.make_segment(f"{folder}/seg.0", BLOCK)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, octets, at: real(fd, octets[:3], at))
    fd = segments.open_segment(f"{folder}/seg.0")
    segments.write_all(fd, b"0123456789", 100)
    os.close(fd)
    assert (folder / "seg.0").read_bytes()[99:111] == b"\x000123456789\0"


def test_the_file_system_is_synced_and_errors_are_heard(folder):
    fd = os.open(folder, os.O_RDONLY)
    segments.sync_all(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file"):
        segments.sync_all(fd)


def test_folders_that_are_there_are_prepared_once_more(folder):
    segments.prepare(str(folder))
    assert os.listdir(folder) == ["large"]


# -- the state ----------------------------------------------------------------------------

NUMBERS = st.integers(0, 2**63)
STATES = st.builds(
    State,
    boot=st.just(b"11111111-2222-3333-4444-555555555555"),
    durability=st.sampled_from(["", "files", "journal"]),
    checkpointed=NUMBERS,
    generation=NUMBERS,
    current=st.integers(-1, SEGMENTS - 1),
    tail=NUMBERS,
    syncing=st.booleans(),
    no_space=st.booleans(),
    generations=st.lists(NUMBERS, min_size=SEGMENTS, max_size=SEGMENTS),
    counts=st.lists(st.integers(0, 4096), min_size=SEGMENTS, max_size=SEGMENTS),
)


@pytest.fixture(scope="module")
def state_file(tmp_path_factory):
    file = StateFile(str(tmp_path_factory.mktemp("state") / "state"))
    yield file
    file.close()


@given(STATES)
def test_the_state_is_read_as_it_was_written(state_file, state):
    state_file.write(state)
    assert state_file.read() == state


@given(st.binary(max_size=1000))
def test_a_state_that_is_none_says_nothing(tmp_path_factory, octets):
    path = tmp_path_factory.mktemp("state") / "state"
    path.write_bytes(octets)
    file = StateFile(str(path))
    assert file.read() == State()
    file.close()


def test_pending_segments_come_in_the_order_of_their_generations():
    state = State(checkpointed=3)
    state.generations[:6] = [5, 2, 9, 3, 4, 0]
    assert state.pending() == [4, 0, 2]


def test_each_batch_is_marked_as_applied_by_itself(folder):
    file = StateFile(f"{folder}/state")
    state = State(generation=7)
    file.write(state)
    most = segments.SEGMENT // BLOCK
    for segment in (0, SEGMENTS - 1):
        file.begin(segment)
        assert file.all_applied(segment, 0)
        file.set_applied(segment, 1)
        assert not file.all_applied(segment, 2)
        file.set_applied(segment, 0)
        assert file.all_applied(segment, 2)
        file.set_applied(segment, most - 1)
        assert not file.all_applied(segment, most)
        file.begin(segment)
        assert not file.all_applied(segment, 1)
    assert file.read() == state
    for number in range(most):
        file.set_applied(3, number)
    assert file.all_applied(3, most)
    assert not file.all_applied(4, 1)
    file.close()


# -- locks --------------------------------------------------------------------------------


def test_a_lock_keeps_other_processes_out_until_its_holder_is_killed(folder, child):
    def hold(parent):
        with FileLock(f"{folder}/append").held():
            parent.say("held")
            parent.hear()

    def wait(parent):
        parent.say("asks")
        with FileLock(f"{folder}/append").held():
            parent.say("held")
            parent.hear()

    one = child(hold)
    assert one.hear() == "held"
    other = child(wait)
    assert other.hear() == "asks"
    assert not is_free(folder / "append")
    one.kill()
    assert other.hear() == "held"
    other.say("go")
    assert other.wait() == 0
    assert is_free(folder / "append")


def is_free(path) -> bool:
    """Whether nobody holds this lock."""
    fd = os.open(path, os.O_RDONLY)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_a_lock_keeps_other_threads_out(folder):
    lock = FileLock(f"{folder}/append")
    order = []

    def other():
        with lock.held():
            order.append("other")

    thread = threading.Thread(target=other)
    with lock.held():
        thread.start()
        order.append("one")
    thread.join()
    assert order == ["one", "other"]
    lock.close()
    lock.close()


def test_a_lock_is_free_when_what_it_was_held_for_failed(folder):
    lock = FileLock(f"{folder}/append")
    with pytest.raises(RuntimeError), lock.held():
        raise RuntimeError
    assert is_free(folder / "append")
    with lock.held():
        assert not is_free(folder / "append")
    lock.close()
