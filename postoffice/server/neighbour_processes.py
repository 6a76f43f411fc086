"""Messages to other processes on this machine that serve the same maildrops, over sockets."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from postoffice.util.reactor import IReactor

#: The messages, each about one maildrop: the sender waits for it; the sender waits for it and may
#: take it over; the sender has released it.
WAIT, TAKE, FREE = "wait", "take", "free"
#: Octets of a message at most.
PACKET = 8192

#: Called for each message: the word, the maildrop, and the sender's socket name.
Hear = Callable[[str, str, str], None]


class Neighbours(DatagramProtocol):
    """
    The processes that have a socket in ``folder``, as this one has.

    A message may be lost: a waiting login repeats it.  Only processes of our own
    user can send messages, as the folder is accessible to that user only.
    """

    log = Logger()
    noisy = False

    def __init__(self, folder: str, reactor: IReactor) -> None:
        self._folder = folder
        self._reactor = reactor
        self._name = ""
        self._port: Any = None
        self._folder_fd = -1

    def start(self, hear: Hear) -> None:
        """Open our socket.  If that fails, log it and work without neighbours."""
        self._hear = hear
        self._name = f"{os.getpid()}.{secrets.token_hex(4)}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._port = self._reactor.listenUNIXDatagram(
                self._path(self._name), self, PACKET, 0o600
            )
        except (OSError, CannotListenError) as error:
            self.log.warn(
                "opening a socket in {folder} failed: {why}; "
                "other processes cannot ask for a maildrop",
                folder=self._folder,
                why=error,
            )

    def stop(self) -> None:
        """Close our socket."""
        port, self._port = self._port, None
        if port is not None:
            self._remove(self._name)
            port.stopListening()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def say(self, word: str, maildrop: str, to: str | None = None) -> None:
        """Send a message to one process, or to all."""
        if self._port is None:
            return
        text = f"{word} {maildrop}".encode("utf-8", "replace")
        with suppress(OSError):
            for name in os.listdir(self._folder) if to is None else [to]:
                if name != self._name:
                    self._send(text, name)

    def _send(self, text: bytes, name: str) -> None:
        try:
            self._port.write(text, self._path(name))
        except ConnectionRefusedError:  # that process ended without removing its socket
            self._remove(name)
        except OSError:
            pass  # the process has just ended, or this is no socket

    def datagramReceived(  # type: ignore[override]  # this address is a path
        self, datagram: bytes, addr: str | None
    ) -> None:
        """A message has arrived."""
        word, _, maildrop = datagram.decode("utf-8", "replace").partition(" ")
        self._hear(word, maildrop, os.path.basename(addr or ""))

    def _path(self, name: str) -> str:
        """A short path, however long the folder's is: a socket's path has about 100 octets."""
        return f"/proc/self/fd/{self._folder_fd}/{name}"

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(f"{self._folder}/{name}")
