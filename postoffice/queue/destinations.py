"""
Where messages wait in memory: for each domain a lane, for each set of hosts a site.

A lane has what goes to one domain by one way; its senders take turns.  A site has the lanes
whose mail the same hosts take; its lanes take turns.  It says how many connections it bears,
and whether its hosts answer.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from postoffice.interfaces import IDelivery
from postoffice.interfaces.relay import Plan
from postoffice.model.dataclass import dataclass
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.outbound import schedule
from postoffice.util.token_bucket import TokenBucket

#: Connections to a site at the beginning.
FIRST = 2

WriteLetter = Callable[[QueuedMessage], Awaitable[IDelivery | None]]


class QueueChange(NamedTuple):
    """
    What the store is to keep: recipients that are finished or told, and letters about them.

    A letter is a function that writes it, and the message that it is about as it was before.
    """

    done: frozenset[int]
    told: frozenset[int]
    letters: Sequence[tuple[WriteLetter, QueuedMessage]]


@dataclass(eq=False, slots=True)
class ActiveMessage:
    """
    A message of which something is in memory; ``message`` has all marks that we know of.

    ``items`` are those in memory, ``uses`` counts them; ``noted``: ``queue.db`` has rows of it,
    and so of all its items.  ``changes`` are those that the store does not have yet; ``saving``:
    some are being saved, and then come the ``steps``.
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

    ``later`` are those that were tried and wait again, with their replies; ``via`` is the server
    that gave them.  ``since`` is when it came into memory (seconds of the clock); ``saved`` is
    whether ``queue.db`` has a row of it.
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
    """Return the name of a lane; what we forward for others has a lane of its own."""
    return f"{way} {domain} forwarded" if forwarded else f"{way} {domain}"


def domain_of(lane: str) -> str:
    """Return the domain in the name of a lane."""
    return lane.split()[1]


class Part(NamedTuple):
    """The recipients of one message, by their indexes, who are reached by one way."""

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
    What waits in memory for one domain, by one way.

    ``plan`` was made at ``planned``, and led to ``site``; ``planning``: one is being made.
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
        """Let an item wait, behind the others of its sender or ``first``."""
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
        """Take an item out of its turn."""
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
        """Take all items."""
        while self.size:
            yield self.take()


class Site:
    """
    The hosts of one or more domains.

    ``lanes`` are those with items; ``parked`` are the names of those whose mail waits in
    ``queue.db`` because no host answers.  ``connections`` are those that it has.  ``failures``
    counts the probes since it last answered, 0 while it answers; ``probe`` is when the next one
    is due (Unix time), and ``reply`` is what the last one gave.  ``proven``: the last connection
    was made.  ``timer``: it will be looked at when its rate allows a message.
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
        self._bears = float(FIRST)

    @property
    def bears(self) -> int:
        """How many connections it gets now."""
        return 1 if self.failures else int(self._bears)

    def wants(self) -> bool:
        """Whether one more connection would have something to do, and may be made."""
        return bool(self.lanes) and self.connections < self.bears

    def take(self) -> Item | None:
        """Take an item of the lane whose turn it is; None if none waits or it has had enough."""
        if not self.lanes or self.pace():
            return None
        key, lane = next(iter(self.lanes.items()))
        item = lane.take()
        if lane.size:
            self.lanes.move_to_end(key)
        else:
            del self.lanes[key]
        return item

    def limit(self, most: int, rate: tuple[int, float] | None, clock: Callable[[], float]) -> None:
        """Let it have so many connections, and so many messages in so many seconds."""
        self._most = most
        self._bears = min(self._bears, float(most))
        if rate != self._rate:  # a bucket that goes on keeps what was sent
            self._rate = rate
            self._bucket = None if rate is None else TokenBucket(*rate, clock)

    def pace(self) -> float:
        """Seconds until it may have the next message."""
        return 0.0 if self._bucket is None else self._bucket.wait(None)

    def spend(self) -> None:
        """Count a message."""
        if self._bucket is not None:
            self._bucket.spend(None)

    def answered(self) -> bool:
        """Note that a connection was made.  Returns whether none could be made before."""
        back, self.failures, self.reply = bool(self.failures), 0, None
        self.proven = True
        return back

    def sent(self) -> None:
        """Note that a message was sent: it bears a little more."""
        self._bears = min(float(self._most), self._bears + 1 / self._bears)

    def failed(self, reply: PeerReply, now: float) -> None:
        """Note that no connection could be made."""
        self._bears = max(1.0, self._bears - 1)
        if self.connections <= 1:  # the others may be its limit
            self.failures += 1
            self.proven = False
            self.reply = reply
            self._bears = float(min(FIRST, self._most))
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
