"""Accounts in a SQLite database: what the ``postoffice`` command edits while the daemon reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts import account_settings, app_password_table
from postoffice.accounts.database import Database, Stamp
from postoffice.accounts.sealed_secrets import Seal
from postoffice.interfaces import Executor, IAccountRegister, IAccountSettings
from postoffice.model.address import Account, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import NotEmpty, TemporaryFailure
from postoffice.model.mail_policy import MailPolicy
from postoffice.util.cache import Cache

T = TypeVar("T")

#: Answers that are remembered: about somebody, and about nobody (anyone can ask for those).
KNOWN = 20_000
UNKNOWN = 10_000


class AnswerCache(Generic[T]):
    """
    What was answered, good as long as the database looks as it did; the least used go.

    Answers that know nothing (None, False) are counted apart: whoever asks
    for names at random does not push out those who are here.
    """

    def __init__(self) -> None:
        self._look: Stamp | None = None
        self._known: Cache[str, T] = Cache(KNOWN)
        self._unknown: Cache[str, T] = Cache(UNKNOWN)

    def holder(self, look: Stamp | None, name: str) -> Cache[str, T] | None:
        """Where the answer is, if it still holds."""
        if look is None or look != self._look:
            return None
        return next((one for one in (self._known, self._unknown) if name in one), None)

    def remember(self, look: Stamp, name: str, answer: T) -> None:
        """Keep an answer that holds for this look; answers for another one are forgotten."""
        if look != self._look:
            self._look = look
            self._known.clear()
            self._unknown.clear()
        (self._known if answer else self._unknown).set(name, answer)


@implementer(IAccountRegister, IAccountSettings)
class SQLiteDirectory:
    """
    A database of domains and accounts; ``path`` is its file, ``key_file`` has
    the key that its shared secrets are sealed with.

    Its answers are remembered as long as neither the file nor its log has
    changed, which costs two looks at the file system: a change by another
    process is seen at once, and what did not change is not read again.
    """

    log = Logger()

    def __init__(self, path: str, executor: Executor, key_file: str | None = None) -> None:
        self._database = Database(path)
        self._seal = Seal(key_file or f"{path}.key")
        self._executor = executor
        self._complaints: set[str] = set()
        self._accounts: AnswerCache[Account | None] = AnswerCache()
        self._domains: AnswerCache[bool] = AnswerCache()
        self._sayings: AnswerCache[frozenset[tuple[Quota, MailPolicy]]] = AnswerCache()
        self._devices: AnswerCache[tuple[AppPassword, ...]] = AnswerCache()

    async def start(self) -> None:
        await self._executor.run(self._database.open)

    async def stop(self) -> None:
        await self._executor.run(self._database.close)

    async def find(self, name: str) -> Account | None:
        return await self._answer(self._accounts, name, self._found)

    async def serves(self, domain: str) -> bool:
        return await self._answer(self._domains, domain, _serves)

    async def devices(self, name: str) -> Sequence[AppPassword]:
        return await self._answer(self._devices, name, app_password_table.devices)

    async def add_device(self, name: str, device: AppPassword) -> bool:
        return await self._write(app_password_table.add, name, device)

    async def remove_device(self, name: str, device: str) -> bool:
        return await self._write(app_password_table.remove, name, device)

    async def domains(self) -> list[str]:
        return await self._read(_domains)

    async def accounts(self, domain: str | None = None) -> list[Account]:
        return await self._read(self._all, domain)

    async def add_domain(self, domain: str) -> bool:
        return await self._write(_add_domain, domain)

    async def remove_domain(self, domain: str) -> bool:
        return await self._write(_remove_domain, domain)

    async def add(
        self,
        name: str,
        secret: str | None,
        scram: str | None = None,
        maildrop: str | None = None,
    ) -> bool:
        return await self._write(_add, name, secret, scram, maildrop)

    async def maildrop_for(self, name: str) -> str:
        return await self._read(app_password_table.maildrop_for, name)

    async def rename(self, name: str, new: str) -> bool:
        return await self._write(_rename, name, new)

    async def set_secret(self, name: str, secret: str | None, scram: str | None = None) -> bool:
        return await self._write(_set_secret, name, secret, scram)

    async def keep_scram(self, name: str, secret: str, scram: str) -> bool:
        return await self._write(_keep_scram, name, secret, scram)

    async def set_shared(self, name: str, shared: str | None) -> bool:
        return await self._executor.run(self._set_shared, name, shared)

    async def set_quota(self, name: str, quota: Quota) -> bool:
        return await self._write(account_settings.set_quota, "account", name, quota)

    async def account_quota(self, name: str) -> Quota | None:
        return await self._read(account_settings.quota, "account", name)

    async def account_quotas(self, domain: str | None = None) -> Mapping[str, Quota]:
        return await self._read(account_settings.quotas, domain)

    async def set_domain_quota(self, domain: str, quota: Quota) -> bool:
        return await self._write(account_settings.set_quota, "domain", domain, quota)

    async def domain_quota(self, domain: str) -> Quota | None:
        return await self._read(account_settings.quota, "domain", domain)

    async def set_serving(self, name: str, serving: MailPolicy) -> bool:
        return await self._write(account_settings.set_serving, "account", name, serving)

    async def account_serving(self, name: str) -> MailPolicy | None:
        return await self._read(account_settings.serving, "account", name)

    async def set_domain_serving(self, domain: str, serving: MailPolicy) -> bool:
        return await self._write(account_settings.set_serving, "domain", domain, serving)

    async def domain_serving(self, domain: str) -> MailPolicy | None:
        return await self._read(account_settings.serving, "domain", domain)

    async def sayings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        return await self._answer(self._sayings, "", account_settings.all_of_accounts)

    async def set_state(self, name: str, state: str) -> bool:
        return await self._write(_set_state, name, state)

    async def remove(self, name: str) -> bool:
        return await self._write(_remove, name)

    async def _read(self, ask: Callable[..., T], *what: Any) -> T:
        return await self._executor.run(self._database.read, ask, *what)

    async def _write(self, change: Callable[..., T], *what: Any) -> T:
        return await self._executor.run(self._database.write, change, *what)

    def _set_shared(self, name: str, shared: str | None) -> bool:
        sealed = None if shared is None else self._seal.seal(shared)
        return self._database.write(_set_shared, name, sealed)

    def _found(self, database: sqlite3.Connection, name: str) -> Account | None:
        account = _find(database, name)
        return None if account is None else self._unsealed(account)

    def _all(self, database: sqlite3.Connection, domain: str | None) -> list[Account]:
        return [self._unsealed(account) for account in _accounts(database, domain)]

    def _unsealed(self, account: Account) -> Account:
        """Its shared secret in clear; one that cannot be read is none, and all else works on."""
        if account.shared is None:
            return account
        try:
            return replace(account, shared=self._seal.unseal(account.shared))
        except TemporaryFailure as failure:
            self._complain(str(failure))
            return replace(account, shared=None)

    def _complain(self, why: str) -> None:
        """Once for each reason: it is asked about with every login."""
        if why not in self._complaints:
            self._complaints.add(why)
            self.log.warn("{why}", why=why)

    async def _answer(
        self, answers: AnswerCache[T], name: str, ask: Callable[[sqlite3.Connection, str], T]
    ) -> T:
        holder = answers.holder(self._database.look(), name)
        if holder is not None:
            return cast(T, holder.get(name))  # it may be None
        answer: T
        answer, look = await self._executor.run(self._database.observe, ask, name)
        if look is not None:
            answers.remember(look, name, answer)
        return answer


# -- questions and changes: each runs in a transaction, on a worker's thread -----

#: An account with its quota and how it is served: where it says nothing, as its domain says.
_ACCOUNT = (
    "SELECT address, maildrop, secret, scram, shared, state, "
    f"{account_settings.OF_ACCOUNT} {account_settings.FROM_ACCOUNTS}"
)


def _account(row: tuple[Any, ...]) -> Account:
    address, maildrop, secret, scram, shared, state, *said = row
    both = account_settings.both_of(said)
    return Account(address, maildrop, secret, scram, shared, *both, state=state)


def _find(database: sqlite3.Connection, name: str) -> Account | None:
    if not _storable(name):
        return None
    row = database.execute(f"{_ACCOUNT} WHERE address = ?", (name,)).fetchone()
    return None if row is None else _account(row)


def _serves(database: sqlite3.Connection, domain: str) -> bool:
    if not _storable(domain):
        return False
    return database.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone() is not None


def _storable(name: str) -> bool:
    """Whether it is a text at all: octets that are no UTF-8 may stand in it as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _domains(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM domain ORDER BY name")]


def _accounts(database: sqlite3.Connection, domain: str | None) -> list[Account]:
    which = "WHERE domain = ?1 OR ?1 IS NULL ORDER BY address"
    return [_account(row) for row in database.execute(f"{_ACCOUNT} {which}", (domain,))]


def _add_domain(database: sqlite3.Connection, domain: str) -> bool:
    change = "INSERT OR IGNORE INTO domain (name) VALUES (?)"
    return database.execute(change, (domain,)).rowcount > 0


def _remove_domain(database: sqlite3.Connection, domain: str) -> bool:
    counted = database.execute("SELECT count(*) FROM account WHERE domain = ?", (domain,))
    (remaining,) = counted.fetchone()
    if remaining:
        raise NotEmpty(f"{domain} still has accounts: {remaining}")
    return database.execute("DELETE FROM domain WHERE name = ?", (domain,)).rowcount > 0


def _add(
    database: sqlite3.Connection,
    name: str,
    secret: str | None,
    scram: str | None,
    maildrop: str | None,
) -> bool:
    domain = _domain_of(database, name)
    if _find(database, name) is not None:
        return False
    maildrop = maildrop or app_password_table.maildrop_for(database, name)
    row = (name, domain, maildrop, secret, scram)
    change = "INSERT INTO account (address, domain, maildrop, secret, scram) VALUES (?, ?, ?, ?, ?)"
    database.execute(change, row)
    return True


def _rename(database: sqlite3.Connection, name: str, new: str) -> bool:
    _domain_of(database, new)
    return _find(database, new) is None and app_password_table.rename(database, name, new)


def _domain_of(database: sqlite3.Connection, name: str) -> str:
    """The domain of an account that there shall be.  Raises LookupError if it is not ours."""
    domain = name.rpartition("@")[2]
    if not _serves(database, domain):
        raise LookupError(f"{domain} is not a domain of ours")
    return domain


def _set_secret(
    database: sqlite3.Connection, name: str, secret: str | None, scram: str | None
) -> bool:
    change = "UPDATE account SET secret = ?, scram = ? WHERE address = ?"
    return database.execute(change, (secret, scram, name)).rowcount > 0


def _keep_scram(database: sqlite3.Connection, name: str, secret: str, scram: str) -> bool:
    change = "UPDATE account SET scram = ? WHERE address = ? AND secret = ?"
    return database.execute(change, (scram, name, secret)).rowcount > 0


def _set_shared(database: sqlite3.Connection, name: str, sealed: str | None) -> bool:
    change = "UPDATE account SET shared = ? WHERE address = ?"
    return database.execute(change, (sealed, name)).rowcount > 0


def _set_state(database: sqlite3.Connection, name: str, state: str) -> bool:
    change = "UPDATE account SET state = ? WHERE address = ?"
    return database.execute(change, (state, name)).rowcount > 0


def _remove(database: sqlite3.Connection, name: str) -> bool:
    return database.execute("DELETE FROM account WHERE address = ?", (name,)).rowcount > 0
