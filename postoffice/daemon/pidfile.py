"""
The file that names the daemon's process, as twistd writes it.

Plain functions; they block.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

#: Waits for the end of its input, which is the daemon's, and takes its file away.
_AWAY = """\
trap '' HUP INT TERM
cat >/dev/null
[ "$(cat "$1" 2>/dev/null)" != "$2" ] || rm -f "$1"
"""
#: Octets of a file with a number.
_NUMBER = 32


def forget_another(path: str) -> None:
    """
    Remove a file that is left over: empty, or of a process that is no post office under twistd.

    After a restart of the machine any program may have that number.  What
    cannot be told is left to twistd.
    """
    with suppress(OSError, ValueError):
        with open(path, "rb") as file:
            text = file.read(_NUMBER)
        if not text.strip() or _is_another(int(text)):
            os.unlink(path)


def _is_another(pid: int) -> bool:
    """Whether that process lives and is another program.  Raises OSError where none can tell."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(1 << 16).split(b"\0")
    return not (b"postoffice" in words and any(b"twist" in word for word in words))


def remove_at_the_end(path: str) -> subprocess.Popen[bytes]:
    """
    See that the file goes when this process has ended, however it ends.

    For root, who is about to become somebody that may not remove it: a shell
    waits for the end, and does nothing else.
    """
    words = ["/bin/sh", "-c", _AWAY, "postoffice-pidfile", os.path.abspath(path), str(os.getpid())]
    return subprocess.Popen(words, stdin=subprocess.PIPE, cwd="/", start_new_session=True)  # noqa: S603
