"""A disk to measure on: ext4 with a journal, as users have it, in an image on a loop device."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path


def _run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def disk(gigabytes: int, *, wanted: bool = True):
    """
    A mounted folder, and a line that says what it is; gone afterwards.

    ext4 without a journal, as some virtual machines have it, creates files
    slowly for minutes after many were deleted: figures taken there say more
    of what was deleted before than of the server.
    """
    with tempfile.TemporaryDirectory(prefix="postoffice-bench-", dir="/var/tmp") as folder:
        image, mount, device = Path(folder, "image"), Path(folder, "disk"), ""
        mount.mkdir()
        os.chmod(folder, 0o755)
        os.chmod(mount, 0o755)
        try:
            if not wanted:
                raise OSError("not asked for")
            with image.open("wb") as file:
                file.truncate(gigabytes << 30)
            _run("mkfs.ext4", "-q", "-F", image)
            device = _run("losetup", "--find", "--show", "--direct-io=on", image)
            _run("mount", device, mount)
        except OSError as error:
            yield mount, f"a folder in /var/tmp, on the disk as it is ({error})"
            return
        finally:
            if device and not os.path.ismount(mount):
                _run("losetup", "--detach", device)
        try:
            yield mount, "ext4 with a journal, on a loop device with direct I/O"
        finally:
            try:
                _run("umount", mount)
            except OSError:  # somebody is in it: it goes when they do
                _run("umount", "--lazy", mount)
            _run("losetup", "--detach", device)


def syncs_per_second(folder: Path, threads: int, seconds: float = 2.0) -> float:
    """The limit of the disk: files of 4 KiB made, synced, linked, and their folder synced."""
    counts = [0] * threads
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        mine = folder / f"raw-{threads}-{number}"
        for name in ("tmp", "new"):
            (mine / name).mkdir(parents=True)
        directory = os.open(mine / "new", os.O_RDONLY)
        while time.monotonic() < end:
            name = f"{counts[number]}"
            fd = os.open(mine / "tmp" / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, b"x" * 4096)
            os.fsync(fd)
            os.close(fd)
            os.link(mine / "tmp" / name, mine / "new" / name)
            os.unlink(mine / "tmp" / name)
            os.fsync(directory)
            counts[number] += 1
        os.close(directory)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = time.monotonic()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.monotonic() - began)
