"""
A POP3 client on a socket, for threads: it connects, begins TLS, logs in, and asks.  It blocks.

The time that a server may take is limited for each reply, and for each 16 KiB of a text.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self

from postoffice.pop3 import client_states as states
from postoffice.pop3.client import POP3ClientSession
from postoffice.pop3.client_commands import LINES_MAXIMUM, LIST, STAT, UIDL, Command, Ended, Event
from postoffice.pop3.client_listing import Lines, ListedSizes, read_lines, read_sizes, read_stat
from postoffice.pop3.client_options import POP3ClientOptions
from postoffice.pop3.client_reply import (
    COMMAND,
    CONNECT,
    END,
    LOGIN,
    PERMANENT,
    TLS,
    ClientReply,
    failure,
)
from postoffice.pop3.client_url import UNVERIFIED, POP3Server

#: Octets that are read at once.
READ = 64 << 10
_SILENT = "The server was silent for {:.0f} seconds: timed out"


class POP3Failed(Exception):
    """The connection is of no use; ``reply`` says why."""

    def __init__(self, reply: ClientReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class CommandRefused(Exception):
    """The server refused one command (-ERR), and goes on; ``reply`` says why."""

    def __init__(self, command: Command, reply: ClientReply) -> None:
        super().__init__(f"the server refused {command.verb}: {reply}")
        self.command = command
        self.reply = reply


class POP3ClientConnection:
    """
    A session on a socket.  A context manager, which closes the socket.

    ``connect`` logs in; it and the other methods raise POP3Failed if the connection fails.
    ``abort`` may be called on another thread: what waits fails then.
    """

    def __init__(
        self,
        server: POP3Server,
        login: str,
        password: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._clock = clock
        self._socket: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._aborted = False
        self.session = POP3ClientSession(
            POP3ClientOptions(
                login=login,
                password=password,
                stls=server.stls,
                encrypted=server.implicit,
                passwords=server.clear,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    # -- one command after another -------------------------------------------------------

    def connect(self) -> Self:
        """Connect, begin TLS and log in."""
        self._context = _context(self._server)  # before the server is kept waiting
        self._socket = self._dial()
        if self._server.implicit:
            self._begin_tls()
        while self.session.state != states.READY:
            self._step()
        return self

    def stat(self) -> tuple[int, int] | None:
        """Return how many messages there are, and their octets; None if the reply is no such."""
        try:
            return read_stat(self._line(STAT).text)
        except CommandRefused:
            return None

    def uidls(self) -> Lines | None:
        """UIDLs by message numbers; None if the server has no UIDL, POP3Failed if only now not."""
        try:
            return read_lines(self._list(UIDL))
        except CommandRefused as why:
            if why.reply.code or self.session.offers.has(UIDL.verb):
                raise POP3Failed(why.reply) from why
            return None

    def sizes(self) -> ListedSizes:
        """Sizes by message numbers.  Raises CommandRefused."""
        return read_sizes(self._list(LIST))

    def quit(self) -> ClientReply:
        """End the session; the reply says whether what was deleted is removed."""
        session = self.session
        session.quit()
        while session.state != states.CLOSED:
            self._step()
        self.close()
        return session.farewell or failure(END, "The session has ended")

    def close(self) -> None:
        """Close the socket; what was deleted in this session stays (RFC 1939 §6)."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def abort(self) -> None:
        """Make what waits on another thread fail, now and later."""
        self._aborted = True
        if (opened := self._socket) is not None:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    # -- many commands -------------------------------------------------------------------

    def fetch(self, commands: Iterable[Command]) -> Iterator[Event]:
        """
        Ask these commands, pipelined where the server offers it, and yield what it answers.

        ``commands`` is read only as far as there is room for them.  A server that refuses one
        goes on with the next.  Close the generator only at its end.
        """
        left: Iterator[Command] = iter(commands)
        asked, more = 0, True
        while True:
            while more and self.session.room:
                command = next(left, None)
                if command is None:
                    more = False
                else:
                    self.session.ask(command)
                    asked += 1
            for event in self.session.take_events():
                asked -= isinstance(event, Ended)
                yield event
            if not asked and not more:
                return
            if not (more and self.session.room):
                self._step()

    def _line(self, command: Command) -> ClientReply:
        """The reply to a command of one line.  Raises CommandRefused."""
        for event in self.fetch([command]):
            if isinstance(event, Ended):
                if event.reply.ok:
                    return event.reply
                raise CommandRefused(command, event.reply)
        raise AssertionError(command)

    def _text(self, command: Command) -> bytes:
        """The text of the reply to a command.  Raises CommandRefused."""
        pieces: list[bytes] = []
        for event in self.fetch([command]):
            if not isinstance(event, Ended):
                pieces.append(event.octets)
            elif not event.reply.ok:
                raise CommandRefused(command, event.reply)
        return b"".join(pieces)

    def _list(self, command: Command) -> bytes:
        """The text of a list.  Raises CommandRefused."""
        text = self._text(command)
        if text.count(b"\n") > LINES_MAXIMUM:
            why = f"The server's {command.verb} has more than {LINES_MAXIMUM} lines"
            raise POP3Failed(failure(COMMAND, why, PERMANENT))
        return text

    # -- the socket ----------------------------------------------------------------------

    def _dial(self) -> socket.socket:
        server = self._server
        try:
            dialed = socket.create_connection((server.host, server.port), server.connect_timeout)
        except (OSError, UnicodeError) as error:
            why = f"Connecting to {server} failed: {_reason(error)}"
            raise POP3Failed(failure(CONNECT, why)) from error
        with suppress(OSError):
            dialed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return dialed

    def _begin_tls(self) -> None:
        assert self._socket is not None
        assert self._context is not None
        self._socket.settimeout(min(self._limit(), 120.0))
        try:
            self._socket = self._context.wrap_socket(
                self._socket, server_hostname=self._server.host
            )
        except ssl.SSLCertVerificationError as error:
            why = f"The certificate of {self._server} does not verify: {error.verify_message}"
            raise POP3Failed(failure(TLS, why)) from error
        except (OSError, ValueError) as error:
            why = f"TLS with {self._server} failed: {_reason(error)}"
            raise POP3Failed(failure(TLS, why)) from error

    def _limit(self) -> float:
        """Seconds that the server may take now."""
        return min(self.session.seconds or self._server.reply_timeout, self._server.reply_timeout)

    def _step(self) -> None:
        """Send what there is to send, and wait until the session has heard something."""
        session = self.session
        if session.state == states.CLOSED:
            raise POP3Failed(session.failed or failure(END, "The session has ended"))
        limit = self._limit()
        until, heard, state = self._clock() + limit, session.heard, session.state
        while session.heard == heard and session.state == state and session.failed is None:
            if not self._exchange(until - self._clock(), limit):
                break
        if session.state == states.HANDSHAKE:
            self._begin_tls()
            session.secured()
        if session.failed is not None:
            raise POP3Failed(session.failed)

    def _exchange(self, seconds: float, limit: float) -> bool:
        """Write and read once; False if the connection is lost."""
        session = self.session
        try:
            if self._aborted or self._socket is None or seconds <= 0:
                raise TimeoutError
            self._socket.settimeout(seconds)
            output = session.take_output()
            if output:
                self._socket.sendall(output)
            data = self._socket.recv(READ)
        except TimeoutError:
            aborted = self._aborted or self._socket is None
            session.lost("The session was stopped" if aborted else _SILENT.format(limit))
        except OSError as error:
            session.lost(f"The connection was lost: {_reason(error)}")
        else:
            if data:
                session.receive(data)
                return True
            session.lost("The server closed the connection")
        return False


def try_login(server: POP3Server, login: str, password: str) -> ClientReply:
    """
    Log in, and end the session at once; no message is touched.

    The reply is +OK if the password is right.  Else ``wrong_password`` and ``temporary``
    say what it means; also a connection that failed is such a reply.
    """
    with POP3ClientConnection(server, login, password) as connection:
        try:
            connection.connect()
        except POP3Failed as failed:
            if not connection.session.entered:
                return failed.reply
        with suppress(POP3Failed):
            connection.quit()
        return ClientReply(ok=True, code="", text="", phase=LOGIN)


def _context(server: POP3Server) -> ssl.SSLContext | None:
    if not (server.implicit or server.stls):
        return None
    try:
        context = ssl.create_default_context()
        if server.ca_file is not None:
            context.load_verify_locations(server.ca_file)
    except (OSError, ValueError) as error:
        why = f"The authorities in {server.ca_file} cannot be read: {_reason(error)}"
        raise POP3Failed(failure(TLS, why)) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.tls == UNVERIFIED:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
