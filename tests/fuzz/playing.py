"""What the fuzz targets share: octets played whole and in pieces."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from email import message_from_bytes

from dns.rdatatype import RdataType

from postoffice.dns import responses
from postoffice.model import reply
from postoffice.model.dns_answer import Answer, DNSUnavailable
from postoffice.model.errors import LoginRefused, TemporaryFailure
from postoffice.model.hop import Transaction
from postoffice.model.listing import Entry, Listing
from postoffice.model.queued_message import QueuedRecipient
from postoffice.outbound.mail_hosts import ADDRESSES, HostRules, NoMailHosts, choose, rank
from postoffice.outbound.mta_sts import BadPolicy, read_policy, read_records
from postoffice.pop3 import client_commands as pop3_commands
from postoffice.pop3 import options as pop3_terms
from postoffice.pop3.client import POP3ClientSession
from postoffice.pop3.client_listing import read_lines, read_sizes
from postoffice.pop3.client_options import POP3ClientOptions
from postoffice.pop3.questions import Entered
from postoffice.pop3.session import POP3Session
from postoffice.protocol import sasl
from postoffice.protocol.downgrade import Downgrader, size_of
from postoffice.protocol.proxy import NotProxied, ProxyReader
from postoffice.protocol.questions import Yield
from postoffice.protocol.scram import Salt
from postoffice.smtp.client import SMTPClientSession
from postoffice.smtp.client_options import SMTPClientOptions
from postoffice.smtp.options import SMTPLimits, SMTPOptions
from postoffice.smtp.questions import Abort, Impersonate, Pause, Text
from postoffice.smtp.session import SMTPSession
from postoffice.testing import cut

LIMITS = SMTPLimits(message_size=500, recipients=3, text_line=60, errors=12, tarpit=1, commands=30)
SMTP = SMTPOptions("mail.example.net", starttls=True, xclient=True)
MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
SUBMISSION = replace(SMTP, submission=True, dsn=True, mechanisms=MECHANISMS, passwords=True)
SECURE = replace(SUBMISSION, encrypted=True, starttls=False, bindings={"tls-exporter": b"x" * 32})
LMTP = SMTPOptions("mail.example.net", lmtp=True, dsn=True)
TERMS = (SMTP, SUBMISSION, SECURE, LMTP)
OPEN = pop3_terms.POP3Options(passwords=True, mechanisms=sasl.MECHANISMS)
POP3 = (
    OPEN,
    replace(OPEN, stamp="<stamp@mail.example.net>"),
    replace(OPEN, encrypted=True, bindings={"tls-exporter": b"x" * 32}),
    replace(OPEN, starttls=True, passwords=False),
)
TAKEN = reply.Reply(250, "2.0.0", "Taken")


def without_lots() -> None:
    """Draw nothing by lot in this process from now on: two sessions must say the same."""
    sasl.secrets.token_urlsafe = lambda size=0: "nonce"  # type: ignore[attr-defined]


class Play:
    """One session, its questions answered in a fixed way, which depends on the question only."""

    def __init__(self, options: SMTPOptions):
        self.options = options
        self.session = SMTPSession(options, LIMITS)
        self.said = b""
        self.asked = []
        self.recipients = 0

    def hear(self, octets: bytes) -> None:
        self.session.receive(octets)
        while (question := self.session.next_question()) is not None:
            if isinstance(question, Text) and self.asked and isinstance(self.asked[-1], Text):
                self.asked[-1] = Text(self.asked[-1].octets + question.octets)
            else:
                self.asked.append(question)
            self.session.answer(self._answer(question))
            assert self.session.unsent < 200_000
        if self.session.upgrading:
            self.said += self.session.take_output()
            self.session.secured({})
        self.said += self.session.take_output()

    def _answer(self, question):
        kind = type(question).__name__
        if kind == "Mail":
            self.recipients = 0
            return reply.NOT_YOUR_ADDRESS if "evil" in str(question.sender) else reply.SENDER_OK
        if kind == "Recipient":
            if "nobody" in str(question.address):
                return reply.UNKNOWN_RECIPIENT
            if "later" in str(question.address):
                return TemporaryFailure()
            self.recipients += 1
            return reply.RECIPIENT_OK
        if kind == "End":
            return [TAKEN] * self.recipients if self.options.lmtp else TAKEN
        if kind == "Text" and b"!" in question.octets:
            return None
        if kind == "SaltOf":
            return Salt(b"salt", 4096)
        if kind == "Prove":
            return LoginRefused() if question.claim.user.startswith(b"e") else None
        if isinstance(question, Impersonate):
            return replace(self.options, xclient=question.address != "192.0.2.9")
        assert not isinstance(question, Pause) or question.seconds == 1
        return None


def smtp(octets: bytes) -> None:
    """Terms by the first octet, cuts by the next four; the rest is what a client says."""
    if len(octets) < 6:
        return
    options = TERMS[octets[0] % len(TERMS)]
    said = octets[5:]
    whole, pieces = Play(options), Play(options)
    whole.hear(said)
    step = octets[1] or 1
    places = [octets[2], octets[3] * 3, octets[4] * 7]
    for piece in cut(said, places + list(range(0, len(said), step * 3))):
        pieces.hear(piece)
    if b"STARTTLS" in said.upper() and options.starttls:
        return  # what stands behind it in the same breath is refused, and else part of TLS
    assert pieces.said == whole.said, (pieces.said, whole.said)
    assert taken(pieces.asked) == taken(whole.asked), (pieces.asked, whole.asked)
    for line in whole.said.split(b"\r\n")[:-1]:
        assert line[:3].isdigit()
        assert line[3:4] in (b" ", b"-")
        assert line.isascii()


def taken(asked: list) -> list:
    """The questions, without the text that was given up: how much of it was read may differ."""
    kept = []
    for question in asked:
        if isinstance(question, Abort):
            while kept and isinstance(kept[-1], Text):
                kept.pop()
        kept.append(question)
    return kept


def proxied(pieces):
    """Whose these pieces are, and what came behind the header; None where it is not whole."""
    reader = ProxyReader()
    for number, piece in enumerate(pieces):
        try:
            source = reader.feed(piece)
        except NotProxied:
            return "refused"
        if source is not None:
            return source, reader.rest + b"".join(pieces[number + 1 :])
    return None


def proxy(octets: bytes) -> None:
    """A header, whole and octet by octet."""

    whole = proxied([octets])
    pieces = proxied([octets[n : n + 1] for n in range(len(octets))] or [b""])
    assert whole == pieces, (whole, pieces)


def exchanges(octets: bytes) -> None:
    """An exchange by the first octet; the rest are its client's messages, divided by 0xFF."""
    if not octets:
        return
    names = (*sasl.MECHANISMS, "SCRAM-SHA-256-PLUS")
    exchange = sasl.exchange(
        names[octets[0] % len(names)],
        hostname="mail.example.net",
        bindings={"tls-exporter": b"x"},
        plus=bool(octets[0] & 128),
        nonce=lambda: "nonce",
    )
    messages = iter(octets[1:].split(b"\xff"))
    try:
        step = exchange.send(None)
        for _ in range(20):
            if isinstance(step, sasl.Challenge):
                step = exchange.send(next(messages, b""))
            elif isinstance(step, sasl.SaltOf):
                step = exchange.send(Salt(b"salt", 4096))
            else:
                step = exchange.send(None)
    except (StopIteration, sasl.Malformed, sasl.Refused):
        return
    raise AssertionError("it never ends")


