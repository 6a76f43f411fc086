"""Tells systemd what the daemon does, by sd_notify(3)'s protocol; no library is needed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from postoffice.util.reactor import IReactor

log = Logger("postoffice")


class Systemd:
    """
    The service manager, if it has named a socket in ``environment``; otherwise nothing is sent.

    The variables are removed, so that child processes do not inherit them.  While the
    daemon is ready, the manager gets signs of life, twice as often as it expects them:
    they stop if the reactor hangs.
    """

    def __init__(self, environment: MutableMapping[str, str], reactor: IReactor) -> None:
        name = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._process = environment.pop("WATCHDOG_PID", "")
        self._expected = environment.pop("WATCHDOG_USEC", "")
        self._signs = LoopingCall(self._tell, "WATCHDOG=1")
        self._signs.clock = reactor

    def ready(self, status: str) -> None:
        """The daemon serves clients: it has started, or a reload has ended."""
        self._tell("READY=1", f"STATUS={status}")
        ours = self._process in ("", str(os.getpid()))
        if self._address and ours and self._expected.isdecimal() and not self._signs.running:
            self._signs.start(max(int(self._expected), 1) / 2e6)

    def reloading(self) -> None:
        """A reload begins; ``ready`` reports its end."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The daemon stops; it goes on giving signs of life while its sessions end."""
        self._tell("STOPPING=1")

    def stopped(self) -> None:
        """Nothing runs any more."""
        if self._signs.running:
            self._signs.stop()

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                message = "\n".join(lines).encode()
                manager.sendto(message, socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.warn("telling systemd {what} failed: {why}", what=lines[0], why=error.strerror)
