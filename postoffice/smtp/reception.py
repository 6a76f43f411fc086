"""Who may post here, and to whom: the avatar of those whom nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from zope.interface import implementer

from postoffice.address import Account, Address, NotAnAddress, normal_domain
from postoffice.envelope import Envelope, Recipient
from postoffice.errors import TemporaryFailure
from postoffice.interfaces import IAccountDirectory, IDelivery, IDestination, IReception
from postoffice.reply import NO_RELAY, RECIPIENT_OK, SENDER_OK, UNKNOWN_RECIPIENT, Reply


@implementer(IReception)
class Reception:
    """
    Takes mail from strangers, for our maildrops only.

    ``hostname`` stands in the Received fields, ``now`` tells their time (with
    its zone); ``postmaster`` is who gets the mail for ``<Postmaster>`` and
    for postmaster@ every domain of ours (RFC 5321 §4.5.1).
    """

    def __init__(
        self,
        directory: IAccountDirectory,
        destination: IDestination,
        *,
        hostname: str,
        postmaster: Address,
        now: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._destination = destination
        self._hostname = hostname
        self._postmaster = postmaster
        self._now = now

    async def sender(self, envelope: Envelope) -> Reply:
        """MAIL: whoever it is."""
        return SENDER_OK

    async def recipient(self, envelope: Envelope, address: Address | None) -> Reply:
        """RCPT: one of ours, once in a message however often he is named."""
        account = await self._account(address)
        if isinstance(account, Reply):
            return account
        if all(account.maildrop != known.account.maildrop for known in envelope.recipients):
            given = self._postmaster if address is None else address
            envelope.recipients.append(Recipient(given, account))
        return RECIPIENT_OK

    async def begin(self, envelope: Envelope) -> IDelivery:
        """DATA: the trace fields go first (RFC 5321 §4.4)."""
        delivery = await self._destination.begin(envelope)
        await delivery.write(envelope.trace(self._hostname, self._now()))
        return delivery

    async def _account(self, address: Address | None) -> Account | Reply:
        """The account that an address leads to, or why there is none."""
        if address is None:
            return await self._postmasters_account()
        try:
            domain = normal_domain(address.domain)
        except NotAnAddress:
            return NO_RELAY
        if not await self._directory.serves(domain):
            return NO_RELAY
        if address.local.casefold() == "postmaster":
            return await self._postmasters_account()
        return await self._directory.find(address.normal) or UNKNOWN_RECIPIENT

    async def _postmasters_account(self) -> Account:
        account = await self._directory.find(self._postmaster.normal)
        if account is None:
            raise TemporaryFailure(f"the postmaster's account {self._postmaster} does not exist")
        return account
