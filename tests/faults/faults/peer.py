"""Another mail server: it records what it gets, and fails in the ways that its recipients say."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import NamedTuple

from faults.ledger import behind_the_trace, text_of, token_of

#: What the first word of a recipient's address says.
ACCEPTED, LATER, REFUSED = "accepted", "later", "refused"
#: Of so many texts each, the connection is cut behind the dot, before or after the message is
#: recorded, or the reply is 451.
CUT_BEFORE, CUT_AFTER, DEFERRED = 0.03, 0.06, 0.04
_GREETING = (
    b"250-there.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE\r\n250 ENHANCEDSTATUSCODES"
)
_ID = re.compile(rb"\bid (\S+)")


class Arrival(NamedTuple):
    """A message came for a recipient; ``cut``: the sender did not get 250."""

    epoch: int
    cut: bool
    id: str


class Peer(socketserver.ThreadingTCPServer):
    """
    A small SMTP server, on threads of the test.

    ``asked`` has each message that came with a recipient, ``arrived`` what came for whom.  An
    epoch ends when the daemon that sends is killed.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, random: Random) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.port = self.server_address[1]
        self.problems: list[str] = []
        self.asked: set[str] = set()
        self.arrived: dict[str, list[Arrival]] = defaultdict(list)
        self.cuts = 0
        self.epoch = 0
        self.changed = threading.Condition()
        self.open = 0
        self._random = random

    @contextmanager
    def running(self) -> Iterator[Peer]:
        """Serve on a thread of its own."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def next_epoch(self) -> None:
        """Behind a kill: all that the daemon had sent is recorded, and a new epoch begins."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:  # others came before it
            last.recv(100)
        with self.changed:
            self.changed.wait_for(lambda: not self.open)
            self.epoch += 1

    def asks_for(self, address: str) -> bytes:
        """The reply to RCPT."""
        kind, _, token = address.partition("@")[0].partition("-")
        with self.changed:
            first = address not in self.asked
            self.asked |= {address, token.partition("_")[0]}
        if kind == REFUSED:
            return b"550 5.1.1 nobody here has that name"
        if kind == LATER and first:
            return b"451 4.2.1 not now"
        return b"250 2.1.5 fine"

    def gets(self, addresses: list[str], text: bytes) -> bytes:
        """The reply to a text; none: the connection is cut."""
        with self.changed:
            chance = self._random.random()
            if chance < CUT_BEFORE:
                return b""
            if chance < CUT_BEFORE + DEFERRED:
                return b"451 4.3.0 not now"
            cut = chance < CUT_BEFORE + DEFERRED + CUT_AFTER
            self.cuts += cut
            self._record(addresses, text, cut=cut)
        return b"" if cut else b"250 2.0.0 fine"

    def _record(self, addresses: list[str], text: bytes, *, cut: bool) -> None:
        token, found = token_of(text), _ID.search(text)
        if token is None or behind_the_trace(b"Return-Path: " + text) != text_of(token):
            self.problems.append(f"the peer got {len(text)} octets that nobody sent: {text[:60]!r}")
            return
        arrival = Arrival(self.epoch, cut, found[1].decode() if found else "")
        for address in addresses:
            if f"-{token}_" not in address:
                self.problems.append(f"the peer got {token} for {address}")
            self.arrived[address].append(arrival)


class _Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: Peer
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.server.changed:
            self.server.open += 1

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        with self.server.changed:
            self.server.open -= 1
            self.server.changed.notify_all()

    def handle(self) -> None:
        with suppress(OSError):
            self._say(b"220 there.example ESMTP")
            self._serve()

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")

    def _serve(self) -> None:
        addresses: list[str] = []
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                self._say(_GREETING)
            elif verb == b"RCPT":
                address = line[line.index(b"<") + 1 : line.index(b">")].decode()
                reply = self.server.asks_for(address)
                addresses += [address] if reply.startswith(b"250") else []
                self._say(reply)
            elif verb == b"DATA" and addresses:
                self._say(b"354 go on")
                text = self._text()
                reply = b"" if text is None else self.server.gets(addresses, text)
                if not reply:
                    return
                self._say(reply)
                addresses = []
            elif verb == b"DATA":
                self._say(b"554 5.5.1 no recipients")
            elif verb == b"QUIT":
                self._say(b"221 bye")
                return
            else:
                if verb in (b"MAIL", b"RSET"):
                    addresses = []
                self._say(b"250 2.0.0 fine")

    def _text(self) -> bytes | None:
        """A text without its dots; None if the connection ends before it does."""
        lines = []
        while line := self.rfile.readline():
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)
        return None
