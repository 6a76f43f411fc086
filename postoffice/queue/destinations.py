"""
Where messages wait in memory: for each domain a lane, for each set of hosts a site.

A lane has the mail for one domain by one way; its senders take turns.  A site has the lanes whose
mail the same hosts take; its lanes take turns.  It knows how many connections it may have, and
whether its hosts answer.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from postoffice.interfaces import IDelivery
from postoffice.interfaces.relay import Plan
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.outbound import schedule
from postoffice.util.token_bucket import TokenBucket

#: Connections that a site may have at first.
FIRST = 2

WriteLetter = Callable[[QueuedMessage], Awaitable[IDelivery | None]]


class QueueChange(NamedTuple):
    """
    A change to be saved in the store: recipients to mark as finished or told, and letters.

    A letter is a function that writes it, and the message before this change.
    """

    done: frozenset[int]
    told: frozenset[int]
    letters: Sequence[tuple[WriteLetter, QueuedMessage]]


@dataclass(eq=False, slots=True)
class ActiveMessage:
    """
    A message in memory; ``message`` has all marks, also those that are not saved yet.

    ``items`` are those in memory; ``uses`` counts them, and others who need the message now.
    ``noted``: ``queue.db`` has rows of it, and so of all its items.  ``changes`` are not saved in
    the store yet; ``saving``: some are being saved, and the ``steps`` follow when all are.
    """

    name: str
    message: QueuedMessage
    uses: int = 0
    items: set[Item] = field(default_factory=set)
    noted: bool = False
    changes: list[QueueChange] = field(default_factory=list)
    saving: bool = False
    steps: list[Callable[[], None]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Item:
    """
    The recipients of one message in one lane: ``indexes`` wait or are being sent.

    ``later`` are those that were tried and have to wait again, with their replies from the server
    ``via``.  ``since`` is when the item came into memory (seconds of the clock); ``saved``:
    ``queue.db`` has a row of it.
    """

    active: ActiveMessage
    indexes: tuple[int, ...]
    lane: Lane
    since: float
    attempts: int = 0
    saved: bool = False
    later: dict[int, PeerReply] = field(default_factory=dict)
    via: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Its key in ``queue.db``."""
        return self.active.name, self.lane.key


def lane_key(way: str, domain: str, *, forwarded: bool) -> str:
    """Return the name of a lane; forwarded mail has lanes of its own."""
    return f"{way} {domain} forwarded" if forwarded else f"{way} {domain}"


def domain_of(lane: str) -> str:
    """Return the domain in the name of a lane."""
    return lane.split()[1]


class Part(NamedTuple):
    """The recipients of one message in one lane, by their indexes."""

    way: str
    domain: str
    indexes: list[int]


def lanes_of(
    message: QueuedMessage, indexes: Iterable[int], way_of: Callable[[QueuedRecipient], str]
) -> dict[str, Part]:
    """Part recipients of a message by the names of their lanes."""
    lanes: dict[str, Part] = {}
    for index in indexes:
        recipient = message.recipients[index]
        way, domain = way_of(recipient), recipient.domain.lower()
        key = lane_key(way, domain, forwarded=bool(recipient.forwarder))
        lanes.setdefault(key, Part(way, domain, [])).indexes.append(index)
    return lanes


class Lane:
    """
    The items that wait in memory for one domain, by one way.

    ``plan`` was made at ``planned`` (Unix time), for ``site``; ``planning``: one is being made.
    """

    __slots__ = ("_senders", "domain", "key", "plan", "planned", "planning", "site", "size", "way")

    def __init__(self, way: str, domain: str, key: str) -> None:
        self.way = way
        self.domain = domain
        self.key = key
        self.site: Site | None = None
        self.plan: Plan | None = None
        self.planned = 0.0
        self.planning = False
        self.size = 0
        self._senders: OrderedDict[str, deque[Item]] = OrderedDict()

    def add(self, item: Item, *, first: bool = False) -> None:
        """Let an item wait, after the others of its sender or ``first``."""
        message = item.active.message
        waiting = self._senders.setdefault(message.login or message.sender, deque())
        if first:
            waiting.appendleft(item)
        else:
            waiting.append(item)
        self.size += 1

    def take(self) -> Item:
        """Take the first item of the sender whose turn it is."""
        sender, waiting = next(iter(self._senders.items()))
        item = waiting.popleft()
        self.size -= 1
        if waiting:
            self._senders.move_to_end(sender)
        else:
            del self._senders[sender]
        return item

    def drop(self, item: Item) -> None:
        """Remove an item."""
        message = item.active.message
        sender = message.login or message.sender
        waiting = self._senders.get(sender)
        if waiting is not None and item in waiting:
            waiting.remove(item)
            self.size -= 1
            if not waiting:
                del self._senders[sender]
            if not self.size and self.site is not None:
                self.site.lanes.pop(self.key, None)

    def clear(self) -> Iterator[Item]:
        """Remove all items, and yield them."""
        while self.size:
            yield self.take()


