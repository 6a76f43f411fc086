"""The factory of an SMTP, submission or LMTP service, and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from postoffice.model.envelope import Client
from postoffice.model.reply import STARTING, TOO_MANY_CONNECTIONS
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ListenerOptions
from postoffice.server.login import LoginFactory, LoginOptions, Salts
from postoffice.server.smtp import SMTPConnection
from postoffice.smtp.options import SessionOptions, SMTPLimits
from postoffice.util.networks import within
from postoffice.util.token_bucket import TokenBucket


@dataclass(frozen=True)
class ServiceProfile(LoginOptions):
    """
    The settings of one SMTP service.

    ``lmtp`` and ``submission`` are as in ``SessionOptions``.  ``greeting_delay`` is
    how many seconds a client that is not local waits for the greeting.
    ``judged`` are the stages at which policies are asked (connect, hello, text).
    """

    lmtp: bool = False
    submission: bool = False
    greeting_delay: float = 0.0
    judged: frozenset[str] = field(default_factory=frozenset)


class SMTPFactory(LoginFactory):
    """
    The factory of one service: SMTP, submission or LMTP, as its ``profile`` says.

    ``unknown`` limits how many unknown recipients a client's network may name.
    """

    full = TOO_MANY_CONNECTIONS.wire
    not_yet = STARTING.wire

    def __init__(
        self,
        portal: Portal,
        *,
        hostname: str,
        limits: SMTPLimits,
        clock: IReactorTime,
        connection_limits: ConnectionLimits | None = None,
        listener_options: ListenerOptions | None = None,
        profile: ServiceProfile | None = None,
        salts: Salts | None = None,
        unknown: TokenBucket | None = None,
    ) -> None:
        super().__init__(
            portal, clock, connection_limits, listener_options or ListenerOptions("smtp"), salts
        )
        self.hostname = hostname
        self.limits = limits
        self.profile = profile or ServiceProfile()
        self.unknown = unknown

    def _connection(self) -> SMTPConnection:
        return SMTPConnection(self)

    def options(self, client: Client, bindings: Any) -> SessionOptions:
        """The session options for this client on its present connection."""
        profile = self.profile
        return SessionOptions(
            hostname=self.hostname,
            lmtp=profile.lmtp,
            submission=profile.submission,
            mechanisms=profile.mechanisms,
            passwords=profile.takes_passwords(client),
            starttls=self.listener_options.certificates is not None and not client.encrypted,
            encrypted=client.encrypted,
            bindings=bindings,
            xclient=within(client.address, self.listener_options.relays),
        )
