"""
The PID file, as twistd writes it.

The functions block.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

#: A shell script: waits until its input ends, because the daemon has, and removes the PID file.
_AWAY = """\
trap '' HUP INT TERM
cat >/dev/null
[ "$(cat "$1" 2>/dev/null)" != "$2" ] || rm -f "$1"
"""
#: The most octets of a PID file.
_NUMBER = 32


def remove_stale(path: str) -> None:
    """
    Remove a stale PID file: empty, or of a process that is no post office under twistd.

    After a restart of the machine another program may have this process id.  If it cannot
    be decided, twistd decides.
    """
    with suppress(OSError, ValueError):
        with open(path, "rb") as file:
            text = file.read(_NUMBER)
        if not text.strip() or _is_another(int(text)):
            os.unlink(path)


def _is_another(pid: int) -> bool:
    """Whether that process runs and is another program.  Raises OSError if this is unknown."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(1 << 16).split(b"\0")
    return not (b"postoffice" in words and any(b"twist" in word for word in words))


def remove_at_the_end(path: str) -> subprocess.Popen[bytes]:
    """
    Start a shell that removes the PID file when this process ends, however it ends.

    For root, before it changes to a user that may not remove the file.
    """
    words = ["/bin/sh", "-c", _AWAY, "postoffice-pidfile", os.path.abspath(path), str(os.getpid())]
    return subprocess.Popen(words, stdin=subprocess.PIPE, cwd="/", start_new_session=True)  # noqa: S603
