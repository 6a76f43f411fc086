"""Other processes, which can be talked to, and killed; a machine that is right for a journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from os import write  # as it is, whatever a test makes of os.write
from pathlib import Path

import pytest

from postoffice.store import delivery
from postoffice.store.journal import filesystem, segments
from tests.store.on_disk import opened, started

sys.path.insert(0, str(Path(__file__).parent))  # what tests share lies beside them


class Child:
    """
    A process that does one thing, with nothing open that we have.

    It is handed its own end of the link: both say and hear single words.
    """

    def __init__(self, act: Callable[[Child], object]) -> None:
        hear_here, say_there = os.pipe()
        hear_there, say_here = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._hearing, self._saying = os.fdopen(hear_there), say_there
            self._act(act)
        os.close(hear_there)
        os.close(say_there)
        self._hearing, self._saying = os.fdopen(hear_here), say_here

    def _act(self, act: Callable[[Child], object]) -> None:
        ours = {0, 1, 2, self._hearing.fileno(), self._saying}
        try:
            for fd in map(int, os.listdir("/proc/self/fd")):
                if fd not in ours:  # a lock of the parent's is shared as long as its file is open
                    try:
                        os.close(fd)
                    except OSError:
                        pass  # of the listing itself
            act(self)
        except BaseException:
            os.write(2, traceback.format_exc().encode())  # what Python has for it is closed
            os._exit(1)
        os._exit(0)

    def say(self, word: str) -> None:
        """Tell the other."""
        write(self._saying, f"{word}\n".encode())

    def hear(self) -> str:
        """What the other says; "" when it is gone."""
        return self._hearing.readline().strip()

    def kill(self) -> None:
        """At once, whatever it does."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        """For its end: its exit status, or less than 0, the signal."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self._hearing.close()
        os.close(self._saying)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def child():
    """Begins a process; what still runs when the test is over is killed."""
    children = []

    def child(act):
        children.append(Child(act))
        return children[-1]

    yield child
    for one in children:
        one.kill()


@pytest.fixture
def machine(monkeypatch):
    """
    Whatever we are on, the journal is right there; larger texts go to disk as they arrive.

    Nothing is synced: that the power fails is only played, and who else works
    on this disk would make us wait.
    """
    monkeypatch.setattr(filesystem, "file_system", lambda path: "ext4")
    monkeypatch.setattr(filesystem, "LINUX", (0, 0))
    monkeypatch.setattr(delivery, "BUFFER", 2000)
    monkeypatch.setattr(os, "fsync", os.fstat)
    monkeypatch.setattr(os, "fdatasync", os.fstat)
    monkeypatch.setattr(segments, "sync_all", os.fstat)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def served(root):
    """Serves; what still does is stopped in the end."""
    from tests.store.journaled import Served

    all_served = []

    def served(**named):
        all_served.append(Served(root, **named))
        return all_served[-1]

    yield served
    for one in all_served:
        one.stop()


@pytest.fixture
def disk(tmp_path):
    """Makes an ext4 of its own, 32 MiB; where that cannot be, the test is skipped."""
    mounted = []

    def disk(*options):
        image, place = tmp_path / "disk", tmp_path / "mounted"
        place.mkdir()
        image.write_bytes(b"")
        os.truncate(image, 32 << 20)
        _do("mkfs.ext4", "-q", *options, str(image))
        _do("mount", "-o", "loop", str(image), str(place))
        mounted.append(place)
        return place

    yield disk
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _do(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no disk can be made here: {error}")
    if done.returncode:
        pytest.skip(f"no disk can be made here: {words[0]}: {done.stderr.strip()}")


@pytest.fixture
def store(root):
    return started(root)


@pytest.fixture
def joe(root, store):
    """Joe's folder, made."""
    opened(store)[0].release()
    return root / "example.net" / "joe"


@pytest.fixture(params=["journal", "files"])
def durability(request):
    return request.param