class PlayPOP3:
    """One POP3 session, its questions answered in a fixed way, which depends on the question."""

    def __init__(self, options: pop3_terms.POP3Options):
        self.session = POP3Session(options)
        self.said = b""
        self.asked = []

    def hear(self, octets: bytes) -> None:
        self.session.receive(octets)
        while (question := self.session.next_question()) is not None:
            if not isinstance(question, Yield):
                self.asked.append(question)
            self.session.answer(self._answer(question))
            assert self.session.unsent < 200_000
        if self.session.upgrading:
            self.said += self.session.take_output()
            self.session.secured({"tls-exporter": b"x" * 32})
        self.said += self.session.take_output()

    def _answer(self, question):
        kind = type(question).__name__
        if kind == "SaltOf":
            return TemporaryFailure() if question.user.startswith(b"l") else Salt(b"salt", 4096)
        if kind == "Prove":
            return LoginRefused() if question.claim.user.startswith(b"e") else None
        if kind == "Enter":
            return Entered(Listing((Entry("a", 4), Entry("b", 4))), self.session.options)
        if kind == "Announce":
            return self.session.options
        if kind == "Update":
            return len(question.entries)
        if kind == "Fetch":
            return [b".x\r\n"] * (2 if question.entry.uidl == "a" else 1)
        return b".x\r\n" if kind == "More" else None


