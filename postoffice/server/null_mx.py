"""Refuses at RCPT what a user sends to a domain that takes no mail (null MX, RFC 7505)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime

from postoffice.model.reply import TAKES_NO_MAIL, Reply
from postoffice.outbound.mail_hosts import NULL_MX, NoMailHosts
from postoffice.util.shield import with_timeout

if TYPE_CHECKING:  # what looks names up is loaded only where mail is sent
    from postoffice.dns.mx_lookup import MXLookup

#: Seconds for which all recipients of one message wait for the DNS together.
PATIENCE = 2.0


class NullMX:
    """
    Asks the DNS whether a domain takes no mail, as far as it answers in time.

    Without an answer in time, mail is not refused.  ``mx`` is None while no mail is sent.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.mx: MXLookup | None = None
        self._clock = clock

    async def refusal(self, domain: str, patience: float) -> tuple[Reply | None, float]:
        """
        Return the refusal, or None, and what is left of the patience (seconds).

        Without patience, only what is in the cache counts.
        """
        began = self._clock.seconds()
        refusal = await self._refusal(domain, patience)
        return refusal, max(0.0, patience - (self._clock.seconds() - began))

    async def _refusal(self, domain: str, patience: float) -> Reply | None:
        if self.mx is None:
            return None
        try:
            await with_timeout(patience, self._clock, self.mx.hosts(domain))
        except NoMailHosts as failure:
            return TAKES_NO_MAIL if failure.reply.status == NULL_MX else None
        except TimedOut:
            pass
        return None
