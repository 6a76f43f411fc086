"""The other processes that serve the same maildrops, on this machine: each has a socket."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

#: What they say of a maildrop: who would like to have it, who may end a session for it, and
#: who held it and no longer does.
WAIT, TAKE, FREE = "wait", "take", "free"

#: What hears them is told the word, the maildrop, and by whom it was said.
Hear = Callable[[str, str, str], None]


class Neighbours(DatagramProtocol):
    """
    Those who have a socket in ``folder``, as we have.

    A word that is lost, or that nobody hears, is said again by whoever waits.
    Only our own user can come near: the folder is ours alone.
    """

    log = Logger()
    noisy = False

    def __init__(self, folder: str, reactor: Any) -> None:
        self._folder = folder
        self._reactor = reactor
        self._name = ""
        self._port: Any = None
        self._folder_fd = -1

    def start(self, hear: Hear) -> None:
        """Open our socket.  Without it there are no neighbours, and nothing else is wrong."""
        self._hear = hear
        self._name = f"{os.getpid()}.{secrets.token_hex(4)}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._port = self._reactor.listenUNIXDatagram(self._path(self._name), self, mode=0o600)
        except (OSError, CannotListenError) as error:
            self.log.warn(
                "no socket in {folder}, so other processes cannot ask for a maildrop: {why}",
                folder=self._folder,
                why=error,
            )

    def stop(self) -> None:
        """Close it."""
        port, self._port = self._port, None
        if port is not None:
            self._remove(self._name)
            port.stopListening()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def say(self, word: str, maildrop: str, to: str | None = None) -> None:
        """Tell one of them, or all."""
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
        except ConnectionRefusedError:  # it ended without a farewell
            self._remove(name)
        except OSError:
            pass  # it has just gone, or is no socket

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """One of them says something."""
        word, _, maildrop = datagram.decode("utf-8", "replace").partition(" ")
        self._hear(word, maildrop, os.path.basename(addr or ""))

    def _path(self, name: str) -> str:
        """Short, however long the way to the folder is: a socket's has a hundred octets."""
        return f"/proc/self/fd/{self._folder_fd}/{name}"

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(f"{self._folder}/{name}")