def pop3(octets: bytes) -> None:
    """A session before its login and after it, on terms by the first octet, whole and cut."""
    if not octets:
        return
    options = POP3[octets[0] % len(POP3)]
    head = b"USER joe\r\nPASS x\r\n" if octets[0] < 0x80 and options.passwords else b""
    said = head + octets[1:]
    whole, pieces = PlayPOP3(options), PlayPOP3(options)
    whole.hear(said)
    for piece in cut(said, range(0, len(said), 7)) or [b""]:
        pieces.hear(piece)
    for play in (whole, pieces):
        if not play.session.options.passwords:
            assert not any(isinstance(question, sasl.Prove) for question in play.asked)
    if b"STLS" in said.upper() and options.starttls:
        return  # what stands behind it in the same breath is refused, and else part of TLS
    assert pieces.said == whole.said, (pieces.said, whole.said)
    assert pieces.asked == whole.asked, (pieces.asked, whole.asked)


def message(octets: bytes) -> None:
    """A message for a client without UTF-8, whole and cut; and what came out, once more."""

    def convert(pieces):
        downgrader = Downgrader()
        out = b"".join([*map(downgrader.feed, pieces), downgrader.end()])
        return out, downgrader

    out, whole = convert([octets])
    assert convert(cut(octets, range(0, len(octets), 7)))[0] == out
    assert whole.size == len(out)
    assert size_of([octets]) == (None if len(out) == len(octets) else len(out))
    assert size_of([out]) is None  # converted once, it is converted
    assert whole.changed or out == octets
    before, after = message_from_bytes(octets), message_from_bytes(out)
    assert before.keys() == after.keys()
    assert [str(part.get_payload()) for part in before.walk() if not part.is_multipart()] == [
        str(part.get_payload()) for part in after.walk() if not part.is_multipart()
    ]


CLIENTS = (
    SMTPClientOptions(hostname="mail.example.net", nonce=lambda: "nonce"),
    SMTPClientOptions(hostname="mail.example.net", level="encrypt", login="joe", password="x"),
    SMTPClientOptions(hostname="mail.example.net", level="none", login="joe", password="x"),
    SMTPClientOptions(hostname="mail.example.net", level="none", lmtp=True),
)
SENT = [
    Transaction(
        id="id",
        sender="ann@example.net",
        recipients=[QueuedRecipient(address=name, orcpt="rfc822;x") for name in names],
        size=9,
        requiretls=len(names) == 3,
        envid="1",
    )
    for names in (
        ("joe@example.org", "j\xf6@example.org"),
        ("joe@b\xfccher.example",),
        ("a@x",) * 3,
    )
]


class PlayClient:
    """A client's session, which does at once what is its own to do."""

    def __init__(self, options: SMTPClientOptions):
        self.session = SMTPClientSession(options)
        self.left = list(SENT)
        self.said = b""
        self.results = []

    def act(self) -> None:
        session = self.session
        while True:
            self.said += session.take_output()
            state = session.state
            if (result := session.take_result()) is not None:
                self.results.append(result)
            if state == "text":
                session.text(b".x\r\n")
                session.end_text()
            elif state == "handshake":
                session.secured(verified=True)
            elif session.usable and self.left:
                session.begin(self.left.pop(0))
            else:
                return


def client(octets: bytes) -> None:
    """Options by the first octet; the rest is what a server says, in bursts divided by 0xFF."""
    if not octets:
        return
    options = CLIENTS[octets[0] % len(CLIENTS)]
    whole, pieces = PlayClient(options), PlayClient(options)
    for burst in octets[1:].split(b"\xff"):
        whole.session.receive(burst)
        for n in range(len(burst)):
            pieces.session.receive(burst[n : n + 1])
        whole.act()
        pieces.act()
    for play in (whole, pieces):
        play.session.lost("The server was silent")
        play.act()
        for result, transaction in zip(play.results, SENT, strict=False):
            assert len(result.replies) == len(transaction.recipients)
            assert all(one.text.isprintable() for one in result.replies)
    assert (pieces.said, pieces.results) == (whole.said, whole.results)


