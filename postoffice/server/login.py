"""Logging in on a transport: what both counters do of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from postoffice.accounts.credentials import credentials_of
from postoffice.model import log_events
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import AccountDisabled, LoginRefused, TemporaryFailure
from postoffice.model.reply import NO_TLS_NOW
from postoffice.protocol.line_session import Secure
from postoffice.protocol.refusals import Refusal
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.server.connection import Connection
from postoffice.server.factory import Doors, ListenerOptions, ServerFactory

Salts = Callable[[bytes], Awaitable[Salt]]


@dataclass(frozen=True)
class LoginOptions:
    """
    How clients are let in at one counter.

    ``mechanisms`` are those of the configuration.  ``plaintext_login`` says
    where passwords are taken in clear: never, on a link that nobody else can
    listen to (loopback), or always.
    """

    mechanisms: tuple[str, ...] = ()
    plaintext_login: str = "loopback"

    def takes_passwords(self, client: Client) -> bool:
        """Whether this client may send its password over the link that it has."""
        if client.encrypted or self.plaintext_login == "always":
            return True
        return self.plaintext_login == "loopback" and client.local


class LoginFactory(ServerFactory):
    """
    A counter where clients can log in.

    ``salts`` tells with which salt a user's keys were made, for SCRAM.
    """

    def __init__(
        self,
        portal: Portal,
        clock: IReactorTime,
        connection_limits: Doors | None,
        listener_options: ListenerOptions,
        salts: Salts | None,
    ) -> None:
        super().__init__(portal, clock, connection_limits, listener_options)
        self.salts = salts


#: Seconds from the greeting in which a client logs in where it has to.
LOGIN_TIME = 600.0


class LoginConnection(Connection):
    """A client that may log in; ``_session_info`` is the mind of its logins."""

    factory: LoginFactory
    starttls: ClassVar[str]  # the command that begins TLS
    _session_info: SessionInfo
    _met_at = 0.0

    def _meet(self) -> None:
        self._met_at = self._clock.seconds()
        super()._meet()

    def _has_to_log_in(self) -> bool:
        """Whether nothing but a login is open to it."""
        return False

    def _silent_for(self) -> float:
        """Who has to log in, and says other things for ``LOGIN_TIME``, counts as silent."""
        silent = super()._silent_for()
        if self._has_to_log_in() and (self._talking is None or self._clogged is not None):
            late = self._clock.seconds() - self._met_at - LOGIN_TIME
            silent = max(silent, min(late + self.timeout, self.timeout))
        return silent

    def _farewell(self, *, silent: bool) -> None:
        if silent and self._has_to_log_in():
            self._log(log_events.LOGIN_TIMED_OUT)

    def _account(self) -> str:
        return self._session_info.login if self.session is not None else ""

    def _secure(self, question: Secure) -> None:
        certificates = self.factory.listener_options.certificates
        if certificates is None or not certificates.ready:
            raise TemporaryFailure(reply=NO_TLS_NOW)

    async def _salt(self, question: SaltOf) -> Salt:
        assert self.factory.salts is not None, "a counter that offers SCRAM knows salts"
        return await self.factory.salts(question.user)

    async def _show(self, question: Prove, avatar: Any) -> tuple[Any, Callable[[], Any]]:
        """The avatar with this interface, and its logout, of whom the claim is true."""
        claim, session_info = question.claim, self._session_info
        session_info.mechanism, session_info.tls = question.mechanism, self._tls
        credentials = credentials_of(claim, self.client, session_info.service)
        try:
            _, found, logout = await self.factory.portal.login(credentials, session_info, avatar)
        except UnauthorizedLogin:
            self._log(log_events.LOGIN_REFUSED, mechanism=session_info.mechanism, user=claim.user)
            raise LoginRefused from None
        except AccountDisabled:
            self._log(log_events.LOGIN_DISABLED, mechanism=session_info.mechanism, user=claim.user)
            raise
        session_info.device = getattr(found, "device", "")
        return found, logout

    def _entered(self, login: str) -> None:
        """Whoever was shown is the client from now on."""
        self._session_info.login = login
        self._log(log_events.LOGIN, mechanism=self._session_info.mechanism)

    # -- the log -------------------------------------------------------------------

    def _facts(self, fields: dict[str, object]) -> dict[str, object]:
        if self.session is None:
            return super()._facts(fields)
        login, device = self._session_info.login, self._session_info.device
        known = {"tls": self._tls, "account": login, "device": device if login else ""}
        return super()._facts({**known, **fields})

    def _tell_refusals(self) -> None:
        """Log what the session has refused since it was asked last."""
        for one in self.session.refusals.take():
            self._log(log_events.REFUSED, command=one.command, reply=one.reply, **self._of(one))

    def _of(self, refusal: Refusal) -> dict[str, object]:
        """What else there is to say of it."""
        return {}

    def _flush(self) -> None:
        if self.session.refusals.new:
            self._tell_refusals()
        super()._flush()

    def _gone(self) -> None:
        self._tell_refusals()
        if self.session.injected:
            self._log(log_events.INJECTED, command=self.starttls)
        self._log(log_events.SESSION_ENDED, refused=self.session.refusals.count, **self._counted())

    def _counted(self) -> dict[str, object]:
        """What the session has done."""
        return {}
