"""Several account directories as one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

from zope.interface import implementer

from postoffice.interfaces import (
    IAccountDirectory,
    IAccountRegister,
    IAccountSettings,
    IAddresses,
    IAliasListing,
    IAppPasswords,
    IPasswordVerifier,
)
from postoffice.model.address import Account, Quota
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy

#: How many aliases are read at once.
PAGE = 1000


@implementer(IAccountDirectory, IAddresses, IAppPasswords, IPasswordVerifier)
class Directories:
    """
    Directories asked in order: the first that has the account wins.

    If a directory fails, the search ends, because a later one might have another account
    of that name. ``now`` returns seconds since 1970.
    """

    def __init__(
        self, directories: Sequence[IAccountDirectory], now: Callable[[], float] = time.time
    ) -> None:
        self._directories = tuple(directories)
        self._look_ups = tuple(map(look_up_of, self._directories))
        self._now = now

    async def start(self) -> None:
        """Start all, in order; if one fails, stop those before it."""
        started: list[IAccountDirectory] = []
        try:
            for directory in self._directories:
                await directory.start()
                started.append(directory)
        except BaseException:
            await _stop(started)
            raise

    async def stop(self) -> None:
        """Stop all, the last first, even if one of them fails."""
        await _stop(list(self._directories))

    def look_up(self, name: str) -> Found | Awaitable[Found]:
        """
        Return the first domain record and the first entry that a directory has.

        It is no awaitable if each directory that is asked knows its answer at once.
        """
        return self._look_up(name, 0, Found(None))

    def _look_up(self, name: str, start: int, known: Found) -> Found | Awaitable[Found]:
        """Ask the directories from ``start`` on for what is not ``known``."""
        for number in range(start, len(self._look_ups)):
            found = self._look_ups[number](name)
            if not isinstance(found, Found):
                return self._wait(name, number + 1, known, found)
            known = _merged(known, found)
            if known.domain is not None and known.entry is not None:
                break
        return known

    async def _wait(self, name: str, start: int, known: Found, answer: Awaitable[Found]) -> Found:
        known = _merged(known, await answer)
        if known.domain is not None and known.entry is not None:
            return known
        found = self._look_up(name, start, known)
        return found if isinstance(found, Found) else await found

    async def find(self, name: str) -> Account | None:
        for directory in self._directories:
            if (account := await directory.find(name)) is not None:
                return account
        return None

    async def app_passwords(self, name: str) -> Sequence[AppPassword]:
        """Return the devices of an account, from the directory that has it."""
        holder = await self.holder_of(name)
        return await holder.app_passwords(name) if IAppPasswords.providedBy(holder) else ()

    async def verify(self, account: Account, password: bytes) -> bool:
        """Return whether the directory that has the account says that the password is right."""
        holder = await self.holder_of(account.address)
        verifier = cast(IPasswordVerifier, holder)
        return IPasswordVerifier.providedBy(holder) and await verifier.verify(account, password)

    async def serves(self, domain: str) -> bool:
        for directory in self._directories:
            if await directory.serves(domain):
                return True
        return False

    async def collectors(self, account: Account) -> frozenset[str]:
        """Return the names of the devices that may now collect an account's mail."""
        now = self._now()
        return frozenset(
            one.name
            for one in await self.app_passwords(account.address)
            if one.protocol in ("any", "pop3") and not one.expired(now)
        )

    async def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        """Return the settings of all accounts, each pair once."""
        said: set[tuple[Quota, MailPolicy]] = set()
        for directory in self._directories:
            if IAccountSettings.providedBy(directory):
                said.update(await cast(IAccountSettings, directory).account_settings())
            else:
                said.add((Quota(), UNSPECIFIED))
        return frozenset(said)

    async def holder_of(self, name: str) -> IAccountDirectory | None:
        """Return the directory that has the account."""
        for directory in self._directories:
            if await directory.find(name) is not None:
                return directory
        return None

    async def register_of(self, name: str) -> IAccountRegister | None:
        """Return the directory that has the account, if it is writable."""
        holder = await self.holder_of(name)
        return holder if IAccountRegister.providedBy(holder) else None


async def _stop(directories: list[IAccountDirectory]) -> None:
    if directories:
        try:
            await directories.pop().stop()
        finally:
            await _stop(directories)


def _merged(known: Found, found: Found) -> Found:
    if known.domain is None and known.entry is None:
        return found
    return Found(known.domain or found.domain, known.entry or found.entry)


def look_up_of(directory: IAccountDirectory) -> Callable[[str], Found | Awaitable[Found]]:
    """Return a directory's ``look_up``, or a function that uses its ``find`` and ``serves``."""
    if IAddresses.providedBy(directory):
        return cast(IAddresses, directory).look_up

    async def look_up(name: str) -> Found:
        domain = name.rpartition("@")[2]
        entry = None if name.startswith("@") else await directory.find(name)
        return Found(Domain(domain) if await directory.serves(domain) else None, entry)

    return look_up


async def all_aliases(register: IAliasListing, domain: str | None) -> AsyncIterator[Alias]:
    """Yield all aliases, or those of a domain."""
    after = ""
    while page := await register.aliases(domain, after, PAGE):
        for one in page:
            yield one
        after = page[-1].address
