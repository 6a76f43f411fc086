"""A connection on which clients can log in: what SMTP and POP3 share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar, Protocol

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface

from postoffice.accounts.credentials import credentials_of
from postoffice.model import log_events
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import AccountDisabled, LoginRefused, TemporaryFailure
from postoffice.model.reply import NO_TLS_NOW
from postoffice.protocol.refusals import Refusal, Refusals
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.server.connection import Connection
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ServerFactory
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.question_loop import A, A_contra, Q, Q_co, Session

Salts = Callable[[bytes], Awaitable[Salt]]


@dataclass(frozen=True)
class LoginOptions:
    """
    How clients can log in to one service.

    ``mechanisms`` are the SASL mechanisms of the configuration.
    ``plaintext_login`` says on which connections without TLS a client may send a
    password: ``never``, ``loopback`` (loopback and UNIX sockets only), ``always``.
    """

    mechanisms: tuple[str, ...] = ()
    plaintext_login: str = "loopback"

    def takes_passwords(self, client: Client) -> bool:
        """Whether this client may send its password over its present connection."""
        if client.encrypted or self.plaintext_login == "always":
            return True
        return self.plaintext_login == "loopback" and client.local


class LoginFactory(ServerFactory):
    """
    The factory of a service on which clients can log in.

    ``salts`` returns the salt of a user's SCRAM keys.
    """

    def __init__(
        self,
        portal: Portal,
        clock: IReactorTime,
        connection_limits: ConnectionLimits | None,
        listener_options: ListenerOptions,
        salts: Salts | None,
    ) -> None:
        super().__init__(portal, clock, connection_limits, listener_options)
        self.salts = salts


#: Seconds from the greeting in which a client must log in, if the service requires a login.
LOGIN_TIME = 600.0


class SessionWithLogin(Session[Q_co, A_contra], Protocol[Q_co, A_contra]):
    """What a connection needs of a session in which clients can log in."""

    refusals: Refusals
    injected: bool
    replied: list[int]


class LoginConnection(Connection[Q, A]):
    """A client that may log in; ``_session_info`` is the mind of its logins (twisted.cred)."""

    session: SessionWithLogin[Q, A] | None = None
    factory: LoginFactory
    starttls: ClassVar[str]  # the command that begins TLS
    _session_info: SessionInfo
    _greeted_at = 0.0

    def _begin_session(self) -> None:
        self._greeted_at = self._clock.seconds()
        super()._begin_session()

    def _login_required(self) -> bool:
        """Whether the client must log in before it can do anything else."""
        return False

    def _silent_for(self) -> float:
        """Also time out a client that has not logged in within ``LOGIN_TIME``, if it must."""
        silent = super()._silent_for()
        if self._login_required() and (not self.loop.running or self.loop.blocked):
            late = self._clock.seconds() - self._greeted_at - LOGIN_TIME
            silent = max(silent, min(late + self.timeout, self.timeout))
        return silent

    def _end_session(self, *, silent: bool) -> None:
        if silent and self._login_required():
            self.log(log_events.LOGIN_TIMED_OUT)

    def _account(self) -> str:
        return self._session_info.login if self.session is not None else ""

    def _secure(self) -> None:
        certificates = self.factory.listener_options.certificates
        if certificates is None or not certificates.ready:
            raise TemporaryFailure(reply=NO_TLS_NOW)

    async def _salt(self, question: SaltOf) -> Salt:
        assert self.factory.salts is not None, "a service that offers SCRAM must have salts"
        return await self.factory.salts(question.user)

    async def _authenticate(
        self, question: Prove, avatar: type[Interface]
    ) -> tuple[Any, Callable[[], None]]:
        """Log in; return the avatar with this interface, and its logout.  Raises LoginRefused."""
        claim, session_info = question.claim, self._session_info
        session_info.mechanism, session_info.tls = question.mechanism, self._tls
        credentials = credentials_of(claim, self.client, session_info.service)
        figures, began = self.factory.figures, perf_counter()
        try:
            _, found, logout = await self.factory.portal.login(credentials, session_info, avatar)
        except UnauthorizedLogin:
            self.log(log_events.LOGIN_REFUSED, mechanism=session_info.mechanism, user=claim.user)
            raise LoginRefused from None
        except AccountDisabled:
            self.log(log_events.LOGIN_DISABLED, mechanism=session_info.mechanism, user=claim.user)
            raise
        if figures is not None:
            figures.login.observe(perf_counter() - began)
        session_info.device = getattr(found, "device", "")
        return found, logout

    def _logged_in(self, login: str) -> None:
        """The login is complete: the client acts for this account from now on."""
        self._session_info.login = login
        self.log(log_events.LOGIN, mechanism=self._session_info.mechanism)

    # -- the log -------------------------------------------------------------------

    def _log_fields(self, fields: dict[str, object]) -> dict[str, object]:
        if self.session is None:
            return super()._log_fields(fields)
        info = self._session_info
        return {
            "id": self.id,
            "service": info.service,
            "client": self.client.address or "local",
            "tls": self._tls,
            "account": info.login,
            "device": info.device if info.login else "",
            **fields,
        }

    def _log_refusals(self) -> None:
        """Log what the session has refused since the last call."""
        assert self.session is not None
        for one in self.session.refusals.take():
            self.log(
                log_events.REFUSED,
                command=one.command,
                reply=one.reply,
                **self._refusal_fields(one),
            )

    def _refusal_fields(self, refusal: Refusal) -> dict[str, object]:
        """Further log fields of a refusal."""
        return {}

    def flush(self) -> None:
        assert self.session is not None
        if self.session.refusals.new:
            self._log_refusals()
        super().flush()

    def _client_gone(self) -> None:
        assert self.session is not None
        self._log_refusals()
        if self.factory.figures is not None:
            self.factory.figures.add(self.session.replied)
        if self.session.injected:
            self.log(log_events.INJECTED, command=self.starttls)
        self.log(
            log_events.SESSION_ENDED, refused=self.session.refusals.count, **self._session_counts()
        )

    def _session_counts(self) -> dict[str, object]:
        """Log fields that count what the session has done."""
        return {}
