"""
Connections to an LDAP server: shared ones for searches, a new one for each password.

The functions block; python-ldap limits the time of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import ldap
from ldap.controls import SimplePagedResultsControl

from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.model.errors import TemporaryFailure
from postoffice.util.connection_pool import ConnectionPool

_Found = Sequence[tuple[str | None, Mapping[str, Sequence[bytes]]]]
#: The DN of an entry, and its attributes, whose names are in lower case.
LDAPEntry = tuple[str, Mapping[str, Sequence[bytes]]]

#: Entries in a page of a listing.
PAGE = 500
#: The server is down or busy, or refuses our login.
_DOWN = (
    ldap.SERVER_DOWN,
    ldap.CONNECT_ERROR,
    ldap.TIMEOUT,
    ldap.TIMELIMIT_EXCEEDED,
    ldap.ADMINLIMIT_EXCEEDED,
    ldap.BUSY,
    ldap.UNAVAILABLE,
    ldap.INVALID_CREDENTIALS,
    ldap.STRONG_AUTH_REQUIRED,
    ldap.LOCAL_ERROR,
)
#: Errors of a bind that mean a wrong password, or that the entry has none.
_WRONG = (ldap.INVALID_CREDENTIALS, ldap.INAPPROPRIATE_AUTH, ldap.NO_SUCH_OBJECT)


class LDAPConnection(Protocol):
    """The methods of a python-ldap connection that we use; python-ldap is optional."""

    timeout: float

    def set_option(self, option: int, value: object, /) -> object: ...
    def start_tls_s(self) -> object: ...
    def simple_bind_s(self, who: str, cred: str, /) -> object: ...
    def search_ext_s(
        self, base: str, scope: int, query: str, names: Sequence[str], /,
        *, timeout: float, sizelimit: int,
    ) -> _Found: ...  # fmt: skip
    def search_ext(
        self, base: str, scope: int, query: str, names: Sequence[str], /,
        *, serverctrls: Sequence[SimplePagedResultsControl], timeout: float,
    ) -> int: ...  # fmt: skip
    def result3(
        self, message: int, /, *, timeout: float
    ) -> tuple[int, _Found, int, Sequence[object]]: ...
    def unbind_s(self) -> object: ...


@dataclass(frozen=True)
class LDAPServer:
    """Where the server is, and who asks: ``bind_dn`` "" is anonymous."""

    uris: tuple[str, ...]
    timeout: float
    starttls: bool = False
    ca_file: str = ""
    bind_dn: str = ""
    bind_password: str = ""

    @property
    def has_tls(self) -> bool:
        """True if the connection uses TLS, so that the server needs a certificate."""
        return self.starttls or any(uri.startswith("ldaps:") for uri in self.uris)

    def connect(self) -> LDAPConnection:
        """Return a connection on which nobody has logged in.  Raises ldap.LDAPError."""
        connection: LDAPConnection = ldap.initialize(" ".join(self.uris))
        connection.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, self.timeout)
        connection.timeout = self.timeout
        connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
        if self.ca_file:
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, self.ca_file)
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if self.starttls:
            connection.start_tls_s()
        return connection


class LDAPConnections:
    """Connections that search; each is used by one thread at a time."""

    def __init__(self, server: LDAPServer) -> None:
        self._server = server
        self._pool: ConnectionPool[LDAPConnection] = ConnectionPool(_unbind)
        self.open, self.close = self._pool.open, self._pool.close

    def search(self, base: str, query: str, attributes: Sequence[str]) -> list[LDAPEntry]:
        """
        Return the entries below ``base``, two at most; attributes are in lower case.

        Raises Unavailable, and TemporaryFailure for what the server refuses.
        """

        def ask(connection: LDAPConnection) -> list[LDAPEntry]:
            try:
                found = connection.search_ext_s(
                    base, ldap.SCOPE_SUBTREE, query, list(attributes),
                    timeout=self._server.timeout, sizelimit=2,
                )  # fmt: skip
            except ldap.SIZELIMIT_EXCEEDED as error:
                raise TemporaryFailure(f"LDAP finds many entries for {query}") from error
            return _entries(found)

        connection = self._pool.take()
        if connection is not None:
            with suppress(ldap.SERVER_DOWN):  # it was closed meanwhile, or the server was restarted
                return self._use(connection, ask)
        return self._use(None, ask)

    def _use(
        self, connection: LDAPConnection | None, ask: Callable[[LDAPConnection], list[LDAPEntry]]
    ) -> list[LDAPEntry]:
        fresh = connection is None
        try:
            if connection is None:
                connection = self._logged_in()
            found = ask(connection)
        except ldap.LDAPError as error:
            _unbind(connection)
            if not fresh and isinstance(error, ldap.SERVER_DOWN):
                raise
            raise self._failure(error) from error
        except BaseException:
            _unbind(connection)
            raise
        self._pool.give_back(connection)
        return found

    def listing(self, base: str, query: str, attributes: Sequence[str]) -> LDAPListing:
        """Return a search that yields all entries below ``base``, a page at a time."""
        how = (self._logged_in, self._failure, self._server.timeout)
        return LDAPListing(*how, base, query, attributes)

    def _logged_in(self) -> LDAPConnection:
        connection = self._server.connect()
        try:
            if self._server.bind_dn:
                connection.simple_bind_s(self._server.bind_dn, self._server.bind_password)
        except BaseException:
            _unbind(connection)
            raise
        return connection

    def verify(self, name: str, password: bytes) -> bool:
        """
        Whether this is the password of an entry: a bind, on a connection of its own.

        An empty password is never sent: such a bind succeeds for everybody (RFC 4513 §5.1.2).
        Nor is one with a NUL, where libraries end the text.
        """
        if not name or not password or b"\0" in password:
            return False
        try:
            text = password.decode()
        except UnicodeDecodeError:
            return False
        connection = None
        try:
            connection = self._server.connect()
            connection.simple_bind_s(name, text)
        except _WRONG:
            return False
        except ldap.LDAPError as error:
            raise self._failure(error) from error
        finally:
            _unbind(connection)
        return True

    def _failure(self, error: Exception) -> TemporaryFailure:
        said = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        words = [str(said[key]).strip() for key in ("desc", "info") if said.get(key)]
        if self._server.has_tls and isinstance(error, ldap.SERVER_DOWN | ldap.CONNECT_ERROR):
            words.append("it is down, or its certificate does not fit its name or ca_file")
        why = f"LDAP failed: {'; '.join(words) or type(error).__name__}"
        return Unavailable(why) if isinstance(error, _DOWN) else TemporaryFailure(why)


class LDAPListing:
    """
    One search, in pages (RFC 2696), on a connection of its own.

    Without pages a server returns no more entries than its size limit, often 500.
    """

    def __init__(
        self,
        connect: Callable[[], LDAPConnection],
        failure: Callable[[Exception], TemporaryFailure],
        timeout: float,
        base: str,
        query: str,
        attributes: Sequence[str],
    ) -> None:
        self._connect = connect
        self._failure = failure
        self._search = base, ldap.SCOPE_SUBTREE, query, list(attributes)
        self._timeout = timeout
        self._connection: LDAPConnection | None = None
        self._pages = SimplePagedResultsControl(criticality=True, size=PAGE, cookie="")
        self.ended = False

    def page(self) -> list[LDAPEntry]:
        """Return the next page; ``ended`` is true after the last one.  Raises as ``search``."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            message = self._connection.search_ext(
                *self._search, serverctrls=[self._pages], timeout=self._timeout
            )
            _, found, _, controls = self._connection.result3(message, timeout=self._timeout)
        except ldap.LDAPError as error:
            raise self._failure(error) from error
        pages = [one for one in controls if isinstance(one, SimplePagedResultsControl)]
        self._pages.cookie = pages[0].cookie if pages else ""
        self.ended = not self._pages.cookie
        return _entries(found)

    def close(self) -> None:
        """End the search."""
        connection, self._connection = self._connection, None
        _unbind(connection)


def _entries(found: _Found) -> list[LDAPEntry]:
    return [
        (name, {key.lower(): one for key, one in values.items()})
        for name, values in found
        if name is not None  # a referral has none
    ]


def _unbind(connection: LDAPConnection | None) -> None:
    if connection is not None:
        with suppress(ldap.LDAPError):
            connection.unbind_s()