class Site:
    """
    The hosts of one or more domains.

    ``lanes`` are those with items; ``parked`` are the names of those whose mail waits in
    ``queue.db`` because no host answers.  ``connections`` is how many it has.  ``failures`` counts
    the failed probes since it last answered; ``probe`` is when the next one is due (Unix time), and
    ``reply`` is the outcome of the last one.  ``proven``: the last attempt to connect succeeded.
    ``timer``: a timer runs until its rate allows the next message.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.lanes: OrderedDict[str, Lane] = OrderedDict()
        self.parked: set[str] = set()
        self.connections = 0
        self.timer = False
        self.proven = False
        self._rate: tuple[int, float] | None = None
        self._bucket: TokenBucket | None = None
        self.failures = 0
        self.probe = 0.0
        self.reply: PeerReply | None = None
        self._most = FIRST
        self._allowed = float(FIRST)

    @property
    def allowed_connections(self) -> int:
        """How many connections it may have now."""
        return 1 if self.failures else int(self._allowed)

    def wants(self) -> bool:
        """Whether one more connection may be made, and would have something to send."""
        return bool(self.lanes) and self.connections < self.allowed_connections

    def take(self) -> Item | None:
        """
        Take an item of the lane whose turn it is; None if none waits or the rate is reached.

        It counts for the rate at once: other connections may be made at the same time.
        """
        if not self.lanes or self.pace():
            return None
        if self._bucket is not None:
            self._bucket.spend(None)
        key, lane = next(iter(self.lanes.items()))
        item = lane.take()
        if lane.size:
            self.lanes.move_to_end(key)
        else:
            del self.lanes[key]
        return item

    def limit(self, most: int, rate: tuple[int, float] | None, clock: Callable[[], float]) -> None:
        """Allow so many connections, and so many messages in so many seconds."""
        self._most = most
        self._allowed = min(self._allowed, float(most))
        if rate != self._rate:  # otherwise the bucket still counts what was sent
            self._rate = rate
            self._bucket = None if rate is None else TokenBucket(*rate, clock)

    def pace(self) -> float:
        """Seconds until it may have the next message."""
        return 0.0 if self._bucket is None else self._bucket.wait(None)

    def not_sent(self) -> None:
        """An item that was taken was not sent: it does not count for the rate."""
        if self._bucket is not None:
            self._bucket.give_back(None)

    def answered(self) -> bool:
        """Note that a connection was made.  Return whether the last attempts had failed."""
        back, self.failures, self.reply = bool(self.failures), 0, None
        self.proven = True
        return back

    def sent(self) -> None:
        """Note that a message was sent: allow a little more."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)

    def failed(self, reply: PeerReply, now: float) -> None:
        """Note that no connection could be made."""
        self._allowed = max(1.0, self._allowed - 1)
        if self.connections <= 1:  # with others open, a failure may be a limit of the server
            self.failures += 1
            self.proven = False
            self.reply = reply
            self._allowed = float(min(FIRST, self._most))
            self.probe = now + schedule.probe_gap(self.failures)


def describe(
    sites: Iterable[Site], lanes: Iterable[Lane], waiting: Mapping[str, int], paused: set[str]
) -> list[dict[str, object]]:
    """
    Describe the destinations for an administrator.

    Each has its state, its connections, what waits, the next probe and the last reply.

    ``waiting`` is how many messages wait in each lane, ``paused`` are the lanes that are paused.
    """
    found: list[dict[str, object]] = []
    known: set[str] = set()
    lanes = list(lanes)
    for site in sites:
        its = {lane.key for lane in lanes if lane.site is site} | site.parked
        known |= its
        found.append(
            {
                "destination": site.name,
                "state": "unreachable" if site.failures else "reachable",
                "connections": site.connections,
                "waiting": sum(waiting.get(key, 0) for key in its),
                "probe": site.probe if site.failures else None,
                "reply": site.reply.text if site.reply else "",
            }
        )
    for key in sorted(waiting.keys() - known):
        state = "paused" if key in paused else "waiting"
        found.append({"destination": key, "state": state, "connections": 0,
                      "waiting": waiting[key], "probe": None, "reply": ""})  # fmt: skip
    return found
