"""Who may collect what, and on which terms: the avatar of an account that collects its mail."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from zope.interface import implementer

from postoffice.address import Account
from postoffice.envelope import Visit
from postoffice.interfaces import ICollection, IMailStore, IText
from postoffice.listing import Entry, Listing
from postoffice.pop3.leases import Claim, GiveWay, Leases
from postoffice.serving import PLAIN, Serving


@dataclass(frozen=True)
class Shelves:
    """
    What every collection of one post office knows.

    ``serving`` is whole, and for all that an account's own says nothing of.
    Without ``leases`` nobody waits for a maildrop, or takes one over.
    """

    store: IMailStore
    serving: Serving = PLAIN
    leases: Leases | None = None

    def collection(self, visit: Visit, account: Account) -> ICollection:
        """For one of our own, who collects."""
        return Collection(self, visit, account)


@implementer(ICollection)
class Collection:
    """One account's mail, in one session."""

    def __init__(self, shelves: Shelves, visit: Visit, account: Account) -> None:
        self.account = account
        self.serving = account.serving.or_else(shelves.serving)
        self._visit = visit
        self._maildrop = shelves.store.maildrop(account.maildrop)
        self._leases = shelves.leases
        self._claim: Claim | None = None

    async def open(self, give_way: GiveWay | None = None) -> Listing:
        if self._leases is None:
            return await self._maildrop.open()
        self._claim = Claim(self.account.maildrop, self.serving, give_way or _stay)
        return await self._leases.take(self._claim, self._maildrop.open)

    def fetch(self, entry: Entry) -> Awaitable[IText]:
        return self._maildrop.fetch(entry)

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        await self._maildrop.remove(entries, session)

    async def update(
        self, removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> None:
        if removed:
            await self._maildrop.remove(removed, session)

    def release(self) -> None:
        self._maildrop.release()
        if self._leases is not None and self._claim is not None:
            self._leases.give_back(self._claim)


def _stay() -> bool:
    """Of whom nobody knows how to end it."""
    return False
