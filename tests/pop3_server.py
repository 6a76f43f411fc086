"""A POP3 server for tests of clients: on a free port of loopback, right or wrong as a test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from postoffice.protocol.wire import DotWriter

#: What ``fault`` returns to end the connection at once.
CUT = b"cut"


@dataclass
class OldServer:
    """
    Its ``messages`` are pairs of UIDL and text; ``users`` have passwords; a context manager.

    ``capa`` is what it offers, none to refuse CAPA.  ``fault`` is called with each connection's
    number, from 1, and each command's line: it returns None for the right answer, octets to say
    instead, or CUT (then what was to be said is cut in the middle).  ``heard`` has all
    lines, ``removed`` the UIDLs deleted.  ``stuck`` is set when it waits for ever.
    """

    messages: list[tuple[str, bytes]]
    users: dict[str, str] = field(default_factory=lambda: {"ann": "secret"})
    capa: tuple[str, ...] = ("USER", "UIDL", "TOP", "PIPELINING")
    certificate: Path | None = None
    implicit: bool = False
    fault: Callable[[int, str], bytes | None] = lambda number, line: None
    heard: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __enter__(self):
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        self._connections = 0
        self._open = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *why):
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def url(self):
        """Where it is, for the first of its users."""
        scheme = "pop3s" if self.implicit else "pop3"
        return f"{scheme}://{next(iter(self.users))}@localhost:{self.port}"

    def _accept(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections += 1
            self._open.append(connection)
            talk = threading.Thread(target=self._talk, args=(connection, self._connections))
            self._threads.append(talk)
            talk.start()

    def _secure(self, connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        secured = context.wrap_socket(connection, server_side=True)
        self._open.append(secured)
        return secured

    def _talk(self, connection, number):
        with suppress(OSError):
            if self.implicit:
                connection = self._secure(connection)
            Talk(self, number).run(connection)
        connection.close()


class Talk:
    """One connection."""

    def __init__(self, server, number):
        self.server = server
        self.number = number
        self.user = ""
        self.deleted = set()
        self.messages = list(server.messages)

    def run(self, connection):
        if not self._say(connection, "", b"+OK ready\r\n"):
            return
        lines = connection.makefile("rb")
        while line := lines.readline().decode("latin-1").rstrip("\r\n"):
            self.server.heard.append(line)
            answer = self._answer(line)
            if not self._say(connection, line, answer) or line == "QUIT":
                return
            if line == "STLS" and answer.startswith(b"+OK"):
                connection = self.server._secure(connection)
                lines = connection.makefile("rb")

    def _say(self, connection, line, answer):
        instead = self.server.fault(self.number, line)
        if instead == CUT:
            connection.sendall(answer[: len(answer) // 2])
            connection.shutdown(socket.SHUT_RDWR)
            return False
        connection.sendall(answer if instead is None else instead)
        return True

    def _answer(self, line):
        verb, _, rest = line.partition(" ")
        known = {"CAPA": self._capa, "STLS": self._stls, "USER": self._user, "PASS": self._pass}
        known |= {"STAT": self._stat, "UIDL": self._uidl, "LIST": self._list, "TOP": self._top}
        known |= {"RETR": self._retr, "DELE": self._dele, "QUIT": self._quit}
        return known.get(verb, lambda _: b"-ERR what?\r\n")(rest)

    def _capa(self, _):
        if not self.server.capa:
            return b"-ERR what?\r\n"
        return _listed(self.server.capa)

    def _stls(self, _):
        return b"+OK begin\r\n" if self.server.certificate else b"-ERR no TLS here\r\n"

    def _user(self, name):
        self.user = name
        return b"+OK\r\n"

    def _pass(self, password):
        right = self.server.users.get(self.user) == password
        return b"+OK welcome\r\n" if right else b"-ERR [AUTH] wrong\r\n"

    def _stat(self, _):
        return b"+OK %d %d\r\n" % (len(self.messages), sum(len(text) for _, text in self.messages))

    def _uidl(self, _):
        if "UIDL" not in self.server.capa:
            return b"-ERR what?\r\n"
        return _listed(f"{n} {uidl}" for n, (uidl, _) in enumerate(self.messages, 1))

    def _list(self, _):
        return _listed(f"{n} {len(text)}" for n, (_, text) in enumerate(self.messages, 1))

    def _top(self, rest):
        text = self.messages[int(rest.split()[0]) - 1][1]
        return _text(text.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    def _retr(self, rest):
        return _text(self.messages[int(rest) - 1][1])

    def _quit(self, _):
        gone = [uidl for n, (uidl, _) in enumerate(self.messages, 1) if n in self.deleted]
        self.server.removed += gone
        kept = [one for one in self.server.messages if one[0] not in gone]
        self.server.messages[:] = kept
        return b"+OK bye\r\n"

    def _dele(self, rest):
        self.deleted.add(int(rest))
        return b"+OK deleted\r\n"


def _listed(lines):
    return b"".join([b"+OK\r\n", *(line.encode("latin-1") + b"\r\n" for line in lines), b".\r\n"])


def _text(text):
    dots = DotWriter()
    return b"+OK\r\n" + dots.write(text) + dots.end()
