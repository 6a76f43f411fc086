"""The factory of an SMTP, submission or LMTP service, and its settings."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from postoffice.model.envelope import Client
from postoffice.model.reply import STARTING, TOO_MANY_CONNECTIONS
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.login_connection import LoginFactory, Salts
from postoffice.server.smtp import SMTPConnection
from postoffice.server.smtp_service import ServiceProfile
from postoffice.smtp.options import SMTPLimits, SMTPOptions
from postoffice.util.networks import within
from postoffice.util.token_bucket import TokenBucket


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
        return SMTPConnection(self, self)

    def options(self, client: Client, bindings: Mapping[str, bytes]) -> SMTPOptions:
        """The session options for this client on its present connection."""
        profile = self.profile
        return SMTPOptions(
            hostname=self.hostname,
            lmtp=profile.lmtp,
            submission=profile.submission,
            dsn=profile.dsn,
            mechanisms=profile.mechanisms,
            passwords=profile.takes_passwords(client),
            starttls=self.listener_options.certificates is not None and not client.encrypted,
            encrypted=client.encrypted,
            bindings=bindings,
            xclient=within(client.address, self.listener_options.relays),
        )
