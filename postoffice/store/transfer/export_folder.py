"""
The folders of an export, and files in them: made and opened without following links.  Blocking.

All names are relative to an open folder, so that nobody who may write there can lead us elsewhere.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from postoffice.model.errors import CannotExport
from postoffice.store import drafts
from postoffice.store.files import FOLDER
from postoffice.util.atomic_file import sync_folder

#: Flags with which a file in a target is opened.
FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(path: str, below: Sequence[str], *, make: bool) -> Iterator[int | None]:
    """
    Open a folder; None if it is missing and ``make`` is False.

    ``path`` may be a link; the folders ``below`` may not.  Raises CannotExport, OSError.
    """
    fds: list[int] = []
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        yield _open_all(path, below, fds, make=make)
    except PermissionError as error:
        raise _not_allowed(path) from error
    finally:
        for fd in fds:
            os.close(fd)


def _open_all(path: str, below: Sequence[str], fds: list[int], *, make: bool) -> int | None:
    """Open the folders one after the other, add them to ``fds``, and return the last."""
    try:
        fds.append(os.open(path, FOLDER))
        for name in below:
            if make:
                make_in(fds[-1], name)
            fds.append(os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=fds[-1]))
    except FileNotFoundError:
        if make:
            raise
        return None
    return fds[-1]


def _not_allowed(path: str) -> CannotExport:
    user = str(os.geteuid())
    with suppress(KeyError):
        user = pwd.getpwuid(os.geteuid()).pw_name
    return CannotExport(
        f"permission denied: the post office runs as {user}, who may not write to {path}; name "
        "a folder of this user"
    )


def make_in(folder: int, name: str) -> None:
    """Make a folder with mode 0700, durably, if there is none.  Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return
    sync_folder(".", folder)


def check_owner(fd: int, what: str) -> None:
    """Raises CannotExport if another user owns this, and so could lead us elsewhere."""
    if os.fstat(fd).st_uid != os.geteuid():
        raise CannotExport(
            f"{what} belongs to another user than the post office: name a new one, or change "
            "its owner back"
        )


def replace_file(folder: int, name: str, octets: bytes) -> None:
    """Write a file so that it appears complete or not at all, durably.  Raises OSError."""
    part = f".{name}.part"
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    fd = drafts.create(part, folder, locked=False)
    try:
        drafts.write_all(fd, octets)
        os.fsync(fd)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    finally:
        os.close(fd)
    sync_folder(".", folder)
