"""Accounts in the tables of SQLite or PostgreSQL; ``account_queries`` has the queries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, TypeVarTuple, cast

from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts import account_queries, address_queries, bulk_queries
from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sql_connection import Connection
from postoffice.interfaces import (
    Executor,
    IAccountPages,
    IAccountRegister,
    IAccountSettings,
    IAddressRegister,
    IBulkRegister,
    ITransactions,
)
from postoffice.model.address import NO_NOTE, Account, Address, Quota, StateNote
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import TemporaryFailure
from postoffice.model.mail_policy import MailPolicy
from postoffice.moved import OldMembers
from postoffice.util.cache import Cache

T = TypeVar("T")
Args = TypeVarTuple("Args")
#: Values that are others after each change of the database.
Stamp = tuple[object, ...]

#: Answers to keep: positive ones, and negative ones (anybody can cause those).
KNOWN = 20_000
UNKNOWN = 10_000
#: Accounts that are read at once when all are listed.
PAGE = 1000


class SQLDatabase(Protocol):
    """
    A database; it calls functions of ``account_queries`` and its neighbours with a connection.

    All methods block, except ``stamp``.
    """

    def open(self) -> str:
        """Get ready; return what was migrated, for the log, or "".  Raises StartupError."""

    def close(self) -> None:
        """Close all connections."""

    def stamp(self) -> Stamp | None:
        """Return the stamp; None if answers must not be cached."""

    def observe(self, ask: Callable[[Connection, str], T], name: str) -> tuple[T, Stamp | None]:
        """Return an answer, and the stamp with which it is valid."""

    def read(self, ask: Callable[[Connection, *Args], T], *args: *Args) -> T:
        """Read.  Raises TemporaryFailure."""

    def write(self, change: Callable[[Connection, *Args], T], *args: *Args) -> T:
        """Write, durably, or not at all.  Raises TemporaryFailure."""

    def together(self) -> AbstractContextManager[None]:
        """Make one transaction of what is done within; an error undoes all of it."""


class AnswerCache(Generic[T]):
    """
    Answers that are valid while the database file does not change.

    ``positive`` tells positive answers from negative ones, which have a cache of their own:
    a client that tries random names cannot push out the others.
    """

    def __init__(self, positive: Callable[[T], bool] = bool) -> None:
        self._positive = positive
        self._stamp: Stamp | None = None
        self._known: Cache[str, T] = Cache(KNOWN)
        self._unknown: Cache[str, T] = Cache(UNKNOWN)

    def holder(self, stamp: Stamp | None, name: str) -> Cache[str, T] | None:
        """Return the cache that has the answer, if the answer is still valid."""
        if stamp is None or stamp != self._stamp:
            return None
        return next((one for one in (self._known, self._unknown) if name in one), None)

    def remember(self, stamp: Stamp, name: str, answer: T) -> None:
        """Keep an answer that is valid for this stamp; drop those for another one."""
        if stamp != self._stamp:
            self._stamp = stamp
            self._known.clear()
            self._unknown.clear()
        (self._known if self._positive(answer) else self._unknown).set(name, answer)


@implementer(
    IAccountPages,
    IAccountRegister,
    IAccountSettings,
    IAddressRegister,
    IBulkRegister,
    ITransactions,
)
class SQLDirectory(OldMembers):
    """
    A database of domains and accounts.

    ``seal`` encrypts the shared secrets.  Answers are cached until the stamp of the database
    changes (``SQLDatabase.stamp``).
    """

    log = Logger()

    def __init__(self, database: SQLDatabase, executor: Executor, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._executor = executor
        self._complaints: set[str] = set()
        self._found: AnswerCache[Found] = AnswerCache(_is_somebody)
        self._all_settings: AnswerCache[frozenset[tuple[Quota, MailPolicy]]] = AnswerCache()
        self._devices: AnswerCache[tuple[AppPassword, ...]] = AnswerCache()

    async def start(self) -> None:
        if migrated := await self._executor.run(self._database.open):
            self.log.info("{what}", what=migrated)

    async def stop(self) -> None:
        await self._executor.run(self._database.close)

    def look_up(self, name: str) -> Found | Awaitable[Found]:
        holder = self._found.holder(self._database.stamp(), name)
        if holder is not None:
            return cast(Found, holder.get(name))
        return self._answer(self._found, name, self._look_up)

    async def find(self, name: str) -> Account | None:
        found = await self._answer(self._found, name, self._look_up)
        return found.entry if isinstance(found.entry, Account) else None

    async def serves(self, domain: str) -> bool:
        found = await self._answer(self._found, f"@{domain}", self._look_up)
        return found.domain is not None

    async def app_passwords(self, name: str) -> Sequence[AppPassword]:
        return await self._answer(self._devices, name, account_queries.devices)

    async def add_app_password(self, name: str, device: AppPassword) -> bool:
        return await self._write(account_queries.add_app_password, name, device)

    async def remove_app_password(self, name: str, device: str) -> bool:
        return await self._write(account_queries.remove_app_password, name, device)

    async def domains(self) -> list[str]:
        return await self._read(account_queries.domains)

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        after = ""
        while page := await self._read(self._page, domain, after):
            for account in page:
                yield account
            after = page[-1].address

    async def accounts_after(self, after: str, most: int, match: str = "") -> list[Account]:
        found = await self._read(account_queries.accounts_like, after, most, match)
        return [replace(one, shared=None) for one in found]  # a list needs no secrets in clear

    async def aliases_after(self, after: str, most: int, match: str = "") -> list[Alias]:
        if not account_queries.storable(match):
            return []
        return await self._read(address_queries.aliases_like, after, most, match)

    async def add_domain(self, domain: str) -> bool:
        return await self._write(account_queries.add_domain, domain)

    async def remove_domain(self, domain: str) -> bool:
        return await self._write(account_queries.remove_domain, domain)

    async def add(
        self, name: str, secret: str | None, scram: str | None = None, maildrop: str | None = None
    ) -> bool:
        return await self._write(account_queries.add, name, secret, scram, maildrop)

    async def maildrop_for(self, name: str) -> str:
        return await self._read(account_queries.maildrop_for, name)

    async def rename(self, name: str, new: str) -> bool:
        return await self._write(account_queries.rename, name, new)

    async def set_secret(self, name: str, secret: str | None, scram: str | None = None) -> bool:
        return await self._write(account_queries.set_secret, name, secret, scram)

    async def keep_scram(self, name: str, secret: str, scram: str, new: str | None = None) -> bool:
        return await self._write(account_queries.keep_scram, name, secret, scram, new)

    async def set_shared(self, name: str, shared: str | None) -> bool:
        return await self._executor.run(self._set_shared, name, shared)

    async def set_quota(self, name: str, quota: Quota) -> bool:
        return await self._write(account_queries.set_quota, "account", name, quota)

    async def account_quota(self, name: str) -> Quota | None:
        return await self._read(account_queries.quota, "account", name)

    async def set_domain_quota(self, domain: str, quota: Quota) -> bool:
        return await self._write(account_queries.set_quota, "domain", domain, quota)

    async def domain_quota(self, domain: str) -> Quota | None:
        return await self._read(account_queries.quota, "domain", domain)

    async def set_mail_policy(self, name: str, mail_policy: MailPolicy) -> bool:
        return await self._write(account_queries.set_mail_policy, "account", name, mail_policy)

    async def account_mail_policy(self, name: str) -> MailPolicy | None:
        return await self._read(account_queries.mail_policy, "account", name)

    async def set_domain_mail_policy(self, domain: str, mail_policy: MailPolicy) -> bool:
        return await self._write(account_queries.set_mail_policy, "domain", domain, mail_policy)

    async def domain_mail_policy(self, domain: str) -> MailPolicy | None:
        return await self._read(account_queries.mail_policy, "domain", domain)

    async def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        return await self._answer(self._all_settings, "", account_queries.all_settings)

    async def set_state(self, name: str, state: str, note: StateNote = NO_NOTE) -> bool:
        return await self._write(account_queries.set_state, name, state, note)

    async def remove(self, name: str) -> bool:
        return await self._write(account_queries.remove, name)

    async def aliases(
        self, domain: str | None = None, after: str = "", most: int = 1000
    ) -> list[Alias]:
        return await self._read(address_queries.aliases, domain, after, most)

    async def add_alias(self, alias: Alias) -> bool:
        return await self._write(address_queries.add_alias, alias)

    async def set_alias(self, alias: Alias) -> bool:
        return await self._write(address_queries.set_alias, alias)

    async def remove_alias(self, name: str) -> bool:
        return await self._write(address_queries.remove_alias, name)

    async def set_forward(self, name: str, forward: Sequence[Address], keep_copy: bool) -> bool:
        return await self._write(address_queries.set_forward, name, forward, keep_copy)

    async def set_domain(self, domain: Domain) -> bool:
        return await self._write(address_queries.set_domain, domain)

    async def pointing_to(self, name: str) -> list[str]:
        return await self._read(address_queries.pointing_to, name)

    async def look_ups(self, names: Collection[str]) -> Mapping[str, Found]:
        found = await self._read(bulk_queries.look_ups, names)
        return {name: self._with_secret(one) for name, one in found.items()}

    async def maildrops(self, names: Collection[str]) -> Collection[str]:
        return await self._read(bulk_queries.maildrops, names)

    async def pointed_to(self, names: Collection[str]) -> Collection[str]:
        return await self._read(bulk_queries.pointed_to, names)

    async def own_settings(self, names: Collection[str]) -> Mapping[str, tuple[Quota, MailPolicy]]:
        return await self._read(bulk_queries.own_settings, names)

    async def all_app_passwords(
        self, names: Collection[str]
    ) -> Mapping[str, Sequence[AppPassword]]:
        return await self._read(bulk_queries.app_passwords, names)

    async def add_accounts(self, new: Sequence[bulk_queries.NewAccount]) -> None:
        await self._write(bulk_queries.add_accounts, await self._executor.run(self._sealed, new))

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        await self._write(bulk_queries.put_aliases, aliases)

    def together(self) -> AbstractContextManager[None]:
        """See ``ITransactions``."""
        return self._database.together()

    async def _read(self, ask: Callable[[Connection, *Args], T], *what: *Args) -> T:
        return await self._executor.run(lambda: self._database.read(ask, *what))

    async def _write(self, change: Callable[[Connection, *Args], T], *what: *Args) -> T:
        return await self._executor.run(lambda: self._database.write(change, *what))

    def _set_shared(self, name: str, shared: str | None) -> bool:
        sealed = None if shared is None else self._seal.seal(shared)
        return self._database.write(account_queries.set_shared, name, sealed)

    def _sealed(self, new: Sequence[bulk_queries.NewAccount]) -> list[bulk_queries.NewAccount]:
        """Encrypt the shared secrets."""
        return [
            (
                account
                if account.shared is None
                else replace(account, shared=self._seal.seal(account.shared)),
                devices,
            )
            for account, devices in new
        ]

    def _look_up(self, database: Connection, name: str) -> Found:
        return self._with_secret(account_queries.look_up(database, name))

    def _with_secret(self, found: Found) -> Found:
        if isinstance(found.entry, Account):
            return found._replace(entry=self._unsealed(found.entry))
        return found

    def _page(self, database: Connection, domain: str | None, after: str) -> list[Account]:
        return [
            self._unsealed(one) for one in account_queries.accounts(database, domain, after, PAGE)
        ]

    def _unsealed(self, account: Account) -> Account:
        """Decrypt the shared secret; an account whose secret cannot be read has none."""
        if account.shared is None:
            return account
        try:
            return replace(account, shared=self._seal.unseal(account.shared))
        except TemporaryFailure as failure:
            self._complain(str(failure))
            return replace(account, shared=None)

    def _complain(self, why: str) -> None:
        """Log each reason once, not at every login."""
        if why not in self._complaints:
            self._complaints.add(why)
            self.log.warn("{why}", why=why)

    async def _answer(
        self, answers: AnswerCache[T], name: str, ask: Callable[[Connection, str], T]
    ) -> T:
        holder = answers.holder(self._database.stamp(), name)
        if holder is not None:
            return cast(T, holder.get(name))  # it may be None
        answer: T
        answer, stamp = await self._executor.run(self._database.observe, ask, name)
        if stamp is not None:
            answers.remember(stamp, name, answer)
        return answer


def _is_somebody(found: Found) -> bool:
    return found.entry is not None
