"""A POP3 client session with a server that says what a test wants."""

from __future__ import annotations

from dataclasses import replace

from postoffice.pop3.client import POP3ClientSession
from postoffice.pop3.client_commands import Ended, TextPiece
from postoffice.pop3.client_options import POP3ClientOptions
from postoffice.pop3.client_states import HANDSHAKE

OPTIONS = POP3ClientOptions(login="joe", password="x", passwords=True, nonce=lambda: "nonce")
GREETING = b"+OK ready\r\n"
CAPA = b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n"
NO_CAPA = b"-ERR what?\r\n"


class Client:
    """
    A session whose server is played by the test.

    ``said`` is all that the session has sent; ``events`` what it told, with the pieces of one
    text joined; ``waiting`` are commands that it asks as soon as there is room.
    """

    def __init__(self, *waiting, **options):
        self.session = POP3ClientSession(replace(OPTIONS, **options))
        self.waiting = list(waiting)
        self.events = []
        self.said = b""

    @classmethod
    def entered(cls, *waiting, capa=CAPA, **options):
        """One that has logged in."""
        client = cls(**options)
        client.hear(GREETING, capa, b"+OK\r\n", b"+OK\r\n", capa)
        assert client.session.entered
        client.waiting, client.said = list(waiting), b""
        client.act()
        return client

    def hear(self, *bursts):
        """What the server says: after each burst, the client goes on.  Returns what it says."""
        before = len(self.said)
        for burst in bursts:
            self.session.receive(burst)
            self.act()
        return self.said[before:]

    def act(self):
        """Do what the session waits for, and is ours."""
        session = self.session
        if session.state == HANDSHAKE:
            self.said += session.take_output()
            session.secured()
        while self.waiting and session.room:
            session.ask(self.waiting.pop(0))
        self.said += session.take_output()
        for event in session.take_events():
            last = self.events[-1] if self.events else None
            if isinstance(event, TextPiece) and isinstance(last, TextPiece):
                assert last.command == event.command
                self.events[-1] = TextPiece(event.command, last.octets + event.octets)
            else:
                self.events.append(event)

    @property
    def texts(self):
        """The texts that arrived, whole or not."""
        return [event.octets for event in self.events if isinstance(event, TextPiece)]

    @property
    def replies(self):
        """The first lines of the replies that are complete."""
        return [event.reply for event in self.events if isinstance(event, Ended)]
