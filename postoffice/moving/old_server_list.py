"""What another POP3 server lists, and the UIDL that each message has here.  It blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b, md5

from postoffice.pop3.client_commands import Ended, retr, top
from postoffice.pop3.client_connection import (
    CommandRefused,
    POP3ClientConnection,
    POP3Failed,
)
from postoffice.pop3.client_listing import Lines, ListedSizes
from postoffice.pop3.client_reply import COMMAND, failure
from postoffice.protocol.wire import TopReader
from postoffice.store.names import is_uidl

#: WildDuck and others list only the newest messages: a round number of them is suspicious.
_ROUND = (250, 500, 1000)


@dataclass(frozen=True, slots=True)
class Listed:
    """
    A message at the old server: its number in this session, its UIDL there, and its size.

    ``uidl`` is "" if the server gave none, ``size`` is None if it is not listed.  ``key`` is
    its UIDL here: the same, if it is one.
    """

    number: int
    uidl: str
    size: int | None
    key: str = ""


@dataclass
class OldList:
    """
    All messages, in order, and warnings for the administrator.

    ``doubtful``: the lists contradict one another or may not be whole, so that the server may have
    messages that are not in them.
    ``bare``: no message has a UIDL there.
    """

    messages: list[Listed]
    warnings: list[str] = field(default_factory=list)
    doubtful: bool = False
    bare: bool = False


def list_all(connection: POP3ClientConnection) -> OldList:
    """List a server's messages.  Raises POP3Failed."""
    told: list[str] = []
    stat = connection.stat()
    try:
        sizes = connection.sizes()
    except CommandRefused as why:
        told.append(f"{why}; the sizes are not known")
        sizes = ListedSizes({}, [])
    uidls = connection.uidls()
    if sizes.values and uidls is not None and not uidls.values:
        none = f"the old server has {len(sizes.values)} messages, and its UIDL lists none of them"
        raise POP3Failed(failure(COMMAND, none))
    listed = _joined(sizes, uidls or Lines({}), told.append)
    _check_numbers(stat, sizes, uidls, listed, told.append)
    doubtful = bool(told)
    bare = [one for one in listed if not one.uidl]
    if bare:
        told.append(
            f"{len(bare)} of the messages have no UIDL at the old server: they are known by the "
            "MD5 of their header and their size, and get new UIDLs"
        )
        keys = dict(_header_keys(connection, bare))
        listed = [one if one.uidl else replace(one, key=keys.get(one.number, "")) for one in listed]
        if any(not (one.uidl or one.key) for one in listed):
            doubtful = True
            told.append("the old server refuses the headers of some of them, which are left out")
            listed = [one for one in listed if one.uidl or one.key]
    every = not any(one.uidl for one in listed)
    return OldList(list(_distinct(listed, told.append)), told, doubtful, every)


def _joined(sizes: ListedSizes, uidls: Lines, warn: Callable[[str], object]) -> list[Listed]:
    wrong = [*sizes.wrong, *uidls.wrong]
    if wrong:
        warn(f"the old server's lists have lines that cannot be read: {wrong[0]!r}")
    numbers = sorted(sizes.values.keys() | uidls.values.keys())
    return [Listed(n, uidls.values.get(n, ""), sizes.values.get(n)) for n in numbers]


def _check_numbers(
    stat: tuple[int, int] | None,
    sizes: ListedSizes,
    uidls: Lines | None,
    listed: list[Listed],
    warn: Callable[[str], object],
) -> None:
    if uidls is not None and sizes.values and sizes.values.keys() != uidls.values.keys():
        warn(
            f"the old server lists {len(sizes.values)} messages by LIST and "
            f"{len(uidls.values)} by UIDL"
        )
    if stat is not None and stat[0] != len(listed):
        warn(f"the old server says that it has {stat[0]} messages, and lists {len(listed)}")
    if len(listed) in _ROUND:
        warn(
            f"the old server lists exactly {len(listed)} messages: if it lists only the newest "
            "(WildDuck: maxMessages), let it list all first"
        )


def _header_keys(connection: POP3ClientConnection, bare: list[Listed]) -> Iterator[tuple[int, str]]:
    """Make keys of messages without UIDL; one whose header the server refuses gets none."""
    sizes = {one.number: one.size for one in bare}
    refused: list[int] = []
    for commands in (map(top, sizes), map(retr, refused)):
        digest, reader = md5(usedforsecurity=False), TopReader(0)
        for event in connection.fetch(commands):
            if not isinstance(event, Ended):
                if not reader.done:
                    digest.update(reader.feed(event.octets))
                continue
            number = event.command.number
            if event.reply.ok:
                size = sizes[number]
                yield number, digest.hexdigest() + ("" if size is None else f"-{size}")
            elif event.command.verb == "TOP":
                refused.append(number)
            digest, reader = md5(usedforsecurity=False), TopReader(0)


def _distinct(listed: Iterable[Listed], warn: Callable[[str], object]) -> Iterator[Listed]:
    """Give a new UIDL to each message whose own POP3 does not allow, or another one has."""
    counts: dict[str, int] = {}
    twins = odd = 0
    for one in listed:
        said = one.key or one.uidl
        before = counts.get(said, 0)
        counts[said] = before + 1
        if before or not is_uidl(said):
            twins += bool(before)
            odd += not before
            yield replace(one, key=_new_key(said, before))
        else:
            yield replace(one, key=said)
    if odd:
        warn(f"{odd} of the messages have a UIDL that POP3 does not allow: they get new ones")
    if twins:
        warn(f"{twins} of the messages have the UIDL of another: they get new ones")


def _new_key(said: str, before: int) -> str:
    """The same each time, so that an import that is run again finds the message."""
    octets = f"{said}\n{before}".encode("utf-8", "surrogateescape")
    return "o" + blake2b(octets, digest_size=20).hexdigest()
