"""Postfix's ``smtp-sink``: a server that takes all mail, throws it away and counts it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Self


def start(port: int, *more: str, **how: object) -> subprocess.Popen[bytes]:
    """Start it on a port of loopback; it answers when this returns."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise SystemExit("smtp-sink (of Postfix) is not installed")
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    words = [program, *user, "-m", "200", *more, f"127.0.0.1:{port}", "1000"]
    running = subprocess.Popen(words, cwd="/", **how)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return running
        if running.poll() is not None:
            raise SystemExit("smtp-sink has ended")
        time.sleep(0.01)


class Sink:
    """A sink that runs; it tells how many messages it has."""

    def __init__(self, port: int) -> None:
        self._counts = tempfile.TemporaryFile()
        self._running = start(port, "-c", stdout=self._counts)
        self._waited_for = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._running.wait()
        self._counts.close()

    @property
    def messages(self) -> int:
        """How many messages came."""
        file = self._counts.fileno()
        end = os.pread(file, 200, max(0, os.fstat(file).st_size - 200))
        counts = re.findall(rb"mesg=(\d+)\r", end)
        return int(counts[-1]) if counts else 0

    def wait_for(self, count: int, seconds: float = 300) -> None:
        """Until so many more messages have come."""
        self._waited_for += count
        end = time.monotonic() + seconds
        while (there := self.messages) < self._waited_for:
            if time.monotonic() > end:
                raise SystemExit(f"{there} of {self._waited_for} messages have come")
            time.sleep(0.005)
        if there > self._waited_for:
            raise SystemExit(f"{there} messages have come, in place of {self._waited_for}")
