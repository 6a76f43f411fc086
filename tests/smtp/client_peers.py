"""A client session with a server that says what a test wants."""

from __future__ import annotations

from dataclasses import replace

from postoffice.model.hop import Transaction
from postoffice.model.queued_message import QueuedRecipient
from postoffice.smtp.client import SMTPClientSession
from postoffice.smtp.client_options import SMTPClientOptions
from postoffice.smtp.client_states import CLOSED, HANDSHAKE, READY
from postoffice.smtp.client_states import TEXT as WANTS_TEXT

OPTIONS = SMTPClientOptions(hostname="mail.example.net", nonce=lambda: "nonce")
TEXT = b"Subject: x\r\n\r\n.dot\r\nlast\r\n"
EHLO = b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250 DSN\r\n"


def message(*addresses, **fields):
    """A transaction for these addresses."""
    recipients = tuple(QueuedRecipient(address=one) for one in addresses or ("joe@example.org",))
    fields = {"id": "id.1", "sender": "ann@example.net", "size": len(TEXT)} | fields
    return Transaction(recipients=recipients, **fields)


class Client:
    """
    A session whose server is played by the test, and the ``results`` of its transactions.

    ``said`` is all that the session has sent.  ``waiting`` are transactions to begin when the
    session is ready.
    """

    def __init__(self, *waiting, text=TEXT, piece=1000, **options):
        self.session = SMTPClientSession(replace(OPTIONS, **options))
        self.waiting = list(waiting)
        self.results = []
        self.said = b""
        self.texts = [text[n : n + piece] for n in range(0, len(text), piece)]
        self.verified = options.get("verified", False)

    @classmethod
    def greeted(cls, *waiting, ehlo=EHLO, **how):
        """One whose server has answered EHLO, and has heard the first transaction."""
        client = cls(*waiting, **how)
        client.hear(b"220 mx.example.org\r\n")
        client.said = b""
        client.hear(ehlo)
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
        self.said += session.take_output()
        if session.state == WANTS_TEXT:
            for piece in self.texts:
                session.text(piece)
            session.end_text()
        elif session.state == HANDSHAKE:
            session.secured(verified=self.verified)
        if (result := session.take_result()) is not None:
            self.results.append(result)
        if session.usable and self.waiting:
            session.begin(self.waiting.pop(0))
            if (result := session.take_result()) is not None:
                self.results.append(result)
        self.said += session.take_output()
        assert session.unsent == 0

    @property
    def codes(self):
        """The codes of the last result's replies."""
        return [one.code for one in self.results[-1].replies]


class Peer:
    """
    A server that answers each command with the next of ``answers``, and then always with yes.

    None is yes, octets are what it says instead.  ``taken`` are the texts that it has said yes to,
    each with the command that named its recipient.
    """

    def __init__(self, answers=(), *, ehlo=EHLO, lmtp=False):
        self.answers = list(answers)
        self.taken = []
        self._ehlo = ehlo
        self._lmtp = lmtp
        self._unread = b""
        self._named = []
        self._mail = self._in_text = False

    def hear(self, octets):
        """The client says this; return what the server says then."""
        self._unread += octets
        said = b""
        while (command := self._next()) is not None:
            said += self._answer(command)
        return said

    def greet(self):
        return self._say(b"220 mx.example.org\r\n")[0]

    def _next(self):
        end = b"\r\n.\r\n" if self._in_text else b"\r\n"
        command, found, rest = self._unread.partition(end)
        if not found:
            return None
        self._unread = rest
        return command

    def _say(self, yes):
        answer = self.answers.pop(0) if self.answers else None
        return (yes, True) if answer is None else (answer, answer.startswith(b"2"))

    def _answer(self, command):
        if self._in_text:
            return self._end((command + b"\r\n").removeprefix(b"\r\n"))
        verb = command[:4]
        said, yes = self._say(
            {b"EHLO": self._ehlo, b"LHLO": self._ehlo, b"DATA": b"354 Go on\r\n"}.get(
                verb, b"250 2.0.0 Yes\r\n"
            )
        )
        if verb == b"MAIL":
            self._named, self._mail = [], yes
        elif verb == b"RCPT" and yes and self._mail:
            self._named.append(command)
        elif verb == b"DATA" and said.startswith(b"3"):
            self._in_text, self._unread = True, b"\r\n" + self._unread
        return said

    def _end(self, text):
        self._in_text = False
        everything = b""
        for group in [[one] for one in self._named] if self._lmtp else [self._named]:
            said, yes = self._say(b"250 2.0.0 Taken\r\n")
            everything += said
            self.taken += [(one, text) for one in group if yes]
        return everything


def play(client, peer, size=None, *, acting=False):
    """
    A client and a peer talk until neither says anything more.

    What the peer says arrives in pieces of this ``size``; the client goes on behind each piece
    (``acting``), or when all has arrived.
    """
    burst, done = peer.greet(), 0
    while burst:
        for n in range(0, len(burst), size or len(burst)):
            client.session.receive(burst[n : n + (size or len(burst))])
            if acting:
                client.act()
        client.act()
        burst, done = peer.hear(client.said[done:]), len(client.said)
    if client.session.state not in (CLOSED, READY):
        client.session.lost("The server was silent")
        client.act()
    return client
