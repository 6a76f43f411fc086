"""What one SMTP, submission or LMTP service is, for its connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from postoffice.model.envelope import Client
from postoffice.server.login_connection import LoginOptions
from postoffice.smtp.options import SMTPLimits, SMTPOptions
from postoffice.util.token_bucket import TokenBucket


@dataclass(frozen=True)
class ServiceProfile(LoginOptions):
    """
    The settings of one SMTP service.

    ``lmtp``, ``submission`` and ``dsn`` are as in ``SMTPOptions``.  ``greeting_delay`` is
    how many seconds a client that is not local waits for the greeting.
    ``judged`` are the stages at which policies are asked (connect, hello, text).
    """

    lmtp: bool = False
    submission: bool = False
    dsn: bool = False
    greeting_delay: float = 0.0
    judged: frozenset[str] = field(default_factory=frozenset)


class SMTPService(Protocol):
    """
    What a connection needs of its service.

    ``unknown`` limits how many unknown recipients a client's network may name.
    """

    limits: SMTPLimits
    profile: ServiceProfile
    unknown: TokenBucket | None

    def options(self, client: Client, bindings: Mapping[str, bytes]) -> SMTPOptions:
        """The session options for this client on its present connection."""
