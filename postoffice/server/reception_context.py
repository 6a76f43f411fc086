"""What all receptions of one daemon share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache

from postoffice.accounts.address_resolution import Resolution, resolve, run
from postoffice.accounts.directories import look_up_of
from postoffice.interfaces import (
    IAccountDirectory,
    IDestination,
)
from postoffice.model.address import UNLIMITED, Account, Address, NotAnAddress, Quota, normal_domain
from postoffice.model.alias import Found
from postoffice.model.envelope import Envelope
from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.reply import (
    NO_FORWARDING,
    NO_SUCH_DOMAIN,
    NO_WAY_OUT,
    Reply,
)
from postoffice.model.route import Direct, Refuse
from postoffice.outbound.routes import Router
from postoffice.policy.chain import PolicyChain
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.server.forward_senders import ForwardSenders
from postoffice.server.null_mx import NullMX

#: Tells a sender that these recipients (indexes in the envelope) have a message, whose beginning
#: is given; nobody waits for it.
TellSuccess = Callable[[Envelope, Sequence[int], bytes], None]


class Successes:
    """Has the function that tells senders of deliveries here; None where no letters are written."""

    tell: TellSuccess | None = None


@dataclass(frozen=True)
class ReceptionContext:
    """
    What all receptions of one daemon share.

    ``hostname`` is used in the Received fields, and ``now`` returns their time
    (with its zone).  The ``postmaster`` gets the mail for ``<Postmaster>``, and for
    postmaster and abuse in every domain of ours (RFC 5321 §4.5.1, RFC 2142).  With
    ``any_sender`` our users may send with any reverse-path.  ``foreign_from`` says how a From field
    with addresses that are not the user's own is treated (off, log, refuse).
    ``quota`` is complete and gives the default for all accounts;
    ``postmaster_quota`` holds for the postmaster, whatever that account says.
    ``router`` says where mail for other domains goes; without it none is taken.  ``limits`` counts
    what users send there.  ``forward_senders`` rewrites the senders of forwards; without it they
    stay.  ``dkim_keys`` sign what users send there.  ``successes`` tells senders who want to know
    (NOTIFY=SUCCESS, RFC 3461).  ``null_mx`` knows of domains that take no mail.
    Without ``forward_spam`` strangers' mail that a policy has marked as spam is not sent on.
    """

    directory: IAccountDirectory
    destination: IDestination
    hostname: str
    postmaster: Address
    now: Callable[[], datetime]
    policies: PolicyChain = field(default_factory=PolicyChain)
    any_sender: bool = False
    foreign_from: str = "log"
    quota: Quota = UNLIMITED
    postmaster_quota: Quota = UNLIMITED
    router: Router | None = None
    limits: SendingLimits | None = None
    forward_senders: ForwardSenders | None = None
    dkim_keys: DKIMKeys | None = None
    successes: Successes = field(default_factory=Successes)
    null_mx: NullMX | None = None
    forward_spam: bool = True

    def resolve(
        self, address: Address | None, *, forwards: bool = True
    ) -> Resolution | Awaitable[Resolution]:
        """Follow an address (None: the postmaster), at once if the directories answer at once."""
        postmaster = self.postmaster.normal
        name = postmaster if address is None else self.whole(address).normal
        return run(resolve(name, postmaster, forwards=forwards), self._look_up)

    @cached_property
    def _look_up(self) -> Callable[[str], Found | Awaitable[Found]]:
        return look_up_of(self.directory)

    def state_of(self, account: Account) -> Found | Awaitable[Found]:
        """Look an account up as it is now."""
        return self._look_up(account.address)

    def given(self, address: Address | None) -> Address:
        """The address in RCPT, complete."""
        return self.postmaster if address is None else self.whole(address)

    def whole(self, address: Address) -> Address:
        """Complete an address without a domain with the main domain, the postmaster's."""
        return address if address.domain else replace(address, domain=self.postmaster.domain)

    def objection(self, envelope: Envelope, recipient: QueuedRecipient) -> Reply | None:
        """Return why mail for a recipient in another domain is not taken, or None."""
        if self.router is None:
            return NO_FORWARDING if recipient.original else NO_WAY_OUT
        try:
            normal_domain(recipient.domain)
        except NotAnAddress:
            return NO_SUCH_DOMAIN
        sender = "" if envelope.sender is None else str(envelope.sender)
        route = self.router.route(sender, recipient.address)
        return Reply(550, "5.7.1", route.words) if isinstance(route, Refuse) else None

    def is_direct(self, envelope: Envelope, recipient: QueuedRecipient) -> bool:
        """Return whether the DNS says where mail for a recipient in another domain goes."""
        sender = "" if envelope.sender is None else str(envelope.sender)
        router = self.router
        return router is not None and isinstance(router.route(sender, recipient.address), Direct)

    def signs(self, envelope: Envelope) -> bool:
        """Whether a user's message gets our signature (DKIM), if its author's domain has keys."""
        if self.dkim_keys is None or self.router is None or not envelope.queued:
            return False
        sender = "" if envelope.sender is None else str(envelope.sender)
        return self.router.signs(sender, (one.address for one in envelope.queued))

    def limited(self, account: Account) -> Account:
        """
        The account with a complete quota.

        The postmaster's account has one that lets mail in always (RFC 5321 §4.5.1).
        """
        if account.address == self.postmaster.normal:
            return replace(account, quota=self.postmaster_quota)
        return _limited(account, self.quota)


@lru_cache(maxsize=4096)
def _limited(account: Account, default: Quota) -> Account:
    quota = account.quota.or_else(default)
    return account if quota == account.quota else replace(account, quota=quota)
