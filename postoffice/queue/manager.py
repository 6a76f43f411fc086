"""
The queue manager: it sends what waits in the queue, each message at its time.

Mail that was just taken is sent at once.  What could not be sent waits in ``queue.db`` and comes
back when it is due, so that memory has only what is being sent.  ``connections`` sends, and
``outcomes`` has what follows from a reply.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import Executor, IMailQueue
from postoffice.interfaces.relay import Plan, Undeliverable
from postoffice.model.errors import TemporaryFailure
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedMessage
from postoffice.queue.active_messages import ActiveMessages
from postoffice.queue.admin import QueueAdmin
from postoffice.queue.connections import SiteConnections
from postoffice.queue.context import QueueContext
from postoffice.queue.destinations import (
    ActiveMessage,
    Item,
    Lane,
    Part,
    Site,
    describe,
    domain_of,
    lanes_of,
)
from postoffice.queue.due import PAGE, Due
from postoffice.queue.outcomes import Outcomes
from postoffice.queue.parked_sites import ParkedSites
from postoffice.queue.pauses import ALL, Pauses
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.plans import Plans
from postoffice.queue.queue_db import QUEUE, QueueDB, Row
from postoffice.queue.selection import Selection
from postoffice.util.periodic import Periodic
from postoffice.util.shield import start_work

#: Items in memory at most; beyond it, they wait in ``queue.db``.
ACTIVE = 10_000
#: Seconds between two looks for what is due, and for what is too old.
LOOK, AGE_LOOK = 1.0, 30.0
#: Seconds for which the plan of a lane holds.
PLAN_AGE = 60.0

log = Logger("postoffice")


class QueueManager:
    """
    Sends what is in ``queue``, as ``context`` says.

    ``state`` is the folder of ``queue.db``.  ``now`` returns Unix time.  ``chance`` returns random
    numbers from 0 to 1.
    """

    def __init__(
        self,
        state: str,
        queue: IMailQueue,
        context: QueueContext,
        *,
        executor: Executor,
        clock: IReactorTime,
        now: Callable[[], float],
        chance: Callable[[], float] = random.random,
        active: int = ACTIVE,
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self.sites: dict[str, Site] = {}
        self.running = False
        self._queue = queue
        self._clock = clock
        self._now = now
        self._executor = executor
        self._db = QueueDB(os.path.join(state, QUEUE))
        self._rows = PendingRows(self._db, executor)
        self._in_memory = ActiveMessages(queue, self._rows, active)
        self._meanwhile: list[str] | None = None  # names of what arrives during the start
        self.pauses = Pauses(self._db, self._rows)
        self._plans = Plans()
        self._outcomes = Outcomes(
            queue, self._rows, self._in_memory, clock=clock, now=now, chance=chance
        )
        self._parked_sites = ParkedSites(self._db, self._rows, self._outcomes, self.pauses, now)
        self._connections = SiteConnections(
            queue, self._outcomes, self._parked_sites, self._again, clock=clock, now=now
        )
        self._due = Due(
            self._db, self._rows, self._in_memory, self._outcomes, now, self._lanes_of, self._add
        )
        self._looking = Periodic(clock, LOOK, self._look, self._look_failed)
        self._reading: Deferred[None] = succeed(None)
        self._aging = Periodic(clock, AGE_LOOK, self._due.look_at_ages, self._look_failed)
        self.admin = QueueAdmin(queue, self._db, self._rows, self)
        self.use(context)

    def use(self, context: QueueContext) -> None:
        """Use another context from now on; connections that are sending go on as before."""
        self._plans.relay = context.relay
        self._most = context.most
        self._rows.lifetimes = context.lifetimes
        self.shares = context.shares
        self._outcomes.use(context.letters, context.lifetimes, context.refused, self.shares.left)
        self._connections.use(context.relay, context.all_connections, context.login_refused)
        for lane in self.lanes.values():
            lane.planned = 0.0
            self._empty(lane, self._outcomes.put_back)  # its way may be another one now
        if self.running:
            self.probe_now()
            start_work(self._rows.run(self._db.unpark, ALL, self._now())).addErrback(
                self._look_failed
            )

    async def start(self) -> None:
        """Open ``queue.db``, and begin to send.  Raises StartupError."""
        await self._executor.run(self._db.open)
        meanwhile = self._meanwhile = []
        self._queue.watch(self._arrived)
        new = await self._rows.run(self._db.recover, await self._queue.names())
        self.shares.load(await self._rows.run(self._db.by_login))
        await self.pauses.load()
        self.running, self._meanwhile = True, None
        self._reading = start_work(self._read_all(sorted({*new, *meanwhile}))).addErrback(
            self._look_failed
        )
        self._looking.start(now=True)
        self._aging.start()

    async def stop(self) -> None:
        """Finish what is being sent, and close ``queue.db``."""
        if not self.running:
            return
        await self._looking.stop()
        await self._aging.stop()
        self.running = False
        await self._reading
        await self._connections.stop()
        await self._outcomes.stop()
        await self._rows.run(self._db.close)

    # -- what comes in ---------------------------------------------------------------

    def _arrived(self, name: str, message: QueuedMessage) -> None:
        """Take in a message that was committed to the queue."""
        if not self.running:
            if self._meanwhile is not None:
                self._meanwhile.append(name)
            return  # or a later start finds it
        self.shares.came(name, message)
        active = self._in_memory.load(name, message)
        lanes = self._lanes_of(active, message.left)
        sizes = [lane.size for key in lanes if (lane := self.lanes.get(key)) is not None]
        if message.held or not self._in_memory.has_room(max(sizes, default=0)):
            self._rows.put(self._rows.new(active, lanes))
            self._in_memory.unload_unused(active)
        else:
            self._add(active, message.left, ())

    async def _read_all(self, names: Sequence[str]) -> None:
        """Take in all messages of which ``queue.db`` knows nothing, while others are sent."""
        for start in range(0, len(names), PAGE):
            if not self.running:
                return
            await self._read_new(names[start : start + PAGE])

    async def _read_new(self, names: Sequence[str]) -> None:
        """Take in messages of which ``queue.db`` knows nothing."""
        for name, message in zip(names, await self._queue.read(names), strict=True):
            if message is None or name in self._in_memory:
                continue
            if message.left:
                self._arrived(name, message)
            else:  # a crash cut off its end
                self.shares.came(name, message)
                self._outcomes.remove(ActiveMessage(name, message))

    def _lanes_of(self, active: ActiveMessage, indexes: Iterable[int]) -> dict[str, Part]:
        """Part recipients of a message by the names of their lanes, as the routes are now."""
        return lanes_of(active.message, indexes, partial(self._plans.relay.way, active.message))

    def _add(self, active: ActiveMessage, indexes: Iterable[int], rows: Iterable[Row]) -> None:
        """Let recipients of a message wait in their lanes; ``rows`` are what ``queue.db`` has."""
        attempts = {row.lane: row.attempts for row in rows}
        lanes = self._lanes_of(active, indexes)
        active.uses += 1  # an item may be over before the next one is made
        active.noted = active.noted or bool(attempts)
        since = self._clock.seconds()
        for key, part in lanes.items():
            lane = self.lanes.get(key)
            if lane is None:
                lane = self.lanes[key] = Lane(part.way, part.domain, key)
            its = tuple(part.indexes)
            item = Item(active, its, lane, since, attempts.get(key, 0), key in attempts)
            self._in_memory.add(item)
            if active.noted:
                self._outcomes.note(item)
            self._wait(item)
        self._outcomes.forget(
            active, [(active.name, lane) for lane in attempts.keys() - lanes.keys()]
        )
        active.uses -= 1
        self._in_memory.unload_unused(active)

    # -- lanes and sites ---------------------------------------------------------------

    def _wait(self, item: Item, *, first: bool = False) -> None:
        """Let an item wait for a connection."""
        lane = item.lane
        if lane.domain in self.pauses:
            self._outcomes.park(item, None)
            return
        lane.add(item, first=first)
        if lane.site is not None and self._now() - lane.planned < PLAN_AGE:
            self._join(lane, lane.site)
        else:
            self._begin_plan(lane)

    def _begin_plan(self, lane: Lane) -> None:
        if not lane.planning:
            lane.planning = True
            start_work(self._plan(lane)).addErrback(self._bug)

    def _again(self, item: Item) -> None:
        """Let the recipients of an item that are left be the next of their sender."""
        self._wait(item, first=True)

    async def _plan(self, lane: Lane) -> None:
        """Find the hosts of a lane."""
        try:
            plan = await self._plans.ask(lane.way, lane.domain)
        except Undeliverable as failure:
            self._outcomes.undeliverable(list(lane.clear()), failure)
            return
        except Exception:  # a bug costs this lane one attempt
            log.failure("planning the way to {domain} failed", domain=lane.domain)
            why = PeerReply(0, "4.3.0", "internal error of this post office", "dns")
            self._outcomes.undeliverable(list(lane.clear()), Undeliverable(why))
            return
        finally:
            lane.planning = False
        site = self.sites.get(plan.site)
        if site is None:
            site = self.sites[plan.site] = Site(plan.site)
        site.limit(self._most, plan.rate, self._clock.seconds)
        lane.plan, lane.planned, lane.site = plan, self._now(), site
        if lane.size:
            self._join(lane, site)

    def _empty(self, lane: Lane, step: Callable[[Item], None]) -> None:
        """Remove all items of a lane; ``step`` gets each."""
        if lane.site is not None:
            lane.site.lanes.pop(lane.key, None)
        for item in lane.clear():
            step(item)

    def _join(self, lane: Lane, site: Site) -> None:
        site.lanes.setdefault(lane.key, lane)
        if site.failures and (site.connections or self._now() < site.probe):
            self._parked_sites.park(site)
        else:
            self._connections.pump(site)

    # -- for the administrator ---------------------------------------------------------

    def note(self) -> None:
        """Write rows of all items in memory that have none."""
        for item in self._in_memory:
            self._outcomes.note(item)

    async def take_back(self, names: Iterable[str]) -> set[str]:
        """Move messages from memory to ``queue.db``; return those that stay: they are sent now."""
        busy = set()
        for item in self._in_memory.of(names):
            if self._connections.sends(item) or item.active.saving:
                busy.add(item.active.name)
            else:
                item.lane.drop(item)
                self._outcomes.put_back(item)
        return busy

    def left(self, name: str, message: QueuedMessage) -> None:
        """A message has left the queue."""
        self.shares.left(name, message)

    def probe_now(self) -> None:
        """Try destinations that did not answer at the next look."""
        for site in self.sites.values():
            site.probe = 0.0

    async def pause(self, domain: str) -> None:
        """Send nothing more to a domain, or to any, until its pause ends."""
        await self.pauses.pause(domain, self._now())
        for lane in self.lanes.values():
            if lane.domain in self.pauses:
                self._empty(lane, lambda item: self._outcomes.park(item, None))

    async def resume(self, domain: str) -> bool:
        """Send to a domain again; False if it was not paused."""
        return await self.pauses.resume(domain, self._now())

    async def noted(self) -> None:
        """Wait until ``queue.db`` has rows of all that waits or is being sent."""
        self.note()
        await self._rows.run(int)

    async def plan(self, address: str, sender: str) -> tuple[str, Plan]:
        """Find the way to an address, without sending anything.  Raises Undeliverable."""
        return await self._plans.of_address(address, sender, self._now())

    async def destinations(self) -> list[dict[str, object]]:
        """Describe where mail goes, and what waits (``destinations.describe``)."""
        await self.noted()
        waiting = await self._rows.run(self._db.by_lane)
        paused = {key for key in waiting if domain_of(key) in self.pauses}
        return describe(self.sites.values(), self.lanes.values(), waiting, paused)

    async def bounce(self, selection: Selection) -> list[Row]:
        """Return messages to their senders."""
        rows = await self.admin.take(selection)
        await self._due.each(rows, self._outcomes.bounce)
        return rows

    # -- what comes back ---------------------------------------------------------------

    async def _look(self) -> bool:
        """Bring back what is due, and probe sites that did not answer."""
        room = min(self._in_memory.most - len(self._in_memory), PAGE)
        more = False
        await self._parked_sites.look()
        if room > 0:
            most = self._in_memory.most_of_lane
            full = [key for key, lane in self.lanes.items() if lane.size >= most]
            rows = await self._rows.run(self._db.claim, self._now(), room, full)
            await self._due.bring(rows)
            more = len(rows) == room
        for site in list(self.sites.values()):
            if rows := await self._parked_sites.probes(site):
                await self._due.bring(rows)
        self._forget_idle()
        return more

    def _forget_idle(self) -> None:
        """Forget lanes and sites that have nothing to do."""
        before = self._now() - PLAN_AGE
        sending = self._connections.lanes()
        for key, lane in list(self.lanes.items()):
            idle = not (lane.size or lane.planning or lane in sending)
            if idle and lane.planned < before:
                del self.lanes[key]
        wanted = {lane.site.name for lane in self.lanes.values() if lane.site is not None}
        for name, site in list(self.sites.items()):
            if not (site.lanes or site.connections or site.parked or name in wanted):
                del self.sites[name]

    def _look_failed(self, why: Failure) -> None:
        if isinstance(why.value, (TemporaryFailure, OSError)):
            log.error("looking through the queue failed, retrying: {error}", error=why.value)
        else:
            log.failure("looking through the queue failed, retrying", failure=why)

    def _bug(self, why: Failure) -> None:
        log.failure("sending from the queue failed", failure=why)
