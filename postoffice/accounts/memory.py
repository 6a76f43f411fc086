"""A directory in memory: for tests and for embedding."""

from __future__ import annotations

from zope.interface import implementer

from postoffice.address import Account
from postoffice.errors import NotEmpty
from postoffice.interfaces import IAccountRegister


@implementer(IAccountRegister)
class MemoryDirectory:
    """Accounts in a dictionary."""

    def __init__(self) -> None:
        self._domains: set[str] = set()
        self._accounts: dict[str, Account] = {}

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def find(self, name: str) -> Account | None:
        return self._accounts.get(name)

    async def serves(self, domain: str) -> bool:
        return domain in self._domains

    async def domains(self) -> list[str]:
        return sorted(self._domains)

    async def accounts(self, domain: str | None = None) -> list[Account]:
        return [
            self._accounts[name]
            for name in sorted(self._accounts)
            if domain is None or _domain(name) == domain
        ]

    async def add_domain(self, domain: str) -> bool:
        added = domain not in self._domains
        self._domains.add(domain)
        return added

    async def remove_domain(self, domain: str) -> bool:
        if any(_domain(name) == domain for name in self._accounts):
            raise NotEmpty(f"{domain} has accounts")
        removed = domain in self._domains
        self._domains.discard(domain)
        return removed

    async def add(self, name: str, secret: str | None) -> bool:
        if _domain(name) not in self._domains:
            raise LookupError(_domain(name))
        if name in self._accounts:
            return False
        self._accounts[name] = Account(name, name, secret)
        return True

    async def set_secret(self, name: str, secret: str | None) -> bool:
        if name not in self._accounts:
            return False
        self._accounts[name] = Account(name, name, secret)
        return True

    async def remove(self, name: str) -> bool:
        return self._accounts.pop(name, None) is not None


def _domain(name: str) -> str:
    return name.rpartition("@")[2]
