"""The POP3 server from which users move: it is asked whether a first login is right."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, date, datetime
from urllib.parse import quote

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts.circuit_breaker import Breaker, Unavailable
from postoffice.accounts.query_variables import VARIABLE, value, variable
from postoffice.interfaces import (
    Executor,
    IAccountListing,
    IAccountSettings,
    IAddresses,
    IFirstLogins,
)
from postoffice.model.address import Account, Quota
from postoffice.model.alias import Found
from postoffice.model.errors import TemporaryFailure
from postoffice.model.mail_policy import MailPolicy
from postoffice.pop3.client_connection import try_login
from postoffice.pop3.client_reply import LOGIN
from postoffice.pop3.client_url import POP3Server

#: Logins at the old server at one time, and how many may wait for their turn.
AT_ONCE = 4
WAITING = 100
_VARIABLE = re.compile(VARIABLE)
_NOT_SENT = re.compile(rb"[\0-\x1f\x7f]")


def _today() -> date:
    return datetime.now(UTC).date()


@implementer(IAccountListing, IAddresses, IAccountSettings, IFirstLogins)
class OldServerDirectory:
    """
    Checks first logins to ``domains`` at ``server``; it has no accounts of its own.

    From the day ``until`` on (UTC) the server is not asked.  ``login`` is the user name there, with
    variables.  With ``imports`` the mail there is imported after a first login.  One login there
    takes at most ``timeout`` seconds.  Raises SettingError for a variable that does not exist.
    """

    log = Logger()

    def __init__(
        self,
        server: POP3Server,
        executor: Executor,
        clock: IReactorTime,
        domains: Collection[str],
        until: date,
        *,
        login: str = "%{user}",
        imports: bool = False,
        timeout: float,
        today: Callable[[], date] = _today,
    ) -> None:
        for found in _VARIABLE.finditer(login):
            variable("login", found)
        self._server = server
        self._breaker = Breaker(executor, clock, str(server), timeout)
        self._clock = clock
        self._turns = DeferredSemaphore(AT_ONCE)
        self._domains = frozenset(domains)
        self._until = until
        self._login = login
        self._imports = imports
        self._today = today

    def __str__(self) -> str:
        return str(self._server)

    async def start(self) -> None:
        """Do nothing: the old server may be down, and is asked only at logins."""
        if self._today() >= self._until:
            self.log.warn(
                "the old server {server} is not asked any more since {until}: remove it from "
                "accounts:, or change until:",
                server=str(self),
                until=self._until.isoformat(),
            )

    async def stop(self) -> None:
        """Nothing is open between two logins."""

    # -- it has no accounts ------------------------------------------------------------------

    async def find(self, name: str) -> Account | None:
        return None

    async def serves(self, domain: str) -> bool:
        return False

    def look_up(self, name: str) -> Found:
        return Found(None, None)

    async def domains(self) -> list[str]:
        """Return no domains: they are local in the directory that gets the accounts."""
        return []

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        """Yield nothing."""
        return
        yield

    async def account_settings(self) -> Sequence[tuple[Quota, MailPolicy]]:
        return ()

    # -- first logins ------------------------------------------------------------------------

    def asks_about(self, name: str) -> bool:
        """Return whether the name is in one of the domains, and ``until`` has not come."""
        domain = name.rpartition("@")[2]
        return domain in self._domains and self._today() < self._until

    async def is_right(self, name: str, password: bytes) -> bool:
        """Ask the old server once, and return whether it accepts this login."""
        try:
            text = password.decode("utf-8")
        except UnicodeDecodeError:
            return False
        if not text or _NOT_SENT.search(password):
            return False  # it would be another command, or none
        if self._turns.tokens == 0 and len(self._turns.waiting) >= WAITING:
            raise TemporaryFailure(f"too many first logins wait for {self}")
        await self._turns.acquire()
        try:
            return await self._breaker.run(self._ask, self._login_of(name), text)
        finally:
            self._clock.callLater(0, self._turns.release)  # at once, 100 waiting logins recurse

    def import_words(self, name: str) -> Sequence[str]:
        """Return the URL of the server with the login, and the options for its TLS."""
        if not self._imports:
            return ()
        scheme, rest = str(self._server).split("://")
        url = f"{scheme}://{quote(self._login_of(name), safe='@')}@{rest}"
        authorities = ("--ca", self._server.ca_file) if self._server.ca_file else ()
        return (url, "--tls", self._server.tls, *authorities)

    def _login_of(self, name: str) -> str:
        return _VARIABLE.sub(lambda found: value(variable("login", found), name), self._login)

    def _ask(self, login: str, password: str) -> bool:
        """Log in, on a thread.  Raises TemporaryFailure if the reply is neither yes nor no."""
        reply = try_login(self._server, login, password)
        if reply.ok:
            return True
        if reply.wrong_password:
            return False
        why = f"the old server {self._server} does not tell whether a login is right: {reply}"
        if reply.said and reply.phase == LOGIN:
            raise TemporaryFailure(why)  # [IN-USE] may have other reasons
        raise Unavailable(why)