POP3_CLIENTS = [
    POP3ClientOptions(login="joe", password="x", nonce=lambda: "nonce", **how)
    for how in ({"passwords": True}, {"stls": True}, {"encrypted": True}, {})
]
ASKED = [
    *(pop3_commands.UIDL, pop3_commands.LIST, pop3_commands.STAT, pop3_commands.retr(1, 100)),
    *(pop3_commands.top(2), pop3_commands.dele(1), pop3_commands.retr(2)),
]


class PlayPOP3Client:
    """A client's session, which asks what it may, and quits in the end."""

    def __init__(self, options: POP3ClientOptions):
        self.session = POP3ClientSession(options)
        self.left = list(ASKED)
        self.said = b""
        self.texts: dict[pop3_commands.Command, bytes] = {}
        self.ended = []

    def act(self) -> None:
        session = self.session
        if session.state == "handshake":
            self.said += session.take_output()
            session.secured()
        while self.left and session.room:
            session.ask(self.left.pop(0))
        self.said += session.take_output()
        for event in session.take_events():
            if isinstance(event, pop3_commands.TextPiece):
                self.texts[event.command] = self.texts.get(event.command, b"") + event.octets
            else:
                self.ended.append(event)


def pop3_client(octets: bytes) -> None:
    """Options by the first octet; the rest is what a server says, in bursts divided by 0xFF."""
    if not octets:
        return
    options = POP3_CLIENTS[octets[0] % len(POP3_CLIENTS)]
    whole, pieces = PlayPOP3Client(options), PlayPOP3Client(options)
    for burst in octets[1:].split(b"\xff"):
        whole.session.receive(burst)
        whole.act()
        for n in range(len(burst)):
            pieces.session.receive(burst[n : n + 1])
        pieces.act()
    for play in (whole, pieces):
        play.session.quit()
        play.session.lost("The server was silent")
        assert play.session.failed is not None or play.session.farewell is not None
        for event in play.ended:
            assert event.reply.text.isprintable()
        for text in play.texts.values():
            read_lines(text)
            read_sizes(text)
    assert (pieces.said, pieces.ended) == (whole.said, whole.ended)
    assert pieces.session.failed == whole.session.failed
    if not whole.session.failed:
        assert pieces.texts == whole.texts
    if not (options.passwords or options.encrypted or options.stls):
        assert b"PASS" not in whole.said


#: What a name server is asked for, by the first octet.
KINDS = [RdataType.MX, RdataType.A, RdataType.TXT, RdataType.TLSA, RdataType.CNAME]


def dns(octets: bytes) -> None:
    """The type of record by the first octet; the rest is a response behind its id."""
    kind = KINDS[octets[0] % len(KINDS)] if octets else RdataType.MX
    asked = responses.query(responses.wire_name("d.example"), kind, 0x1234)
    try:
        response = responses.parse(b"\x12\x34" + octets[1:], asked)
        reading = None if response is None else responses.read(response, trusted=False)
    except DNSUnavailable:
        return
    if reading is None or not isinstance(reading.outcome, Answer):
        return
    assert not reading.outcome.secure
    found = reading.outcome.records
    if kind == RdataType.MX:
        with suppress(NoMailHosts):
            for group in rank("d.example", found, HostRules(), lambda names: None):
                assert all(len(name) < 256 and name.isascii() for name in group)
    if kind == RdataType.A:
        chosen = choose([("d.example", list(filter(HostRules().usable, found)))], (4, 6))
        assert len(chosen) <= ADDRESSES
    if kind == RdataType.TXT:
        assert (read_records(found) or "x").isalnum()


def mta_sts(octets: bytes) -> None:
    """A policy; what is read is the same when it is written and read again."""
    try:
        policy = read_policy(octets)
    except BadPolicy:
        return
    lines = ["version: STSv1", f"mode: {policy.mode}", f"max_age: {policy.max_age}"]
    lines += [f"mx: {name}" for name in policy.mx]
    assert read_policy("\n".join(lines).encode()) == policy
    for name in policy.mx:
        assert policy.fits(name.replace("*", "x"))


TARGETS = {
    "dns": dns,
    "mta-sts": mta_sts,
    "smtp": smtp,
    "proxy": proxy,
    "sasl": exchanges,
    "pop3": pop3,
    "pop3-client": pop3_client,
    "message": message,
    "client": client,
}
