"""
A disk that fails on command: a loop device over the one file of a FUSE file system of our own.

The file system is served by a process of its own (this file as a script, ``serve``), which speaks
the kernel's protocol on /dev/fuse itself.  What was written and not flushed lies in the
device's cache, as in a real disk's: a power cut loses any part of it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

SIZE = 448 << 20
BLOCK = 4096
#: Seconds after which the kernel or a tool will never answer.
NEVER = 60

#: What can be wrong with the device: nothing; each write fails, or half of it is done; there is
#: no room below it; a flush fails, and what was in the cache is gone; and one that lies:
#: all is well, but what was in the cache is gone.
WELL, FAILS, TEARS, FULL, LOSES_CACHE, LIES = "well", "fails", "tears", "full", "loses", "lies"
#: Where it goes wrong, if not everywhere.
TEXTS, APPLIED = "texts", "applied"
_JOURNALED = b"PostJrnl"  # so begin the blocks of the journal with messages


def missing() -> str:
    """Why there can be no such device here; "" if there can."""
    if os.geteuid():
        return "only root can mount a device that fails"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return f"there is no {path} here"
    for program in ("losetup", "mkfs.ext4", "e2fsck", "mount", "umount"):
        if not shutil.which(program):
            return f"there is no {program} here"
    return ""


class Device:
    """An ext4 on such a device, mounted at ``root``; ``faults`` is how often something failed."""

    def __init__(self, folder: Path, seed: object) -> None:
        self.root = folder / "disk"
        self._below = folder / "below"
        self._images = folder
        self._seed = Random(str(seed))
        self._loop = ""
        for path in (self.root, self._below):
            path.mkdir()
        now, stable = str(folder / "now"), str(folder / "stable")
        with open(now, "wb") as image:
            image.truncate(SIZE)
        _run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), now)
        _run("cp", "--sparse=always", now, stable)
        self._serve(str(self._seed.random()))

    def _serve(self, seed: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._images), str(self._below), seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._ask("well")
        self._loop = _run("losetup", "-f", "--show", str(self._below / "disk"))
        _run("e2fsck", "-fy", self._loop, check=False)  # as a boot does behind a power cut
        _run("mount", self._loop, str(self.root))

    def _ask(self, command: str, **more: object) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"command": command, **more}) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the server of the device has gone"
        return int(answer)

    def be(self, what: str, *, share: float = 1.0, only: str = "") -> int:
        """
        From now on it is so, for such a ``share`` of its requests; how often it was before.

        ``only``: what is written goes wrong where a message's text is in it (TEXTS), or
        that text is not in the journal (APPLIED): never what is the file system's own, which would
        be read-only from then on.
        """
        return self._ask(what, share=share, only=only)

    def hold(self) -> None:
        """What is not on the disk by now, a power cut takes, at least in part."""
        self._ask("cut")

    def cut_power(self) -> None:
        """
        The power goes, when ``hold`` was called, and comes again, with a device that is well.

        No process may have files open there by then.
        """
        self._unmount()
        self._serve(str(self._seed.random()))

    def close(self) -> None:
        self._unmount()

    def _unmount(self) -> None:
        for target in (self.root, None, self._below):
            if target is None:
                if self._loop:
                    _run("losetup", "-d", self._loop, check=False)
                    self._loop = ""
            elif os.path.ismount(target):
                _run("umount", str(target), check=False)
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(NEVER)
        if self._server.stdout is not None:
            self._server.stdout.close()


@contextmanager
def device(folder: Path, seed: object) -> Iterator[Device]:
    """One that is gone in the end, whatever comes of it."""
    one = Device(folder, seed)
    try:
        yield one
    finally:
        one.close()


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=NEVER)
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


# -- the server -----------------------------------------------------------------

_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS = 1, 2, 3, 4, 14, 15, 16, 17
_RELEASE, _FSYNC, _FLUSH, _INIT, _ACCESS, _INTERRUPT, _DESTROY, _BATCH = (
    18,
    20,
    25,
    26,
    34,
    36,
    38,
    42,
)
_FILE = 2  # the node of the only file
_MOST = 1 << 20  # octets of one request
_BIG_WRITES, _MAX_PAGES, _DIRECT = 1 << 5, 1 << 22, 1


class Failed(Exception):
    """A request that gets this error."""


class Server:
    """Serves one file, and does with it what it is told."""

    def __init__(self, images: str, mount: str, seed: str) -> None:
        self._now = os.open(f"{images}/now", os.O_RDWR)
        self._stable = os.open(f"{images}/stable", os.O_RDWR)
        self._cache: dict[int, None] = {}  # the blocks that were written and not flushed
        self._random = Random(seed)
        self._mode, self._share, self._only, self._faults = WELL, 1.0, "", 0
        self._cut = False
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        self._mount = mount
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0"
        if libc.mount(b"disk", mount.encode(), b"fuse.disk", 0, options.encode()):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), mount)

    def run(self) -> None:
        """Until nobody commands any more, and the file system is unmounted."""
        try:
            self._serve()
        finally:
            self._revert(list(self._cache))  # after a power cut nobody has what was not flushed

    def _serve(self) -> None:
        waiting = [self._fuse, 0]
        while self._fuse in waiting:
            ready, _, _ = select.select(waiting, [], [])
            if 0 in ready:
                line = sys.stdin.readline()
                if line:
                    print(self._obey(**json.loads(line)), flush=True)
                else:
                    waiting.remove(0)
            if self._fuse in ready:
                try:
                    self._answer(os.read(self._fuse, _MOST + 4096))
                except OSError as error:
                    if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EINTR):
                        raise
                    if error.errno == errno.ENODEV:
                        return

    def _obey(self, command: str, share: float = 1.0, only: str = "") -> int:
        faults, self._faults = self._faults, 0
        if command == "cut":
            lucky = [one for one in self._cache if self._random.random() < 0.5]
            self._keep(lucky)
            self._cut, self._mode = True, WELL
        else:
            self._mode, self._share, self._only = command, share, only
        return faults

    def _keep(self, blocks: list[int]) -> None:
        """They are where no power cut takes them."""
        for block in blocks:
            os.pwrite(self._stable, os.pread(self._now, BLOCK, block * BLOCK), block * BLOCK)

    def _revert(self, blocks: list[int]) -> None:
        """What was written to them is gone."""
        for block in blocks:
            os.pwrite(self._now, os.pread(self._stable, BLOCK, block * BLOCK), block * BLOCK)

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in (_FORGET, _BATCH, _INTERRUPT):
            return
        number, body = 0, b""
        try:
            body = self._done(opcode, node, memoryview(request)[_IN.size :])
        except Failed as failed:
            self._faults += 1
            number = failed.args[0]
        with suppress(FileNotFoundError):  # it was interrupted
            os.write(self._fuse, _OUT.pack(_OUT.size + len(body), -number, unique) + body)

    def _done(self, opcode: int, node: int, given: memoryview) -> bytes:
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", given)
            return os.pread(self._now, size, offset)
        if opcode == _WRITE:
            _, offset, size = struct.unpack_from("<QQI", given)
            self._write(offset, given[40 : 40 + size])
            return struct.pack("<II", size, 0)
        if opcode == _FSYNC:
            self._flush()
            return b""
        if opcode == _INIT:
            flags = _BIG_WRITES | _MAX_PAGES
            return struct.pack(
                "<IIIIHHIIHH8I", 7, 31, 0, flags, 16, 12, _MOST, 1, _MOST // 4096, 0, *[0] * 8
            )
        if opcode == _LOOKUP:
            if bytes(given).rstrip(b"\0") != b"disk":
                raise Failed(errno.ENOENT)
            return struct.pack("<4QII", _FILE, 0, 3600, 3600, 0, 0) + _attr(_FILE)
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + _attr(node)
        if opcode == _OPEN:
            return struct.pack("<QII", 0, _DIRECT, 0)
        if opcode == _STATFS:
            return struct.pack("<5Q10I", *[1 << 20] * 5, BLOCK, 255, BLOCK, *[0] * 7)
        if opcode in (_RELEASE, _FLUSH, _ACCESS, _DESTROY):
            return b""
        raise Failed(errno.ENOSYS)

    def _strikes(self, *modes: str) -> bool:
        return self._mode in modes and self._random.random() < self._share

    def _write(self, offset: int, octets: memoryview) -> None:
        hit = self._is_meant(bytes(octets))
        if hit and self._strikes(TEARS):
            self._put(offset, octets[: len(octets) // 2 // 512 * 512])
            raise Failed(errno.EIO)
        if hit and self._strikes(FAILS):
            raise Failed(errno.EIO)
        if hit and self._strikes(FULL):
            raise Failed(errno.ENOSPC)
        self._put(offset, octets)

    def _is_meant(self, octets: bytes) -> bool:
        if not self._only:
            return True
        journaled = self._only == APPLIED and _JOURNALED in octets
        return b"Subject: " in octets and not journaled

    def _put(self, offset: int, octets: memoryview) -> None:
        if octets:
            os.pwrite(self._now, octets, offset)
            end = (offset + len(octets) - 1) // BLOCK + 1
            self._cache |= dict.fromkeys(range(offset // BLOCK, end))

    def _flush(self) -> None:
        if self._strikes(LOSES_CACHE, LIES):
            lies = self._mode == LIES
            self._revert(list(self._cache))
            self._cache.clear()
            if not lies:
                raise Failed(errno.EIO)
            self._faults += 1
        if not self._cut:
            self._keep(list(self._cache))
            self._cache.clear()


def _attr(node: int) -> bytes:
    if node == _FILE:
        mode, size = stat.S_IFREG | 0o600, SIZE
    else:
        mode, size = stat.S_IFDIR | 0o700, 0
    return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
