"""Other processes, which can be talked to, and killed."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from os import write  # as it is, whatever a test makes of os.write

import pytest


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
