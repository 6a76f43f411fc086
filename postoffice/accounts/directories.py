"""Several account directories as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

from zope.interface import implementer

from postoffice.interfaces import (
    IAccountDirectory,
    IAccountRegister,
    IAccountSettings,
    IAppPasswords,
)
from postoffice.model.address import Account, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy


@implementer(IAccountDirectory, IAppPasswords)
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

    async def find(self, name: str) -> Account | None:
        for directory in self._directories:
            if (account := await directory.find(name)) is not None:
                return account
        return None

    async def devices(self, name: str) -> Sequence[AppPassword]:
        """Return the devices of an account, from the directory that has it."""
        for directory in self._directories:
            if await directory.find(name) is not None:
                return await directory.devices(name) if IAppPasswords.providedBy(directory) else ()
        return ()

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
            for one in await self.devices(account.address)
            if one.protocol in ("any", "pop3") and not one.expired(now)
        )

    async def sayings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        """Return the settings of all accounts, each pair once."""
        said: set[tuple[Quota, MailPolicy]] = set()
        for directory in self._directories:
            if IAccountSettings.providedBy(directory):
                said.update(await cast(IAccountSettings, directory).sayings())
            else:
                said.add((Quota(), UNSPECIFIED))
        return frozenset(said)

    async def register_of(self, name: str) -> IAccountRegister | None:
        """Return the directory that has the account, if it is writable."""
        for directory in self._directories:
            if await directory.find(name) is not None:
                return directory if IAccountRegister.providedBy(directory) else None
        return None


async def _stop(directories: list[IAccountDirectory]) -> None:
    if directories:
        try:
            await directories.pop().stop()
        finally:
            await _stop(directories)
