"""Several directories that are asked as one."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from postoffice.address import Account
from postoffice.interfaces import IAccountDirectory


@implementer(IAccountDirectory)
class Directories:
    """Asks one after another: the first that knows an account has it."""

    def __init__(self, directories: Sequence[IAccountDirectory]) -> None:
        self._directories = directories

    async def start(self) -> None:
        for directory in self._directories:
            await directory.start()

    async def stop(self) -> None:
        for directory in self._directories:
            await directory.stop()

    async def find(self, name: str) -> Account | None:
        for directory in self._directories:
            account = await directory.find(name)
            if account is not None:
                return account
        return None

    async def serves(self, domain: str) -> bool:
        for directory in self._directories:
            if await directory.serves(domain):
                return True
        return False
