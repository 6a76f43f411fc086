"""
How an address leads to accounts: one fixed order, over any directory.

The order is: the exact account or alias; the same without the tag; postmaster and abuse;
the domain that this domain is the same as, by the same steps; the catch-all; refuse.

Nothing here does I/O.  A generator yields each name that it wants looked up, in normal
form, and is sent a ``Found``; ``run()`` lets it ask a directory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import NamedTuple, TypeVar

from postoffice.model.address import Account, Address
from postoffice.model.alias import DISCARD, REFUSE, SEPARATORS, Alias, Domain, Found
from postoffice.model.errors import TemporaryFailure
from postoffice.model.reply import MAILBOX_DISABLED, NO_RELAY, UNKNOWN_RECIPIENT, Reply

T = TypeVar("T")

#: Aliases that lead one to the next, at most; and names that one address may lead to.
DEPTH = 10
NAMES = 1000
#: Local parts that lead to the postmaster in every domain, unless it has its own (RFC 2142).
ROLES = ("postmaster", "abuse")

#: The rules, in their order, and what they are called when an address is explained.
EXACT = "exact"
UNTAGGED = "without the tag"
ROLE = "postmaster or abuse"
SAME_AS = "domain alias"
CATCH_ALL = "catch-all"
FOREIGN = "not a domain of ours"

Entry = Account | Alias | Domain | None
Asking = Generator[str, Found, T]


class AliasLoop(TemporaryFailure):
    """
    Aliases lead in a circle, or too far; the sender tries again until somebody mends them.

    ``steps`` are the steps up to there.
    """

    steps: tuple[Step, ...] = ()


class NoPostmaster(TemporaryFailure):
    """The address of the postmaster leads nowhere; the sender tries again."""


class Step(NamedTuple):
    """
    One rule that was tried: for which address, and what it found (None: nothing).

    ``depth`` is 0 for the address that was asked for, 1 for the targets of its alias, etc.
    """

    depth: int
    address: str
    rule: str
    entry: Entry = None

    @property
    def found(self) -> str:
        """The finding of the rule, in words."""
        entry = self.entry
        if entry is None:
            return "nothing"
        if isinstance(entry, Account):
            state = "" if entry.enabled else f", {entry.state}"
            return f"account{state}{_going_to(entry.forward, ', forwards to')}"
        if isinstance(entry, Alias):
            if entry.kind == REFUSE:
                return f"refused, {entry.words}"
            if entry.kind == DISCARD:
                return "discarded"
            return _going_to(entry.targets, "alias of")
        if self.rule == CATCH_ALL:
            return _going_to(entry.catch_all, "caught for")
        return f"as in {entry.same_as}" if self.rule == SAME_AS else "the postmaster's"


class RefusedAddress(NamedTuple):
    """An address on the way that takes no mail, and the reply to it."""

    address: str
    reply: Reply


class Resolution(NamedTuple):
    """
    What happens to mail for an address.

    ``accounts`` get it, each once; ``remote`` are addresses of other domains, and ``forwarders``
    the accounts that forward to each of them ("": an alias or a catch-all leads there);
    ``discarded`` are aliases that discard it.  ``refused`` are the addresses on the way that take
    no mail.  ``entry`` is what was found for the address itself.
    """

    accounts: tuple[Account, ...]
    remote: tuple[Address, ...]
    discarded: tuple[str, ...]
    refused: tuple[RefusedAddress, ...]
    entry: Entry
    steps: tuple[Step, ...]
    forwarders: tuple[str, ...] = ()

    @property
    def refusal(self) -> Reply | None:
        """The reply that refuses the address; None if anybody takes its mail."""
        if self.accounts or self.remote or self.discarded:
            return None
        return self.refused[0].reply

    def may_send(self, account: str) -> bool:
        """
        Whether this account may send as the address; for ``resolve`` with ``forwards=False``.

        An account may if it is the only target, or one of the targets of an alias with ``send``.
        """
        owners = [one.address for one in self.accounts]
        if isinstance(self.entry, Alias) and self.entry.send:
            return account in owners
        return owners == [account] and not (self.remote or self.discarded or self.refused)


def resolve(address: str, postmaster: str, *, forwards: bool = True) -> Asking[Resolution]:
    """
    Follow an address to the accounts that get its mail.

    ``address`` and ``postmaster`` (where mail for postmaster and abuse goes) are in normal
    form.  Without ``forwards`` an account stands for itself, wherever its mail goes.

    Raises AliasLoop, NoPostmaster, and what a look-up raises.
    """
    found = yield address
    entry = found.entry
    if (  # most mail is for an account that keeps it
        isinstance(entry, Account)
        and found.domain is not None
        and entry.receives
        and not (forwards and entry.forward)
    ):
        return Resolution((entry,), (), (), (), entry, (Step(0, address, EXACT, entry),))
    expansion = _Expansion(postmaster, forwards, {address: found})
    try:
        yield from expansion.expand(address)
    except AliasLoop as loop:
        loop.steps = tuple(expansion.steps)
        raise
    return Resolution(
        tuple(expansion.accounts.values()),
        tuple(expansion.remote.values()),
        tuple(expansion.discarded),
        tuple(RefusedAddress(*one) for one in expansion.refused.items()),
        expansion.entry,
        tuple(expansion.steps),
        tuple(expansion.forwarders),
    )


def run(
    asking: Asking[T], look_up: Callable[[str], Found | Awaitable[Found]]
) -> T | Coroutine[object, object, T]:
    """
    Let a generator ask a directory.

    Returns the result if the directory could answer everything at once, and a coroutine
    if one answer had to be waited for.
    """
    try:
        name = next(asking)
        while True:
            found = look_up(name)
            if not isinstance(found, Found):
                return _wait(asking, found, look_up)
            name = asking.send(found)
    except StopIteration as end:
        result: T = end.value
        return result


async def _wait(
    asking: Asking[T], answer: Awaitable[Found], look_up: Callable[[str], Found | Awaitable[Found]]
) -> T:
    try:
        while True:
            found = look_up(asking.send(await answer))
            while isinstance(found, Found):
                found = look_up(asking.send(found))
            answer = found
    except StopIteration as end:
        result: T = end.value
        return result


def untagged(local: str, separators: str = SEPARATORS) -> str:
    """Return a local part without its tag: the text before the first separator, never empty."""
    ends = [end for one in separators if (end := local.find(one, 1)) > 0]
    return local[: min(ends)] if ends else local


def with_changes(asking: Asking[T], *changed: Alias | Account | Domain) -> Asking[T]:
    """Let a generator ask as if these entries were in the directory already."""
    entries = {one.address: one for one in changed if not isinstance(one, Domain)}
    domains = {one.name: one for one in changed if isinstance(one, Domain)}
    found: Found | None = None
    try:
        while True:
            name = next(asking) if found is None else asking.send(found)
            domain, entry = yield name
            found = Found(domains.get(name.rpartition("@")[2], domain), entries.get(name, entry))
    except StopIteration as end:
        result: T = end.value
        return result


class _Expansion:
    """Collects what an address leads to, depth first, in the order of the targets."""

    def __init__(self, postmaster: str, forwards: bool, known: dict[str, Found]) -> None:
        self._postmaster = postmaster
        self._forwards = forwards
        self._known = known  # what was looked up
        self.accounts: dict[str, Account] = {}
        self.remote: dict[str, Address] = {}
        self.forwarders: list[str] = []
        self.discarded: list[str] = []
        self.refused: dict[str, Reply] = {}
        self.steps: list[Step] = []
        self.entry: Entry = None
        self._chain: list[str] = []  # the aliases that led here
        self._forwarding: set[str] = set()  # accounts that forward
        self._heights: dict[str, int] = {}  # of the aliases that are done: how far they lead
        self._at_postmaster = False

    def expand(self, address: str, given: Address | None = None) -> Asking[int]:
        """
        Follow one address; return how many aliases follow one another after it.

        ``given`` is the target as it was written; None for the address that was asked for.
        """
        local, entry = yield from self._locate(address)
        if given is None:
            self.entry = entry
        if not local:
            if given is None:
                self.refused[address] = NO_RELAY
            elif address not in self.remote:
                self.remote[address] = given
                forwards = [name for name in self._chain if name in self._forwarding]
                self.forwarders.append(forwards[-1] if forwards else "")
        elif entry is None:
            if address == self._postmaster:
                raise NoPostmaster(f"the postmaster's account {address} does not exist")
            self.refused[address] = UNKNOWN_RECIPIENT
        else:
            targets = self._take(entry)
            if targets:
                return (yield from self._expand_all(_name_of(entry), targets))
        return 0

    def _take(self, entry: Account | Alias | Domain) -> tuple[Address, ...]:
        """Take what an entry says for itself; return the targets to follow."""
        if isinstance(entry, Domain):
            return entry.catch_all
        if isinstance(entry, Alias):
            if entry.kind == REFUSE:
                self.refused[entry.address] = Reply(550, "5.2.1", entry.words)
            elif entry.kind == DISCARD and entry.address not in self.discarded:
                self.discarded.append(entry.address)
            return entry.targets
        if not entry.receives and entry.address != self._postmaster:
            self.refused[entry.address] = MAILBOX_DISABLED
            return ()
        targets = entry.forward if self._forwards else ()
        if targets:
            self._forwarding.add(entry.address)
        if entry.keep_copy or not targets:
            self.accounts[entry.address] = entry
        return targets

    def _expand_all(self, name: str, targets: tuple[Address, ...]) -> Asking[int]:
        """Follow the targets of an alias once, however many ways lead to it."""
        if name in self._chain:
            raise AliasLoop(f"a loop of aliases: {' -> '.join([*self._chain, name])}")
        depth = len(self._chain)
        if depth + self._heights.get(name, 1) > DEPTH:
            raise AliasLoop(f"over {DEPTH} aliases in a row: {' -> '.join([*self._chain, name])}")
        if name not in self._heights:
            self._chain.append(name)
            height = 0
            for target in targets:
                height = max(height, (yield from self.expand(target.normal, target)))
            self._chain.pop()
            self._heights[name] = height + 1
        return self._heights[name]

    def _locate(self, address: str, hops: int = 0) -> Asking[tuple[bool, Entry]]:
        """Apply the rules in order; return whether the domain is local, and what was found."""
        local, _, domain = address.rpartition("@")
        record, entry = yield from self._look_up(address)
        if record is None:
            self._note(address, FOREIGN)
            return False, None
        self._note(address, EXACT, entry)
        if entry is not None:
            return True, entry
        bare = untagged(local, record.separators)
        name = f"{bare}@{domain}"
        if bare != local:
            _, entry = yield from self._look_up(name)
            self._note(name, UNTAGGED, entry)
            if entry is not None:
                return True, entry
        if bare in ROLES and name != self._postmaster and not self._at_postmaster:
            self._note(name, ROLE, record)
            return (yield from self._locate_postmaster())
        if record.same_as:
            self._note(address, SAME_AS, record)
            there = yield from self._locate_in(record, local, hops)
            if there is not None:
                return True, there
        if record.catch_all:
            caught = record if record.uncaught.isdisjoint((local, bare)) else None
            self._note(address, CATCH_ALL, caught)
            return True, caught
        return True, None

    def _locate_postmaster(self) -> Asking[tuple[bool, Entry]]:
        self._at_postmaster = True
        local, entry = yield from self._locate(self._postmaster)
        self._at_postmaster = False
        if not local or entry is None:
            raise NoPostmaster(f"the postmaster's account {self._postmaster} does not exist")
        return True, entry

    def _locate_in(self, record: Domain, local: str, hops: int) -> Asking[Entry]:
        """Apply the rules to the same local part in the domain that this one is the same as."""
        if hops == DEPTH:
            raise AliasLoop(f"over {DEPTH} domains are the same as the next; {record.name} is one")
        _, entry = yield from self._locate(f"{local}@{record.same_as}", hops + 1)
        return entry

    def _look_up(self, name: str) -> Asking[Found]:
        if name not in self._known:
            if len(self._known) == NAMES:
                raise AliasLoop(f"{(*self._chain, name)[0]} leads to over {NAMES} addresses")
            self._known[name] = yield name
        return self._known[name]

    def _note(self, address: str, rule: str, entry: Entry = None) -> None:
        self.steps.append(Step(len(self._chain), address, rule, entry))


def _going_to(targets: tuple[Address, ...], words: str) -> str:
    return f"{words} {', '.join(map(str, targets))}" if targets else ""


def _name_of(entry: Account | Alias | Domain) -> str:
    """Return the name of an entry with targets; a catch-all's is ``*@DOMAIN``."""
    return catch_all_name(entry.name) if isinstance(entry, Domain) else entry.address


def catch_all_name(domain: str) -> str:
    """Return the name under which the targets of a domain's catch-all are listed."""
    return f"*@{domain}"
