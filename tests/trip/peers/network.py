"""A network of the tests' own: port 25, addresses that others have, and no way out of it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

import pytest

T = TypeVar("T")
_NEWNET = 0x40000000  # CLONE_NEWNET of unshare(2)
_OWN = "/proc/thread-self/ns/net"

#: What the network has, beside 127.0.0.1: all addresses of it are here, and none is told of as
#: this machine's, so that those of others are others for the office.  It takes them for public.
ADDRESSES = "11.0.0.0/16"


class Network:
    """A network namespace; what is begun within ``entered`` lives in it."""

    def __init__(self) -> None:
        if os.geteuid():
            pytest.skip("only root can make a network of its own")
        if shutil.which("ip") is None:
            pytest.skip("ip (iproute2) is not installed")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._outside = os.open(_OWN, os.O_RDONLY)
        self._inside = -1
        self._errors: list[str] = []
        making = Thread(target=self._make)  # a thread may leave its network
        making.start()
        making.join()
        if self._errors:
            pytest.skip(f"no network of our own can be made: {self._errors}")

    def _make(self) -> None:
        if self._libc.unshare(_NEWNET):
            self._errors.append(os.strerror(ctypes.get_errno()))
            return
        self._inside = os.open(_OWN, os.O_RDONLY)
        for words in ("link set lo up", f"route add local {ADDRESSES} dev lo"):
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
            if done.returncode:
                self._errors.append(done.stderr)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the processes and threads that it starts, are in the network."""
        self._go(self._inside)
        try:
            yield
        finally:
            self._go(self._outside)

    def within(self, steps: Iterator[T]) -> Iterator[T]:
        """Take the two steps of a fixture in the network, and be outside in between."""
        with self.entered():
            made = next(steps)
        yield made
        with self.entered():
            next(steps, None)

    def _go(self, where: int) -> None:
        failed = self._libc.setns(where, _NEWNET)
        assert not failed, os.strerror(ctypes.get_errno())

    def close(self) -> None:
        os.close(self._inside)
        os.close(self._outside)
