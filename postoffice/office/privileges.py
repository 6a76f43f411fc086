"""What the process may do: how many files it may open, and as which user."""

from __future__ import annotations

import os
import pwd
import resource

from twisted.logger import Logger

from postoffice.errors import StartupError

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


def become(user: str | None) -> None:
    """
    Where this is root, become that user, for good.

    None leaves root as it is.  Raises StartupError.
    """
    if os.geteuid() != 0 or user is None:
        return
    try:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except (KeyError, OSError) as error:
        raise StartupError(f"user: cannot become {user}: {error}") from error


def warn(user: str | None) -> None:
    """Say in the log where the process is not the user that it should be."""
    if os.geteuid() == 0 and (user is None or pwd.getpwnam(user).pw_uid != 0):
        log.warn("the post office runs as root; set user: in its configuration")
    elif user is not None and pwd.getpwnam(user).pw_uid != os.geteuid():
        log.warn("not started by root, so it does not become {user}", user=user)
