"""What the process may do: how many files it may open, and as which user."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from postoffice.daemon import preload
from postoffice.model.errors import StartupError

log = Logger()

#: Open files that are no connection's: log, database, directories, threads.
OF_THE_HOUSE = 100
#: Open files of one client: its connection, its maildrop's lock, a message.
OF_A_CLIENT = 3


def raise_open_files() -> int:
    """Allow as many open files as the system lets us; how many clients that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError) as error:
            log.warn("the limit of open files stays {soft}: {error}", soft=soft, error=error)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return max(1, (soft - OF_THE_HOUSE) // OF_A_CLIENT)


@dataclass(frozen=True)
class Identity:
    """A user to become: his name, or his number where he has none, and his groups."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Identity:
        """The user of a name.  Raises KeyError."""
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, entry.pw_gid)

    @property
    def groups(self) -> list[int]:
        try:
            pwd.getpwnam(self.name)
        except KeyError:
            return [self.gid]
        return os.getgrouplist(self.name, self.gid)


def identity(user: str | None, state: str) -> Identity | None:
    """
    Whom root becomes before anything in the state folder is touched; None for nobody.

    ``user``, where that is another than root; else the owner of the state
    folder, or of the one that it will be made in: what is in there is his, and
    so are the links that he has put there.  Raises KeyError, OSError.
    """
    if user is not None and Identity.named(user).uid != 0:
        return Identity.named(user)
    status = os.stat(_nearest(state))
    if status.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = str(status.st_uid)
    return Identity(name, status.st_uid, status.st_gid)


def _nearest(path: str) -> str:
    """The path, or what is there of it."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def become(user: str | None, state: str) -> None:
    """
    Where this is root, become that user, or the owner of the state folder, for good.

    Root stays root where neither is another.  Raises StartupError.
    """
    if os.geteuid() != 0:
        return
    who: Any = user
    try:
        who = identity(user, state)
        if who is not None:
            preload.load()
            os.setgroups(who.groups)
            os.setgid(who.gid)
            os.setuid(who.uid)
    except (KeyError, OSError) as error:
        name = who.name if isinstance(who, Identity) else who or f"the owner of {state}"
        raise StartupError(f"user: cannot become {name}: {error}") from error


def is_root() -> bool:
    """Whether the process may become somebody else."""
    return os.geteuid() == 0


def will_become(user: str | None, state: str) -> bool:
    """Whether ``become`` makes this process another user's."""
    try:
        return os.geteuid() == 0 and identity(user, state) is not None
    except (KeyError, OSError):
        return False  # become says why not


@contextmanager
def acting(who: Identity | None) -> Iterator[None]:
    """
    Do as that user may, and be root again behind it; None, and who is not root, change nothing.

    For what is looked at or made, not for what others sent: root is only set aside.
    """
    if who is None or os.geteuid() != 0:
        yield
        return
    preload.load()
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups(who.groups)
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


@contextmanager
def as_root() -> Iterator[None]:
    """Be root again for a moment, inside of ``acting``; elsewhere this changes nothing."""
    if os.getuid() != 0 or os.geteuid() == 0:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    os.seteuid(0)
    os.setegid(0)
    os.setgroups([])
    try:
        yield
    finally:
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)


def warn(user: str | None) -> None:
    """Say in the log where the process is not the user that it should be, or lacks his Python."""
    wanted = None if user is None else pwd.getpwnam(user).pw_uid
    if os.geteuid() == 0 and wanted != 0:
        log.warn("the post office runs as root; set user: in its configuration")
    elif user is None and os.getuid() != _STARTED:
        log.warn("no user: is set, so it runs as the owner of the state folder, {me}", me=name())
    elif wanted is not None and wanted not in (0, os.geteuid()):
        log.warn("not started by root, so it does not become {user}", user=user)
    why = preload.complaint(name()) if os.getuid() != _STARTED else ""
    if why:
        log.warn("{why}", why=why)


#: Who has started the process.
_STARTED = os.getuid()


def name() -> str:
    """The name of the user that the process is, or his number where he has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
