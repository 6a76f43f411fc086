"""A recorder of what a store does to a folder: it wraps the functions that blocking code uses."""

from __future__ import annotations

import builtins
import errno
import io
import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from stat import S_ISREG
from threading import RLock
from typing import Any
from unittest.mock import patch

from crashes.disk import Disk, Model
from crashes.operations import (
    Link,
    Make,
    Note,
    Operation,
    Rename,
    Resize,
    Sync,
    SyncAll,
    Unlink,
    Write,
)
from postoffice.store.journal import redo, segments

#: What is asked before each operation: its kind and path.  It may raise an OSError: a fault.
Fault = Callable[[str, str], None]
KILLED = 9
#: Stands for the path of what syncfs syncs.
EVERYTHING = "everything"


def no_fault(kind: str, path: str) -> None:
    """All is well."""


class Recorder(AbstractContextManager["Recorder"]):
    """
    Records all that is done below ``root`` into ``trace``, in its order.

    Syncs are recorded, and not done: nothing depends on them but what a power
    cut leaves, and that is what the model says.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.base = Disk.read(root)
        self.trace: list[Operation] = []
        self.fault: Fault = no_fault
        #: What others do while everything is synced, the next time: it is not synced by that.
        self.meanwhile: Callable[[], object] | None = None
        self._ours = {self.base.root, *self.base.files, *self.base.folders}
        self._device = os.stat(root).st_dev
        self._lock = RLock()  # recoveries have threads
        self._left: int | None = None  # operations until we are killed
        self._patches = ExitStack()

    def __enter__(self) -> Recorder:
        for name in _WRAPPED:
            self._wrap(os, name)
        self._wrap(builtins, "open")
        self._patches.enter_context(patch.object(segments, "sync_all", self._sync_all))
        # in one order, so that a seed gives the same states again
        self._patches.enter_context(patch.object(redo, "THREADS", 1))
        return self

    def __exit__(self, *why: object) -> None:
        self._patches.close()

    @staticmethod
    def left_out(path: str) -> bool:
        """Whether a sync is not recorded, as if it were never called: see broken.py."""
        return False

    def note(self, what: str, *names: str, tokens: tuple[str, ...] = ()) -> None:
        """Write into the trace what somebody was told."""
        self.trace.append(Note(what, names, tokens))

    def check(self) -> None:
        """Nothing was done that was not recorded: the model has what the folder has."""
        model = Model(self.base)
        for operation in self.trace:
            model.do(operation)
        assert model.now.key() == Disk.read(self.root).key(), "something was not recorded"

    def rest(self) -> None:
        """What was done so far is on the disk, and the trace begins here."""
        self.check()
        self.base = Disk.read(self.root)
        self.trace = []

    def killed_after(self, count: int, action: Callable[[], object]) -> bool:
        """Run this in another process, to be killed before its next operation; whether it was."""
        reading, writing = os.pipe()
        before = len(self.trace)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that it has no part in
            child = os.fork()
        if not child:
            self._left = count
            self._killed = lambda: self._tell(writing, before, KILLED)
            try:
                action()
            except BaseException:
                traceback.print_exc()
                self._tell(writing, before, 1)
            self._tell(writing, before, 0)
        os.close(writing)
        with open(reading, "rb") as told:
            self.trace += pickle.loads(told.read())
        self._ours |= {one.inode for one in self.trace if isinstance(one, Make)}
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED), "what ran in the other process has failed"
        return status == KILLED

    def _tell(self, fd: int, since: int, status: int) -> None:
        with self._lock:
            octets = pickle.dumps(self.trace[since:])
            while octets:
                octets = octets[_real(os.write)(fd, octets) :]
            os._exit(status)

    # -- what is wrapped -----------------------------------------------------------

    def _wrap(self, module: Any, name: str) -> None:
        real = getattr(module, name)
        ours = getattr(self, f"_{name}")

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return ours(real, *args, **kwargs)

        wrapped.real = real
        self._patches.enter_context(patch.object(module, name, wrapped))

    def _about_to(self, kind: str, path: str) -> None:
        self.fault(kind, path)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._killed()

    def _is_ours(self, path: Any, dir_fd: int | None = None) -> bool:
        if isinstance(path, int):
            return self._is_our_fd(path)
        path = os.fspath(path)
        if dir_fd is not None and not os.path.isabs(path):
            return self._is_our_fd(dir_fd)
        return isinstance(path, str) and path.startswith(self.root + "/")

    def _is_our_fd(self, fd: int) -> bool:
        status = os.fstat(fd)
        return status.st_dev == self._device and status.st_ino in self._ours

    def _place(self, path: str, dir_fd: int | None = None) -> tuple[int, str]:
        """The folder's inode, and the name in it."""
        head, name = os.path.split(path)
        return os.stat(head or ".", dir_fd=dir_fd).st_ino, name

    def _made(self, path: str, inode: int, dir_fd: int | None, *, is_folder: bool) -> None:
        folder, name = self._place(path, dir_fd)
        self._ours.add(inode)
        self.trace.append(Make(folder, name, inode, is_folder))

    def _open(self, real, file, *args, **kwargs):
        if real is not _real_open:
            return self._open_fd(real, file, *args, **kwargs)
        mode = args[0] if args else kwargs.get("mode", "r")
        if not set(mode) & set("wax+") or not self._is_ours(file):
            return real(file, *args, **kwargs)
        assert "b" in mode, "text is not written here"
        raw = _Raw(self, file, mode.replace("b", ""), kwargs.get("closefd", True))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def _open_fd(self, real, path, flags, mode=0o777, *, dir_fd=None):
        if not self._is_ours(path, dir_fd):
            return real(path, flags, mode, dir_fd=dir_fd)
        writes = flags & (os.O_CREAT | os.O_TRUNC)
        if not writes:
            return real(path, flags, mode, dir_fd=dir_fd)
        there = True
        try:
            os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            there = False
        if there and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not there:
            self._about_to("make", path)
        fd = real(path, flags, mode, dir_fd=dir_fd)
        inode = os.fstat(fd).st_ino
        if not there:
            self._made(path, inode, dir_fd, is_folder=False)
        elif flags & os.O_TRUNC:
            self.trace.append(Resize(inode, 0))
        return fd

    def _mkdir(self, real, path, mode=0o777, *, dir_fd=None):
        if self._is_ours(path, dir_fd):
            self._about_to("make", path)
            real(path, mode, dir_fd=dir_fd)
            self._made(path, os.stat(path, dir_fd=dir_fd).st_ino, dir_fd, is_folder=True)
        else:
            real(path, mode, dir_fd=dir_fd)

    def _write(self, real, fd, octets):
        if not self._is_our_file(fd):
            return real(fd, octets)
        self._about_to("write", _name(fd))
        written = real(fd, octets)
        # behind it, wherever it began: where the file ended, if it was opened to append
        self._written(fd, os.lseek(fd, 0, os.SEEK_CUR) - written, octets, written)
        return written

    def _pwrite(self, real, fd, octets, offset):
        self._about_to("write", _name(fd))
        written = real(fd, octets, offset)
        self._written(fd, offset, octets, written)
        return written

    def _written(self, fd: int, offset: int, octets: Any, written: int) -> None:
        inode = os.fstat(fd).st_ino
        self.trace.append(Write(inode, offset, bytes(memoryview(octets)[:written])))

    def _is_our_file(self, fd: int) -> bool:
        return S_ISREG(os.fstat(fd).st_mode) and self._is_our_fd(fd)

    def _ftruncate(self, real, fd, size):
        if self._is_our_file(fd):
            self._about_to("write", _name(fd))
            real(fd, size)
            self.trace.append(Resize(os.fstat(fd).st_ino, size))
        else:
            real(fd, size)

    def _link(self, real, source, target, *, src_dir_fd=None, dst_dir_fd=None, **more):
        self._about_to("link", target)
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)
        inode = os.stat(target, dir_fd=dst_dir_fd, follow_symlinks=False).st_ino
        self.trace.append(Link(inode, *self._place(target, dst_dir_fd)))

    def _rename(self, real, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        self._about_to("rename", target)
        places = (*self._place(source, src_dir_fd), *self._place(target, dst_dir_fd))
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self.trace.append(Rename(*places))

    def _unlink(self, real, path, *, dir_fd=None):
        if self._is_ours(path, dir_fd):
            self._about_to("unlink", path)
            folder, name = self._place(path, dir_fd)
            real(path, dir_fd=dir_fd)
            self.trace.append(Unlink(folder, name))
        else:
            real(path, dir_fd=dir_fd)

    _replace, _remove, _rmdir = _rename, _unlink, _unlink

    def _fsync(self, real, fd):
        if not self._is_our_fd(fd):
            return
        path = _name(fd)
        if self.left_out(path):
            return
        try:
            self._about_to("sync", path)
        except OSError:
            self.trace.append(Sync(os.fstat(fd).st_ino, path, failed=True))
            raise
        self.trace.append(Sync(os.fstat(fd).st_ino, path))

    _fdatasync = _fsync

    def _sync_all(self, fd: int) -> None:
        try:
            self._about_to("sync all", _name(fd))
        except OSError:
            self.trace.append(SyncAll(failed=True))
            raise
        if not self.left_out(EVERYTHING):
            self.trace.append(SyncAll())
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def _not_recorded(self, real, *args, **kwargs):
        raise AssertionError(f"the recorder does not know {real.__name__}")

    def _copy_file_range(self, real, source, target, count, offset_src=None, offset_dst=None):
        if not self._is_our_file(target):
            return real(source, target, count, offset_src, offset_dst)
        assert offset_src is not None, "it is said where the octets are"
        assert offset_dst is None, "they are written where the file is"
        return os.write(target, os.pread(source, count, offset_src))

    _sendfile = _writev = _pwritev = _truncate = _not_recorded
    _symlink = _mkfifo = _posix_fallocate = _sync = _renames = _not_recorded


#: Functions of os; all others that change a disk are there to say that they are not known.
_WRAPPED = [
    *("open", "mkdir", "write", "pwrite", "ftruncate", "link", "rename", "replace", "unlink"),
    *("remove", "rmdir", "fsync", "fdatasync", "sendfile", "copy_file_range", "writev"),
    *("pwritev", "truncate", "symlink", "mkfifo", "posix_fallocate", "sync", "renames"),
]
_real_open = builtins.open


def _real(function: Any) -> Any:
    return getattr(function, "real", function)


def _name(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


class _Raw(io.FileIO):
    """A file that was opened for writing."""

    def __init__(self, recorder: Recorder, file: Any, mode: str, closefd: bool) -> None:
        self._recorder = recorder
        super().__init__(file, mode, closefd, lambda path, flags: os.open(path, flags, 0o666))

    def write(self, octets: Any) -> int:
        return os.write(self.fileno(), octets)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size
