"""Examines this machine: disk, file system, open files, clock.  It blocks."""

from __future__ import annotations

import ctypes
import os
import re
import resource
from contextlib import suppress

from postoffice.doctor.findings import Finding, Report
from postoffice.server.connection_limits import FILES_OF_CLIENT, FILES_OF_DAEMON
from postoffice.store.journal.filesystem import file_system

#: The free share of the disk, or of its inodes, below which there is a warning or an error.
LITTLE, ALMOST_NOTHING = 0.10, 0.02
#: Free octets that are enough whatever the share is, and those below which there is an error.
ENOUGH, TOO_LITTLE = 50 << 30, 100 << 20
#: File systems in memory, and those on other machines, where locks and sync may not work.
MEMORY = frozenset({"tmpfs", "ramfs"})
REMOTE = re.compile(r"nfs|cifs|smb|9p|fuse|ceph|glusterfs|afs|vboxsf|virtiofs")
#: What adjtimex(2) returns if the clock is not synchronised; octets that are enough for its struct.
_NOT_KEPT, _TIMEX = 5, 512


def check_system(state: str, connections: int, process: int | None) -> list[Finding]:
    """Examine the machine; ``process`` is the id of the running daemon, if it runs."""
    return [
        *check_disk(state),
        *check_file_system(state),
        *check_open_files(connections, process),
        *check_clock(),
    ]


def check_disk(path: str) -> list[Finding]:
    """Examine the free space and inodes of a folder's file system."""
    report = Report("system", path)
    try:
        found = os.statvfs(path)
    except OSError as error:
        report.error(f"the state folder cannot be looked at: {error.strerror}")
        return report.findings
    free, whole = found.f_bavail * found.f_frsize, max(1, found.f_blocks * found.f_frsize)
    told = f"{100 * free // whole} % of the disk is free ({_sized(free)})"
    mend = "make room: postoffice maildrop list shows the largest maildrops"
    if free < TOO_LITTLE or (free / whole < ALMOST_NOTHING and free < ENOUGH):
        report.error(f"the disk is full: {told}; mail is refused", mend)
    elif free / whole < LITTLE and free < ENOUGH:
        report.warning(told, mend)
    else:
        report.ok(told)
    if found.f_files:  # 0 on btrfs, which has no fixed number
        share = found.f_favail / found.f_files
        told = f"{int(100 * share)} % of the inodes are free ({found.f_favail})"
        if share < ALMOST_NOTHING:
            report.error(f"there are hardly any inodes left: {told}", mend)
        elif share < LITTLE:
            report.warning(told, mend)
        else:
            report.ok(told)
    return report.findings


def _sized(octets: int) -> str:
    return f"{octets / (1 << 30):.1f} GiB" if octets >= 1 << 30 else f"{octets >> 20} MiB"


def check_file_system(path: str) -> list[Finding]:
    """Examine whether this file system keeps synced data over a power failure."""
    report = Report("system", path)
    try:
        kind = file_system(path)
    except OSError:
        return []  # check_disk reports why
    if kind in MEMORY:
        report.error(
            f"mail is kept in memory ({kind}): a restart of the machine loses it",
            "put the state folder on a disk",
        )
    elif REMOTE.search(kind):
        report.warning(
            f"mail is kept on the file system {kind}: whether it keeps its promises after a "
            "power failure depends on another program",
            "put the state folder on a disk of this machine with ext4 or XFS",
        )
    else:
        report.ok(f"mail is kept on the file system {kind}")
    return report.findings


def check_open_files(connections: int, process: int | None) -> list[Finding]:
    """Compare the limit of open files with ``limits.connections``."""
    report = Report("system")
    needed = FILES_OF_DAEMON + FILES_OF_CLIENT * connections
    most = _limit_of(process)
    if most == resource.RLIM_INFINITY or most >= needed:
        report.ok(f"enough files may be open for {connections} connections")
    else:
        enough = max(1, (most - FILES_OF_DAEMON) // FILES_OF_CLIENT)
        report.warning(
            f"{most} files may be open, which is enough for {enough} of the {connections} "
            "connections that limits.connections allows",
            f"raise the limit to {needed} (LimitNOFILE= in the systemd unit), or lower "
            "limits.connections",
        )
    return report.findings


def _limit_of(process: int | None) -> int:
    """Return the limit of open files of a process, or the highest that this one can have."""
    if process is not None:
        with suppress(OSError), open(f"/proc/{process}/limits", encoding="ascii") as file:
            for line in file:
                if line.startswith("Max open files"):
                    most = line.split()[4]
                    return resource.RLIM_INFINITY if most == "unlimited" else int(most)
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def check_clock() -> list[Finding]:
    """Examine whether something keeps the clock right (NTP)."""
    report = Report("system")
    kept = clock_is_kept()
    if kept:
        report.ok("the clock is kept right (NTP)")
    elif kept is None:
        report.note("whether the clock is kept right cannot be seen on this machine")
    else:
        report.warning(
            "nothing keeps the clock right: dates of mail and codes of logins go wrong",
            "start a time service (timedatectl set-ntp true, or install chrony)",
        )
    return report.findings


def clock_is_kept() -> bool | None:
    """Return whether the kernel's clock is synchronised (adjtimex(2)); None if not known."""
    try:
        answer: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _NOT_KEPT
