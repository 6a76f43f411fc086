"""A relay and letters that do what a test says, and a queue in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.interfaces.relay import Plan, Undeliverable
from postoffice.model.errors import MessageGone, TemporaryFailure
from postoffice.model.hop import Hop, PeerReply, Result
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.context import QueueContext
from postoffice.queue.manager import QueueManager
from postoffice.queue.shares import QueueShares
from postoffice.testing import ImmediateExecutor, finish

NOON = 1_800_000_000.0
OK = PeerReply(250, "2.0.0", "taken", "end")
LATER = PeerReply(451, "4.3.0", "not now", "rcpt")
NEVER = PeerReply(550, "5.1.1", "no such user", "rcpt")
WRONG = PeerReply(535, "5.7.8", "wrong password", "auth")
SILENT = PeerReply(0, "4.4.1", "connection refused", "connect")


def message(*to: str, **settings: object) -> QueuedMessage:
    recipients = tuple(QueuedRecipient(address=address) for address in to)
    facts = {"id": "m", "sender": "ann@here.example", "login": "ann@here.example", "came": NOON}
    return QueuedMessage(recipients=recipients, **facts | {"size": 100} | settings)


class Text:
    """The text of a message."""

    def __init__(self, octets: bytes = b"Subject: x\r\n\r\nHi\r\n") -> None:
        self._octets = octets

    async def read(self) -> bytes:
        octets, self._octets = self._octets, b""
        return octets

    def close(self) -> None:
        self._octets = b""


@dataclass
class Letter:
    """A letter that was begun."""

    kind: str
    about: list[str]
    replies: list[PeerReply] = field(default_factory=list)
    aborted: bool = False

    def abort(self) -> None:
        self.aborted = True


class Letters:
    """Writes what letters were wanted."""

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.written: list[Letter] = []

    async def _letter(self, kind, message, replies, via):
        if self.broken is not None:
            raise self.broken
        about = [message.recipients[index].address for index in replies]
        self.written.append(Letter(kind, about, list(replies.values())))
        return self.written[-1]

    def groups(self, message, replies):
        return [replies]

    async def failed(self, name, message, replies, via):
        return await self._letter("failed", message, replies, via)

    async def delayed(self, name, message, replies, via):
        return await self._letter("delayed", message, replies, via)

    async def relayed(self, name, message, replies, via):
        return None


class Queue:
    """A queue in memory; what it holds outlives a manager."""

    def __init__(self) -> None:
        self.there: dict[str, QueuedMessage] = {}
        self.letters: list[Letter] = []
        self.aside: dict[str, str] = {}
        self.twice: list[str] = []
        self.full = False
        self._arrived = None

    def watch(self, arrived):
        self._arrived = arrived

    def commit(self, name: str, message: QueuedMessage) -> None:
        self.there[name] = message
        if self._arrived is not None:
            self._arrived(name, message)

    async def names(self):
        return list(self.there)

    async def read(self, names):
        return [self.there.get(name) for name in names]

    async def text(self, name):
        if name not in self.there:
            raise MessageGone(name)
        return Text()

    async def finish(self, name, done, told=(), letters=(), *, whole):
        if self.full:
            raise TemporaryFailure("no space")
        if name not in self.there:
            self.twice.append(name)
            return
        self.letters += letters
        if whole:
            del self.there[name]
        else:
            self.there[name] = self.there[name].with_marks(done, told)

    async def set_aside(self, name, why):
        self.aside[name] = why
        del self.there[name]


@dataclass(eq=False)
class Connection:
    """A connection whose peer answers as the relay's script says."""

    relay: Relay
    via: str
    most: int
    usable: bool = True
    sent: list[list[str]] = field(default_factory=list)
    closed: bool = False

    async def send(self, transaction, text):
        to = [one.address for one in transaction.recipients]
        self.sent.append(to)
        self.relay.transactions.append((transaction.id, to))
        if self.relay.slow:
            pause: Deferred[None] = Deferred()
            self.relay.pauses.append(pause)
            await pause
        answers = [self.relay.answers.get(address, OK) for address in to]
        postponed = frozenset(n for n in range(len(to)) if n >= self.relay.takes)
        return Result(answers, postponed, usable=self.usable)

    async def close(self):
        self.closed = True

    def abort(self):
        self.closed = True


