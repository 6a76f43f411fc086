"""The connections to other servers: each takes what waits for its site, one message at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import IMailQueue, IText
from postoffice.interfaces.relay import Relay, RelayConnection, Undeliverable
from postoffice.model import log_events
from postoffice.model.errors import MessageGone, PostOfficeError
from postoffice.model.hop import PeerReply, Result, Transaction
from postoffice.model.log_event import tell
from postoffice.queue.destinations import ActiveMessage, Item, Lane, Site
from postoffice.queue.outcomes import Outcomes
from postoffice.queue.parked_sites import ParkedSites
from postoffice.queue.transactions import transaction_of
from postoffice.util.shield import start_work

#: Seconds that a connection without work is kept; idle ones use up the peer's limit.
IDLE = 3.0
#: Messages over one connection, and seconds of its use, at most.
MESSAGES, LONGEST = 100, 300.0
#: Seconds that a stop waits for what is being sent.
STOP = 20.0
#: The reply for messages whose connection ended with a fault of ours.
FAULT = PeerReply(0, "4.3.0", "internal error of this post office", "connect")

log = Logger("postoffice")


class SiteConnections:
    """
    Connects to sites, and sends what waits for them.

    ``parked_sites`` has the sites of which no host answers.  ``again`` is called with an item of
    which recipients are left, to be sent first.
    """

    def __init__(
        self,
        queue: IMailQueue,
        outcomes: Outcomes,
        parked_sites: ParkedSites,
        again: Callable[[Item], None],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self.queue = queue
        self.outcomes = outcomes
        self.clock = clock
        self.now = now
        self.parked_sites = parked_sites
        self.again = again
        self.stopping = False
        self._working: dict[_Worker, Deferred[None]] = {}
        self._wanting: dict[str, Site] = {}  # sites that wait until a connection is free
        self._soon = False  # they are looked at in the next turn

    def use(self, relay: Relay, most: int, login_refused: Callable[[str, PeerReply], None]) -> None:
        """
        From now on connect over this relay, at most so many times.

        ``login_refused`` is called with a site that refuses our login, and what it says.
        """
        self.relay = relay
        self.login_refused = login_refused
        self._most = most

    @property
    def crowded(self) -> bool:
        """Whether a site waits until one of the connections ends."""
        return bool(self._wanting) and len(self._working) >= self._most

    def lanes(self) -> set[Lane]:
        """The lanes of which an item is being sent."""
        return {worker.item.lane for worker in self._working if worker.item is not None}

    def sends(self, item: Item) -> bool:
        """Whether an item is being sent."""
        return any(worker.item is item for worker in self._working)

    def pump(self, site: Site) -> None:
        """Wake an idle connection to send what waits for a site, or make new connections."""
        if self.stopping:
            return
        wait = site.pace()
        if wait:
            if site.lanes and not site.timer:
                site.timer = True
                self.clock.callLater(wait, self._ready, site)
            return
        idle = next((one for one in self._working if one.site is site and one.idle), None)
        if idle is not None:
            idle.wake()
            return
        while site.wants() and not site.pace():
            if not self._may_connect(site):
                self._wanting[site.name] = site
                return
            self._begin(site)

    def _may_connect(self, site: Site) -> bool:
        """
        Return whether one more connection may be made; if there are too many, end an idle one.

        Sites that are not proven to answer have at most half of the connections: an attempt may
        take half a minute, in which others could send.
        """
        if len(self._working) >= self._most:
            if idle := next((one for one in self._working if one.idle), None):
                idle.wake(leave=True)
            return False
        unproven = sum(not worker.site.proven for worker in self._working)
        return site.proven or unproven < max(self._most // 2, 1)

    def _ready(self, site: Site) -> None:
        site.timer = False
        self.pump(site)

    def _begin(self, site: Site) -> None:
        site.connections += 1
        worker = _Worker(self, site)
        work: Deferred[None] = Deferred()
        self._working[worker] = work
        start_work(worker.run()).addErrback(_bug).addCallback(self._ended, worker)

    def _ended(self, _: object, worker: _Worker) -> None:
        site = worker.site
        site.connections -= 1
        self._working.pop(worker).callback(None)
        if self.stopping:
            return
        if not site.failures:
            self.pump(site)
        self.pump_others_soon()

    def pump_others_soon(self) -> None:
        """In the reactor's next turn, connect to sites that wait until this is possible."""
        if self._wanting and not self._soon:
            self._soon = True
            self.clock.callLater(0, self._pump_others)

    def _pump_others(self) -> None:
        self._soon = False
        for name in list(self._wanting):
            if len(self._working) >= self._most:
                break
            if name in self._wanting:
                self.pump(self._wanting.pop(name))

    async def stop(self) -> None:
        """Wait a while for what is being sent; then close all connections."""
        self.stopping = True
        timer = self.clock.callLater(STOP, self._abort)
        working = list(self._working.items())
        for worker, _ in working:
            worker.wake(leave=True)
        await DeferredList([work for _, work in working])
        if timer.active():
            timer.cancel()

    def _abort(self) -> None:
        for worker in list(self._working):
            worker.abort()


