"""Accounts in an LDAP server: found by a search, passwords verified by a bind or by their hash."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from postoffice.accounts.circuit_breaker import Breaker, StaleAnswers, Unavailable
from postoffice.accounts.ldap_connections import LDAPConnections, LDAPServer
from postoffice.accounts.password_schemes import fields_elsewhere
from postoffice.accounts.query_variables import VARIABLE, value, variable
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountListing,
    IAddresses,
    IPasswordVerifier,
)
from postoffice.model.address import Account, Address, NotAnAddress, Quota
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.config_values import read_size
from postoffice.model.errors import TemporaryFailure

T = TypeVar("T")
_VARIABLE = re.compile(VARIABLE)
_SPECIAL = re.compile(r"[\\*()\0]")


@dataclass(frozen=True)
class LDAPSearch:
    """
    Which entries are accounts, and what their attributes say.

    ``query`` is a filter with the variables ``%{user}``, ``%{user|username}`` and
    ``%{user|domain}``.  An entry's ``address`` attribute has its account's address, the
    attributes ``aliases`` further ones.  Without an attribute for the ``password`` the
    server verifies it.  ``iterate`` is a filter that finds all accounts, or "".
    """

    base: str
    query: str
    address: str = "mail"
    aliases: tuple[str, ...] = ()
    password: str = ""
    maildrop: str = ""
    quota: str = ""
    iterate: str = ""

    def __post_init__(self) -> None:
        """Raise SettingError for a variable that does not exist."""
        for found in _VARIABLE.finditer(self.query):
            variable("filter", found)

    @property
    def attributes(self) -> list[str]:
        """The attributes to ask for."""
        single = (self.address, self.password, self.maildrop, self.quota)
        return [one for one in (*single, *self.aliases) if one]

    def filter_for(self, name: str) -> str:
        """Return the filter for an address; what is special in it is escaped."""
        return _VARIABLE.sub(
            lambda found: escaped(value(variable("filter", found), name)), self.query
        )


def escaped(text: str) -> str:
    r"""Return a text as a filter has it: ``*`` is ``\2a`` (RFC 4515 §3)."""
    return _SPECIAL.sub(lambda found: f"\\{ord(found[0]):02x}", text)


@implementer(IAccountDirectory, IAddresses, IPasswordVerifier)
class LDAPDirectory:
    """
    Accounts and their other addresses in an LDAP server; it changes nothing.

    LDAP has no list of domains: ``domains`` are the local ones.
    """

    log = Logger()

    def __init__(
        self,
        server: LDAPServer,
        executor: Executor,
        clock: IReactorTime,
        search: LDAPSearch,
        domains: Sequence[str],
        *,
        stale: float,
    ) -> None:
        self._connections = LDAPConnections(server)
        self._threads = executor
        self._breaker = Breaker(executor, clock, "LDAP", server.timeout)
        self._search = search
        self._domains = {name: Domain(name) for name in domains}
        self._stale = StaleAnswers(stale, clock)
        if search.iterate:
            alsoProvides(self, IAccountListing)

    async def start(self) -> None:
        self._connections.open()
        try:
            await self._breaker.run(self._entry, "postmaster@localhost")
        except Unavailable as error:
            self.log.warn("{why}; mail must wait until the server answers", why=error)

    async def stop(self) -> None:
        await self._threads.run(self._connections.close)

    def look_up(self, name: str) -> Found | Awaitable[Found]:
        domain = self._domains.get(name.rpartition("@")[2])
        if domain is None or name.startswith("@") or not name.isprintable():
            return Found(domain)
        return self._stale.ask(name, lambda: self._ask(domain, name))

    async def find(self, name: str) -> Account | None:
        found = self.look_up(name)
        entry = (found if isinstance(found, Found) else await found).entry
        return entry if isinstance(entry, Account) else None

    async def serves(self, domain: str) -> bool:
        return domain in self._domains

    async def domains(self) -> list[str]:
        """Return the local domains, sorted."""
        return sorted(self._domains)

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        """Yield all accounts, or those of one domain, in the server's order; see ``iterate``."""
        search = self._search
        listing = self._connections.listing(search.base, search.iterate, search.attributes)
        try:
            while not listing.ended:
                for dn, values in await self._breaker.run(listing.page):
                    account = self._listed(dn, values)
                    if account and domain in (None, account.address.rpartition("@")[2]):
                        yield account
        finally:
            listing.close()

    def _listed(self, dn: str, values: Mapping[str, Sequence[bytes]]) -> Account | None:
        """Return the account in an entry; None if it has no address, or one that is not ours."""
        addresses = _addresses(dn, values, self._search.address)
        if len(addresses) != 1:
            return None
        name = addresses[0].normal
        return self._account(name, dn, values) if name.rpartition("@")[2] in self._domains else None

    async def verify(self, account: Account, password: bytes) -> bool:
        """Whether the server accepts the password for this account."""
        if self._search.password:
            return False  # the account has a hash, if any password is right
        return await self._breaker.run(self._verify, account.address, password)

    def _verify(self, address: str, password: bytes) -> bool:
        entry = self._entry(address)
        return entry is not None and self._connections.verify(entry[0], password)

    async def _ask(self, domain: Domain, name: str) -> Found:
        return Found(domain, await self._breaker.run(self._look_up, name))

    def _look_up(self, name: str) -> Account | Alias | None:
        entry = self._entry(name)
        if entry is None:
            return None
        dn, values = entry
        if not self._search.address:
            return self._account(name, dn, values)
        addresses = _addresses(dn, values, self._search.address)
        if len(addresses) != 1:
            raise TemporaryFailure(
                f"the LDAP entry {dn} has {len(addresses)} values of {self._search.address}: "
                "one must be the account's address"
            )
        [address] = addresses
        if address.normal == name:
            return self._account(name, dn, values)
        others = [one for key in self._search.aliases for one in _addresses(dn, values, key)]
        return Alias(name, (address,)) if name in [one.normal for one in others] else None

    def _entry(self, name: str) -> tuple[str, Mapping[str, Sequence[bytes]]] | None:
        query = self._search.filter_for(name)
        found = self._connections.search(self._search.base, query, self._search.attributes)
        if len(found) > 1:
            raise TemporaryFailure(f"LDAP finds {len(found)} entries for {query}")
        return found[0] if found else None

    def _account(self, name: str, dn: str, values: Mapping[str, Sequence[bytes]]) -> Account:
        quota = _one(dn, values, self._search.quota, read_size)
        maildrop = _one(dn, values, self._search.maildrop, _address)
        # A password without a scheme is in clear (RFC 4519 §2.41).
        password = _one(dn, values, self._search.password, str)
        return Account(
            name,
            maildrop or name,
            **fields_elsewhere(password, "PLAIN"),
            quota=Quota() if quota is None else Quota(octets=quota),
        )


def _address(text: str) -> str:
    return Address.parse(text).normal


def _one(
    dn: str, values: Mapping[str, Sequence[bytes]], key: str, read: Callable[[str], T]
) -> T | None:
    """Return the value of an attribute; None if there is none, or it is not asked for."""
    found = values.get(key.lower(), ()) if key else ()
    if len(found) > 1:
        raise TemporaryFailure(f"the LDAP entry {dn} has {len(found)} values of {key}, not one")
    try:
        return read(found[0].decode()) if found else None
    except ValueError as error:  # also octets that are not UTF-8
        raise TemporaryFailure(f"the LDAP entry {dn}: its {key} makes no sense") from error


def _addresses(dn: str, values: Mapping[str, Sequence[bytes]], key: str) -> list[Address]:
    """Return the addresses in an attribute; Active Directory writes smtp: before some."""
    try:
        words = [value.decode() for value in values.get(key.lower(), ())]
        return [Address.parse(re.sub(r"(?i)\Asmtp:", "", word)) for word in words]
    except (UnicodeDecodeError, NotAnAddress) as error:
        raise TemporaryFailure(f"the LDAP entry {dn}: its {key} is no address: {error}") from error