class Relay:
    """
    Routes all directly; each domain is a site of its own unless ``sites`` says another.

    ``down`` are sites that nobody answers at, ``silent`` those that take their time to answer,
    ``refusing`` those that refuse our login;
    ``nowhere`` has domains that cannot be reached.  Plans wait for ``looking_up``.
    """

    def __init__(self) -> None:
        self.ways: dict[str, str] = {}
        self.sites: dict[str, str] = {}
        self.down: set[str] = set()
        self.silent: set[str] = set()
        self.refusing: set[str] = set()
        self.unsafe: set[str] = set()
        self.nowhere: dict[str, Undeliverable] = {}
        self.looking_up: Deferred[None] | None = None
        self.answers: dict[str, PeerReply] = {}
        self.transactions: list[tuple[str, list[str]]] = []
        self.connections: list[Connection] = []
        self.tried: list[str] = []
        self.pauses: list[Deferred[None]] = []
        self.slow = False
        self.takes = 1000
        self.most = 50
        self.rate = None

    def way(self, message, recipient):
        return self.ways.get(recipient.address, "direct")

    def sender(self, message, recipient):
        return message.sender

    async def plan(self, way, domain):
        if self.looking_up is not None:
            await self.looking_up
        if domain in self.nowhere:
            raise self.nowhere[domain]
        site = self.sites.get(domain, domain)
        return Plan(site, (Hop(host=site, address="192.0.2.1"),), self.rate)

    async def connect(self, plan):
        self.tried.append(plan.site)
        if plan.site in self.silent:
            self.pauses.append(Deferred())
            await self.pauses[-1]
        if plan.site in self.down:
            raise Undeliverable(SILENT)
        if plan.site in self.unsafe:
            raise Undeliverable(PeerReply(550, "5.7.30", "no TLS", "tls"), unsafe=True)
        if plan.site in self.refusing:
            raise Undeliverable(WRONG)
        self.connections.append(Connection(self, plan.site, self.most))
        return self.connections[-1]


class Office:
    """A manager over a queue, a relay and a clock that a test moves."""

    def __init__(self, state: str, lifetimes: Lifetimes | None = None, **settings: object) -> None:
        self.state = state
        self.clock = Clock()
        self.queue = Queue()
        self.relay = Relay()
        self.letters = Letters()
        self.refused: list[tuple[str, int, int]] = []
        self.shares = QueueShares()
        self.logins_refused: list[tuple[str, PeerReply]] = []
        self._settings = settings
        self._lifetimes = lifetimes or Lifetimes()
        self.manager = self.manager_again()

    def manager_again(self) -> QueueManager:
        return QueueManager(
            self.state,
            self.queue,
            self._context(),
            executor=ImmediateExecutor(),
            clock=self.clock,
            now=lambda: NOON + self.clock.seconds(),
            chance=lambda: 0.5,
            **self._settings,
        )

    def _context(self) -> QueueContext:
        return QueueContext(
            self.relay,
            self.letters,
            self._lifetimes,
            refused=lambda *facts: self.refused.append(facts),
            login_refused=lambda *facts: self.logins_refused.append(facts),
            shares=self.shares,
        )

    def use(self) -> None:
        """Reload, with what the relay says now."""
        self.manager.use(self._context())

    def start(self) -> None:
        finish(self.manager.start())

    def stop(self) -> None:
        stopped = Deferred.fromCoroutine(self.manager.stop())
        self.clock.advance(0)  # what waits to be tried again is tried now
        assert stopped.called

    def restart(self, *, killed: bool = False) -> None:
        """Stop and start again, or let a new manager find what a kill has left."""
        if killed:
            for call in self.clock.getDelayedCalls():
                call.cancel()
        else:
            self.stop()
        self.manager = self.manager_again()
        self.start()

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
