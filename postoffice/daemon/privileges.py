"""What the process may do: how many files it may open, and as which user it runs."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twisted.logger import Logger

from postoffice.daemon import plugin_makers, preload
from postoffice.model.errors import StartupError
from postoffice.server.connection_limits import FILES_OF_CLIENT, FILES_OF_DAEMON

log = Logger()


def raise_open_files() -> int:
    """Raise the limit of open files as far as possible; return for how many clients it suffices."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError) as error:
            log.warn(
                "raising the limit of open files failed, it stays {soft}: {error}",
                soft=soft,
                error=error,
            )
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return max(1, (soft - FILES_OF_DAEMON) // FILES_OF_CLIENT)


@dataclass(frozen=True)
class Identity:
    """A user to change to: the name (the number if there is no name), and the groups."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Identity:
        """Return the user of a name.  Raises KeyError."""
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
    Return the user that root changes to before it touches the state folder, or None.

    This is ``user``, unless that is root; else the owner of the state folder or of its
    nearest existing parent, because that user controls its files and links.  Raises
    KeyError, OSError.
    """
    if user is not None and Identity.named(user).uid != 0:
        return Identity.named(user)
    status = os.stat(nearest(state))
    if status.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = str(status.st_uid)
    return Identity(name, status.st_uid, status.st_gid)


def owner_of(user: str | None, state: str) -> Identity | None:
    """Return ``identity`` if this is root; None if the process cannot change its user."""
    return identity(user, state) if is_root() else None


def nearest(path: str, exists: Callable[[str], bool] = os.path.exists) -> str:
    """Return the path, or its nearest existing parent."""
    while not exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def become(user: str | None, state: str) -> None:
    """
    If this is root, change for good to that user or to the owner of the state folder.

    If neither is another user, the process stays root.  Raises StartupError.
    """
    if os.geteuid() != 0:
        return
    who: Identity | str | None = user
    try:
        who = identity(user, state)
        if who is not None:
            preload.load()
            plugin_makers.remember()
            os.setgroups(who.groups)
            os.setgid(who.gid)
            os.setuid(who.uid)
    except (KeyError, OSError) as error:
        name = who.name if isinstance(who, Identity) else who or f"the owner of {state}"
        raise StartupError(f"user: cannot become {name}: {error}") from error


def is_root() -> bool:
    """Whether the process may change its user."""
    return os.geteuid() == 0


def will_become(user: str | None, state: str) -> bool:
    """Whether ``become`` would change the user of this process."""
    try:
        return os.geteuid() == 0 and identity(user, state) is not None
    except (KeyError, OSError):
        return False  # become raises the reason


@contextmanager
def acting(who: Identity | None) -> Iterator[None]:
    """
    Act as that user, and as root again afterwards; no change for None, or if not root.

    Use it for our own actions, not with data from others: the process can still regain
    root.
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
    """Act as root again for a moment, inside of ``acting``; no change elsewhere."""
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
    """Log a warning if the process runs as an unexpected user, or cannot read its Python."""
    wanted = None if user is None else pwd.getpwnam(user).pw_uid
    if os.geteuid() == 0 and wanted != 0:
        log.warn("the post office runs as root; set user: in its configuration")
    elif user is None and os.getuid() != _STARTED:
        log.warn("no user: is set, so it runs as the owner of the state folder, {me}", me=name())
    elif wanted is not None and wanted not in (0, os.geteuid()):
        log.warn("not started by root, so it does not switch to user {user}", user=user)
    why = preload.complaint(name()) if os.getuid() != _STARTED else ""
    if why:
        log.warn("{why}", why=why)


#: The user who started the process.
_STARTED = os.getuid()


def name() -> str:
    """Return the name of the current user, or the number if there is no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
