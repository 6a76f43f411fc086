"""Sessions at an old POP3 server, one after another until the work is done.  It blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from postoffice.model.errors import CannotImport
from postoffice.moving.patience import Patience
from postoffice.pop3.client_connection import POP3ClientConnection, POP3Failed
from postoffice.pop3.client_reply import ClientReply
from postoffice.pop3.client_url import POP3Server


@dataclass(frozen=True, kw_only=True)
class OldAccount:
    """An account at an old server."""

    server: POP3Server
    login: str
    password: str = field(repr=False)

    def connection(self) -> POP3ClientConnection:
        """A new connection, not opened yet."""
        return POP3ClientConnection(self.server, self.login, self.password)


class Stopped(Exception):
    """The import was stopped from outside; what is committed stays."""


class Stop:
    """Stops imports on other threads: they commit what is whole, and end."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()  # guards:
        self._open: set[POP3ClientConnection] = set()

    def set(self) -> None:
        """Stop now, also what waits for a server."""
        self._event.set()
        with self._lock:
            for connection in self._open:
                connection.abort()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait.  Raises Stopped."""
        if self._event.wait(seconds):
            raise Stopped

    def opened(self, connection: POP3ClientConnection) -> None:
        """From now on ``set`` ends this connection."""
        with self._lock:
            self._open.add(connection)
        if self._event.is_set():
            connection.abort()

    def closed(self, connection: POP3ClientConnection) -> None:
        """It has ended."""
        with self._lock:
            self._open.discard(connection)


class OldSessions:
    """Sessions of one account; ``wait`` waits between them, as ``Stop.wait`` does."""

    def __init__(
        self,
        account: OldAccount,
        patience: Patience,
        stop: Stop,
        wait: Callable[[float], None],
    ) -> None:
        self._account = account
        self.patience = patience
        self._stop = stop
        self._wait = wait

    def run(self, work: Callable[[POP3ClientConnection], None]) -> ClientReply:
        """
        Log in, work, and return the reply to QUIT.

        If the server breaks off, wait and work again in another session.

        Raises CannotImport when the patience is at its end, or if it makes no sense to wait.
        """
        while True:
            connection = self._account.connection()
            self._stop.opened(connection)
            try:
                with connection:
                    work(connection.connect())
                    return connection.quit()
            except POP3Failed as failed:
                self.patience.between = max(
                    self.patience.between, connection.session.offers.login_delay
                )
                self._wait_after(failed.reply)
            finally:
                self._stop.closed(connection)

    def _wait_after(self, why: ClientReply) -> None:
        if self._stop.is_set:
            raise Stopped
        seconds = self.patience.next_wait(why)
        if seconds is None:
            waited = self.patience.waited
            after = f" (after waiting {waited:.0f} s in all)" if waited else ""
            raise CannotImport(f"{self._account.server}: {why}{after}")
        self._wait(seconds)