class _Worker:
    """One connection to a site; ``item`` is being sent."""

    def __init__(self, connections: SiteConnections, site: Site) -> None:
        self.site = site
        self.item: Item | None = None
        self._connections = connections
        self._connection: RelayConnection | None = None
        self._sent = 0
        self._began = 0.0
        self._leave = False
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for something to send."""
        return self._waiting is not None

    def wake(self, *, leave: bool = False) -> None:
        """Stop waiting: there is something to send, or the connection must end (``leave``)."""
        self._leave = self._leave or leave
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            waiting.callback(None)

    def abort(self) -> None:
        """Close at once; what is being sent is sent again after the next start."""
        if self._connection is not None:
            self._connection.abort()
        self.wake(leave=True)

    async def run(self) -> None:
        """Send until nothing waits any more, or the site does not answer."""
        try:
            while (item := await self._next()) is not None:
                self.item = item
                connection = self._connection
                if connection is None or not connection.usable:
                    connection = await self._connect(item)
                if connection is None:
                    return
                await self._send(connection, item)
                self.item = None
        finally:
            if self.item is not None:  # a fault of ours
                self._connections.outcomes.undeliverable([self.item], Undeliverable(FAULT))
            await self._close()

    async def _next(self) -> Item | None:
        """Take an item; if there is none, wait a little for one."""
        worn = self._sent >= MESSAGES or self._connections.clock.seconds() - self._began > LONGEST
        if worn and self._connection is not None:
            await self._close()
        while not (self._leave or self._connections.stopping):
            item = self.site.take()
            if item is not None:
                return item
            idle = self._connection is not None and self._connection.usable
            if not idle or self._connections.crowded:
                return None
            self._waiting = Deferred()
            self._timer = self._connections.clock.callLater(IDLE, self.wake, leave=True)
            await self._waiting
        return None

    async def _connect(self, item: Item) -> RelayConnection | None:
        """Connect to the site; if that fails, ``item`` and all others of the site wait."""
        await self._close()
        plan = item.lane.plan
        assert plan is not None, "a lane at a site has a plan"
        connections, site = self._connections, self.site
        try:
            connection = await connections.relay.connect(plan)
        except Undeliverable as failure:
            site.not_sent()
            if failure.unsafe:
                self.item = None
                site.lanes.pop(item.lane.key, None)
                connections.outcomes.undeliverable([item, *item.lane.clear()], failure)
            else:
                self._failed(item, failure.reply)
            return None
        self._connection, self._sent, self._began = connection, 0, connections.clock.seconds()
        back = site.answered()
        connections.pump_others_soon()
        if back:
            tell(log, log_events.DESTINATION_UP, to=site.name)
            await connections.parked_sites.unpark(site)
        return connection

    def _failed(self, item: Item, reply: PeerReply) -> None:
        """The site takes no mail from us: ``item`` waits like all others of the site."""
        connections, site = self._connections, self.site
        self.item, self._leave = None, True
        site.failed(reply, connections.now())
        if reply.ours and reply.refused:
            connections.login_refused(site.name, reply)
        if site.failures:
            tell(log, log_events.DESTINATION_DOWN, to=site.name, why=reply.text)
            site.parked.add(item.lane.key)
            connections.outcomes.park(item, reply)
            connections.parked_sites.park(site)
        else:  # its other connections take it
            connections.again(item)

    async def _send(self, connection: RelayConnection, item: Item) -> None:
        """Send an item to as many recipients as one transaction takes."""
        connections, active = self._connections, item.active
        site = self.site
        indexes = item.indexes[: connection.most]
        item.attempts += 1
        began = connections.clock.seconds()
        try:
            transaction, text = await self._prepared(active, indexes)
        except MessageGone:  # an administrator has removed it
            site.not_sent()
            item.indexes = ()
            connections.outcomes.over(item)
            return
        except PostOfficeError as error:
            site.not_sent()
            why = PeerReply(0, "4.3.0", f"preparing the message failed: {error}", "connect")
            connections.outcomes.undeliverable([item], Undeliverable(why))
            return
        try:
            result = await connection.send(transaction, text)
        finally:
            text.close()
        self._sent += 1
        result.times = (began - item.since, *result.times[1:])
        if (login := next((one for one in result.replies if one.ours), None)) is not None:
            self._failed(item, login)
        elif result.begun:
            self._note(item, indexes, result, connection)
        else:  # the connection was lost before: another one takes it
            site.not_sent()
            item.attempts -= 1
            connections.again(item)

    async def _prepared(
        self, active: ActiveMessage, indexes: Sequence[int]
    ) -> tuple[Transaction, IText]:
        """Open the text of a message, and make its transaction.  Raises PostOfficeError."""
        text = await self._connections.queue.text(active.name)
        try:
            return await transaction_of(
                active.message, indexes, text, self._connections.relay.sender
            )
        except BaseException:
            text.close()
            raise

    def _note(
        self, item: Item, indexes: tuple[int, ...], result: Result, connection: RelayConnection
    ) -> None:
        outcomes, site = self._connections.outcomes, self.site
        replies = {
            index: reply
            for place, (index, reply) in enumerate(zip(indexes, result.replies, strict=True))
            if place not in result.postponed
        }
        if replies:
            outcomes.attempted(item, replies, connection.via, result)
            if any(reply.code for reply in replies.values()):
                site.sent()
        if item.indexes and replies:
            self._connections.again(item)
        elif item.indexes:  # the server postpones all: trying at once is useless
            refusal = Undeliverable(
                PeerReply(452, "4.5.3", "the server takes no recipient", "rcpt")
            )
            outcomes.undeliverable([item], refusal)
        else:
            outcomes.over(item)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _bug(why: Failure) -> None:
    log.failure("a connection that sends mail failed", failure=why)
