"""Who may collect what, and on which terms: the avatar of an account that collects its mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from postoffice.address import Account
from postoffice.envelope import Visit
from postoffice.interfaces import ICollection, IMailStore, IText
from postoffice.listing import Entry, Listing
from postoffice.serving import PLAIN, Serving


@dataclass(frozen=True)
class Shelves:
    """
    What every collection of one post office knows.

    ``serving`` is whole, and for all that an account's own says nothing of.
    """

    store: IMailStore
    serving: Serving = PLAIN

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

    async def open(self) -> Listing:
        return await self._maildrop.open()

    async def fetch(self, entry: Entry) -> IText:
        return await self._maildrop.fetch(entry)

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        await self._maildrop.remove(entries, session)

    async def update(
        self, removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> None:
        if removed:
            await self._maildrop.remove(removed, session)

    def release(self) -> None:
        self._maildrop.release()
