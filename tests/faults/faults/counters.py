"""A post office in this process: the real counters and the real store, transports in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from crashes.world import Kind
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from faults.ledger import Held, Ledger, text_of
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.realm import Realm
from postoffice.model.address import Address, Quota
from postoffice.server.mailbox import MailboxContext
from postoffice.server.pop3 import POP3Factory
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.smtp_service import ServiceProfile
from postoffice.server.submission import Receptions
from postoffice.smtp.options import SMTPLimits
from postoffice.testing import finish

DOMAIN = "example.net"
NAMES = ("ann", "bob", "joe", "new")
#: Seconds of the clock, in steps, that a client waits for an answer.
_PATIENCE, _STEP = 8.0, 0.05


class Silent(Exception):
    """There is no answer."""


@implementer(ICredentialsChecker)
class Trusting:
    """A client has the name that it says: passwords are not what is tried here."""

    credentialInterfaces = (IUsernamePassword, IAnonymous)

    def __init__(self, directory: MemoryDirectory) -> None:
        self._directory = directory

    def requestAvatarId(self, credentials: Any) -> Any:
        if IAnonymous.providedBy(credentials):
            return ANONYMOUS
        return finish(self._directory.find(credentials.username.decode()))


class Transport(StringTransport):
    """A transport that knows what a conversation asks of TCP."""

    cut = False

    def setTcpNoDelay(self, on: bool) -> None:
        pass

    def setTcpKeepAlive(self, on: bool) -> None:
        pass

    def loseWriteConnection(self) -> None:
        self.cut = True

    def abortConnection(self) -> None:
        self.cut = True

    def loseConnection(self) -> None:
        self.cut = True


class Counters:
    """SMTP, LMTP and POP3 over one store of this kind; time is a Clock."""

    def __init__(self, root: str, kind: Kind, executor: Any) -> None:
        self.clock = Clock()
        self.store = kind.store(root, executor, self.clock)
        directory = MemoryDirectory()
        finish(directory.add_domain(DOMAIN))
        for name in ("postmaster", *NAMES):
            finish(directory.add(f"{name}@{DOMAIN}", None))
        house = Receptions(
            directory,
            self.store,
            hostname="mail.example.net",
            postmaster=Address("postmaster", DOMAIN),
            now=lambda: datetime(2026, 11, 25, 12, tzinfo=UTC),
            quota=kind.quota.or_else(Quota(0, 0, "reject")),
        )
        portal = Portal(Realm(MailboxContext(self.store), house), [Trusting(directory)])
        self._smtp, self._lmtp = (
            SMTPFactory(
                portal,
                hostname="mail.example.net",
                limits=SMTPLimits(errors=1000),
                clock=self.clock,
                profile=ServiceProfile(lmtp=lmtp),
            )
            for lmtp in (False, True)
        )
        self._pop3 = POP3Factory(portal, clock=self.clock)

    def smtp(self) -> Poster:
        return Poster(self._smtp, self.clock, b"EHLO")

    def lmtp(self) -> Poster:
        return Poster(self._lmtp, self.clock, b"LHLO")

    def pop3(self, name: str) -> Collector:
        return Collector(self._pop3, self.clock, name)


class _Client:
    """On a transport in memory."""

    def __init__(self, factory: Any, clock: Clock) -> None:
        self._clock = clock
        self._transport = Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000))
        self._conversation = factory.buildProtocol(self._transport.getPeer())
        self._conversation.makeConnection(self._transport)

    @property
    def cut(self) -> bool:
        """Whether the other side has hung up."""
        return self._transport.cut

    def say(self, octets: bytes) -> None:
        self._conversation.dataReceived(octets)

    def heard(self) -> bytes:
        """What came, so far and at once."""
        heard: bytes = self._transport.value()
        self._transport.clear()
        return heard

    def hear(self, ends: bytes = b"\r\n") -> bytes:
        """Wait until that comes.  Raises Silent where it never does."""
        heard, waited = self.heard(), 0.0
        while not heard.endswith(ends) and not self.cut and waited < _PATIENCE:
            self._clock.advance(_STEP if waited else 0)
            waited += _STEP
            heard += self.heard()
        if not heard:
            raise Silent("the link was cut" if self.cut else "nothing is answered")
        return heard

    def ask(self, command: bytes) -> bytes:
        self.say(command + b"\r\n")
        return self.hear()

    def leave(self) -> None:
        """The link is lost."""
        self._conversation.connectionLost(None)


class Poster(_Client):
    """A client of SMTP or LMTP."""

    def __init__(self, factory: SMTPFactory, clock: Clock, hello: bytes) -> None:
        super().__init__(factory, clock)
        self._apart = hello == b"LHLO"
        self._token, self._names = "", [""]
        self.hear()
        self.ask(hello + b" client.example.org")

    def post(self, ledger: Ledger, token: str, *names: str) -> list[str]:
        """Post a message; the replies, or the first that says no."""
        no = self.begin(ledger, token, *names)
        if no:
            return no
        self.say(b".\r\n")
        return self.end(ledger)

    def begin(self, ledger: Ledger, token: str, *names: str) -> list[str]:
        """All but the last dot; what said no, if anything has."""
        text = text_of(token)
        said = [self.ask(b"MAIL FROM:<a@example.org> SIZE=%d" % len(text))]
        self._token, self._names = token, []
        for name in names:
            said.append(self.ask(b"RCPT TO:<%s@%s>" % (name.encode(), DOMAIN.encode())))
            if said[-1].startswith(b"2"):
                self._names.append(name)
        no = [one.decode() for one in said if not one.startswith(b"2")]
        if not self._names:
            return no
        go = self.ask(b"DATA")
        if not go.startswith(b"354"):
            return [*no, go.decode()]
        ledger.posting(token, self._names, apart=self._apart)
        for at in range(0, len(text), 65536):
            self.say(text[at : at + 65536])
        return []

    def end(self, ledger: Ledger) -> list[str]:
        """What is said behind the last dot."""
        replies = self.hear().decode().splitlines()
        if not self._apart:
            if replies[0].startswith("250"):
                ledger.posted(self._token, *self._names)
            return replies
        for name, one in zip(self._names, replies, strict=True):
            if one.startswith("250"):
                ledger.posted(self._token, name)
        return replies


class Collector(_Client):
    """A client of POP3, not logged in yet."""

    def __init__(self, factory: POP3Factory, clock: Clock, name: str) -> None:
        super().__init__(factory, clock)
        self.name = name
        self.hear()

    def login(self) -> str:
        self.ask(b"USER %s@%s" % (self.name.encode(), DOMAIN.encode()))
        return self.ask(b"PASS x").decode()

    def uidls(self) -> list[str]:
        self.say(b"UIDL\r\n")
        return [line.split()[1].decode() for line in self.hear(b".\r\n").splitlines()[1:-1]]

    def retrieve(self, number: int) -> tuple[str, bytes | None]:
        """The answer; and the whole text, if all of it came."""
        self.say(b"RETR %d\r\n" % number)
        heard = self.hear()
        answer, _, text = heard.partition(b"\r\n")
        if answer.startswith(b"+OK"):
            while not text.endswith(b"\r\n.\r\n") and not self.cut:
                text += self.hear(b"\r\n.\r\n")
            if text.endswith(b"\r\n.\r\n"):
                return answer.decode(), text[:-3]
        return answer.decode(), None

    def everything(self) -> list[Held]:
        """All that lies there.  Raises AssertionError where something cannot be read."""
        held = []
        for number, uidl in enumerate(self.uidls(), 1):
            answer, text = self.retrieve(number)
            assert text is not None, f"{self.name}: RETR {number} says {answer}"
            held.append(Held(uidl, text))
        return held

    def remove(self, ledger: Ledger, tokens: Sequence[str], numbers: Sequence[int]) -> str:
        """DELE and QUIT; what QUIT says."""
        for number in numbers:
            self.ask(b"DELE %d" % number)
        ledger.removing(self.name, tokens)
        said = self.ask(b"QUIT").decode()
        if said.startswith("+OK"):
            ledger.removed(self.name, tokens)
        self.leave()
        return said
