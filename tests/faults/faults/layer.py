"""A layer over the functions by which a store reaches the disk: the n-th call fails."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any, NamedTuple
from unittest.mock import patch

from crashes.recorder import Recorder

from postoffice.store.journal import segments

#: Not an error: half of what shall be written is.
SHORT = "short"
_MAKES = os.O_CREAT | os.O_EXCL


class Call(NamedTuple):
    """One of the store's calls: the function, what it was about, and what can go wrong with it."""

    function: str
    path: str
    faults: tuple[str, ...]


_SPACE = ("ENOSPC", "EDQUOT")
_NAMES = ("EIO", "EACCES")
#: What can go wrong, by function; ``open`` that makes a file needs space besides.
FAULTS: dict[str, tuple[str, ...]] = {
    "open": (*_NAMES, "EMFILE"),
    "scandir": (*_NAMES, "EMFILE"),
    "listdir": (*_NAMES, "EMFILE"),
    "mkdir": (*_NAMES, *_SPACE),
    "link": (*_NAMES, *_SPACE),
    "rename": (*_NAMES, *_SPACE),
    "unlink": _NAMES,
    "rmdir": _NAMES,
    "stat": _NAMES,
    "lstat": _NAMES,
    "access": (),
    "fstat": ("EIO",),
    "chmod": _NAMES,
    "fchmod": ("EIO",),
    "utime": _NAMES,
    "read": ("EIO",),
    "pread": ("EIO",),
    "write": ("EIO", *_SPACE, SHORT),
    "pwrite": ("EIO", *_SPACE, SHORT),
    "ftruncate": ("EIO",),
    "fsync": ("EIO", *_SPACE),
    "fdatasync": ("EIO", *_SPACE),
    "sync_all": ("EIO", "ENOSPC"),
}
#: What the recorder must be told of, for it to know that it has failed.
_SYNCS = ("fsync", "fdatasync", "sync_all")


@dataclass
class Fault:
    """The n-th call from now goes wrong, and if it is ``lasting``, all that can from then on."""

    number: int
    kind: str
    lasting: bool = False
    met: Call | None = None

    def __str__(self) -> str:
        of = f", {self.met.function} {self.met.path}" if self.met else ""
        return f"{self.kind} at call {self.number}{' and later' * self.lasting}{of}"

    def strikes(self, number: int, call: Call) -> bool:
        """Whether this call goes wrong."""
        struck = number == self.number or (self.lasting and number > self.number)
        if not struck or self.kind not in call.faults:
            return False
        self.met = self.met or call
        return True


class Layer(AbstractContextManager["Layer"]):
    """
    Counts the calls that are about something below the recorder's root, and makes some fail.

    It lies over the recorder, which sees what gets through, and which syncs did not.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._root = recorder.root
        self.calls: list[Call] | None = None  # those that are counted
        self._fault: Fault | None = None
        self._inside = local()  # of a call, whatever that calls
        self._patches = ExitStack()

    def __enter__(self) -> Layer:
        for name in FAULTS:
            if name != "sync_all":
                self._wrap(os, name)
        self._wrap(builtins, "open")
        self._wrap(segments, "sync_all")
        return self

    def __exit__(self, *why: object) -> None:
        self._patches.close()

    @contextmanager
    def watching(self, fault: Fault | None = None) -> Iterator[list[Call]]:
        """Count what is called within this; this goes wrong."""
        calls = self.calls = []
        self._fault = fault
        try:
            yield calls
        finally:
            self.calls = self._fault = None

    def _wrap(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.calls is None or getattr(self._inside, "is_so", False):
                return real(*args, **kwargs)
            self._inside.is_so = True
            try:
                return self._count(real, name, args, kwargs)
            finally:
                self._inside.is_so = False

        wrapped.real = getattr(real, "real", real)  # type: ignore[attr-defined]
        self._patches.enter_context(patch.object(module, name, wrapped))

    def _count(self, real: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
        path = self._path(args[0] if args else ".", kwargs)
        if not path.startswith(self._root):
            return real(*args, **kwargs)
        faults = FAULTS[name]
        if name == "open" and len(args) > 1 and isinstance(args[1], int) and args[1] & _MAKES:
            faults += _SPACE
        call = Call(name, path[len(self._root) :], faults)
        assert self.calls is not None
        self.calls.append(call)
        if self._fault is None or not self._fault.strikes(len(self.calls), call):
            return real(*args, **kwargs)
        if self._fault.kind == SHORT:
            return real(args[0], memoryview(args[1])[: max(1, len(args[1]) // 2)], *args[2:])
        number = getattr(errno, self._fault.kind)
        if name in _SYNCS:
            return self._fail_to_sync(real, args[0], number)
        raise OSError(number, os.strerror(number), path)

    def _fail_to_sync(self, real: Callable[..., Any], fd: int, number: int) -> Any:
        """The recorder notes it: what it was for may be lost."""

        def fault(kind: str, path: str) -> None:
            raise OSError(number, os.strerror(number), path)

        with patch.object(self._recorder, "fault", fault):
            return real(fd)

    def _path(self, what: Any, kwargs: dict[str, Any]) -> str:
        if isinstance(what, int):
            return _path_of(what)
        path: str = os.fspath(what)
        folder = next((fd for key, fd in kwargs.items() if key.endswith("dir_fd") and fd), None)
        return path if folder is None or path.startswith("/") else f"{_path_of(folder)}/{path}"


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
