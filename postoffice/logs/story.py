"""
Finds the whole story of a message or a session in the log.

The log is read twice, as a stream: once for what is searched for, once for all that belongs to
it.  An id joins a message with its session, its attempts and its letters; a UIDL joins it with
the sessions that collected and deleted it.  Plain functions; they block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from postoffice.logs.files import LogSource
from postoffice.logs.line import Line, addresses, parse
from postoffice.model.address import Address, NotAnAddress

#: Events of one story, and stories, at most.
EVENTS, STORIES = 500, 1000
#: The id of a session, of a message, and of a letter about one.
_ID = re.compile(r"[0-9a-f]{6,}(?:\.\d+(?:-[a-z]+)?)?\Z")
#: Where a line may have an id, or UIDLs; ``parse`` then says whether it does.
_OF_ID = re.compile(rb'[ "]id(?:=|\\*"\s*:\s*\\*")([0-9a-zA-Z.-]+)')
_OF_UIDL = re.compile(rb'[ "]uidls?(?:=|\\*"\s*:\s*\\*")"?([^\s"\\]+)')
_ADDRESSES = ("sender", "to", "recipient", "account", "user")
#: Events about a session that a story of a message leaves out: other commands of the client.
_NOT_OF_MESSAGE = frozenset(("refused", "policy-refused", "message-deleted", "messages-collected"))


@dataclass
class Story:
    """
    All events of one message, or of one session (``id``), in the order of the log.

    ``uidls`` are the UIDLs of the message and of letters about it.  ``more``: there were more
    events than ``EVENTS``.
    """

    id: str
    lines: list[Line] = field(default_factory=list)
    uidls: set[str] = field(default_factory=set)
    more: bool = False

    @property
    def is_message(self) -> bool:
        return "." in self.id

    def add(self, line: Line) -> None:
        if len(self.lines) < EVENTS:
            self.lines.append(line)
        else:
            self.more = True


@dataclass
class FoundStories:
    """The stories, in the order in which they begin; ``more``: there are further ones."""

    stories: list[Story]
    more: bool = False


def find(
    source: LogSource, wanted: str, since: float = 0.0, until: float = 0.0, most: int = 20
) -> FoundStories:
    """
    Find what a log tells of an id, an address, a Message-ID or a UIDL.

    Only what is found between ``since`` and ``until`` (Unix time; 0: without a bound) begins a
    story; it then goes on to the end of the log.  Raises LogUnreadable.
    """
    search = _Search(wanted.strip(), since, until, max(1, min(most, STORIES)))
    for octets in source.lines(since) if wanted.strip() else ():
        search.look(octets)
    stories = search.stories()
    if stories:
        joining = _Joining(stories)
        # a session may have begun before ``since``: its files are read from an hour before
        for octets in source.lines(max(since - 3600, 0.0)):
            joining.read(octets)
    told = [story for story in stories if story.lines]
    return FoundStories(sorted(told, key=lambda story: story.lines[0].time), search.more)


class _Search:
    """The first reading: the ids of messages and sessions that are meant."""

    def __init__(self, wanted: str, since: float, until: float, most: int) -> None:
        self.more = False
        self._of_uidl = False
        self._wanted = wanted
        self._since, self._until, self._most = since, until, most
        self._messages: dict[str, None] = {}
        self._sessions: dict[str, None] = {}
        bare = wanted.removeprefix("<").removesuffix(">")
        self._id = wanted if _ID.match(wanted) else ""
        self._message_ids = {wanted, bare, f"<{bare}>"}
        self._addresses = {bare.lower(), _normal(bare)}
        ascii_only = bare.isascii() and not set(bare) & set('\\"')
        self._needle = bare.lower().encode() if ascii_only else b""

    def look(self, octets: bytes) -> None:
        """Look at one line."""
        if self._needle not in octets.lower():
            return
        line = parse(octets)
        if line is None or line.time < self._since or (self._until and line.time > self._until):
            return
        if self._is_meant(line):
            self._keep(line)

    def stories(self) -> list[Story]:
        """An empty story for each that is meant."""
        if self._id and "." not in self._id:  # a session, with all its messages
            return [Story(self._id)] if self._messages or self._sessions else []
        if self._of_uidl and self._messages:  # their stories tell of these sessions
            return [Story(one) for one in self._messages]
        told = {message.partition(".")[0] for message in self._messages}
        alone = [session for session in self._sessions if session not in told]
        return [Story(one) for one in (*self._messages, *alone)][: self._most]

    def _is_meant(self, line: Line) -> bool:
        if self._id:
            own = line["id"]
            return own == self._id or own.startswith((f"{self._id}.", f"{self._id}-"))
        if line["uidl"] == self._wanted or self._wanted in line["uidls"].split(","):
            self._of_uidl = True
            return True
        if line["message_id"] in self._message_ids:
            return True
        return any(self._names(line[name]) for name in _ADDRESSES)

    def _names(self, value: str) -> bool:
        """Return whether one of the addresses in a field is the one that is searched for."""
        if len(value) < 3:
            return False
        return any(one.lower() in self._addresses for one in addresses(value))

    def _keep(self, line: Line) -> None:
        own = line["id"]
        kept = self._messages if "." in own else self._sessions
        own = own.partition("-")[0]
        if not own or own in kept:
            return
        if len(kept) < self._most:
            kept[own] = None
        else:
            self.more = True


def _normal(address: str) -> str:
    try:
        return Address.parse(address).normal
    except NotAnAddress:
        return address.lower()


class _Joining:
    """The second reading: each event goes to the stories that it belongs to."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._by_id: dict[str, Story] = {}
        self._by_session: dict[str, list[Story]] = {}
        self._by_uidl: dict[str, list[Story]] = {}
        for story in stories:
            self._by_id[story.id] = story
            self._by_session.setdefault(story.id.partition(".")[0], []).append(story)

    def read(self, octets: bytes) -> None:
        """Read one line."""
        found = _OF_ID.search(octets)
        session = found[1].decode().partition(".")[0] if found else ""
        if session not in self._by_session and not self._has_uidl(octets):
            return
        line = parse(octets)
        if line is None:
            return
        told: dict[str, Story] = {story.id: story for story in self._of_id(line)}
        told.update((story.id, story) for story in self._of_uidl(line))
        for story in told.values():
            self._learn(story, line)
            story.add(line)

    def _has_uidl(self, octets: bytes) -> bool:
        if not self._by_uidl:
            return False
        found = b",".join(_OF_UIDL.findall(octets)).decode("utf-8", "replace")
        return any(uidl in self._by_uidl for uidl in found.split(","))

    def _of_id(self, line: Line) -> Iterator[Story]:
        own = line["id"].partition("-")[0]
        if own in self._by_id:
            yield self._by_id[own]
        elif "." not in own:
            if line.event not in _NOT_OF_MESSAGE:
                yield from self._by_session.get(own, ())
        elif own.partition(".")[0] in self._by_id:  # a message of a session that is searched for
            yield self._by_id[own.partition(".")[0]]

    def _of_uidl(self, line: Line) -> Iterator[Story]:
        if line.event in ("message-deleted", "messages-collected", "mail-removed"):
            for uidl in (line["uidl"], *line["uidls"].split(",")):
                yield from self._by_uidl.get(uidl, ())

    def _learn(self, story: Story, line: Line) -> None:
        uidl = line["uidl"]
        if not uidl or line.event not in ("message-taken", "message-taken-for", "letter-written"):
            return
        if uidl not in story.uidls and len(story.uidls) < EVENTS:
            story.uidls.add(uidl)
            self._by_uidl.setdefault(uidl, []).append(story)
