"""What the queue needs to send: ways to other servers, and letters to senders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from postoffice.interfaces.store import IDelivery, IText
from postoffice.model.hop import Hop, PeerReply, Result, Transaction
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient

#: Returns the reverse-path with which a message is sent to a recipient.
SenderOf = Callable[[QueuedMessage, QueuedRecipient], str | Awaitable[str]]


class Undeliverable(Exception):
    """
    A message cannot be sent: ``reply`` says why, and whether another attempt makes sense.

    ``after``: the message is given up when it is so many seconds old.  ``unsafe``: the hosts
    answer, but lack what the message demands (REQUIRETLS).
    """

    def __init__(
        self, reply: PeerReply, *, after: float | None = None, unsafe: bool = False
    ) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.unsafe = unsafe
        self.after = after


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How a domain is reached.

    ``site`` names the set of hosts: all mail for them shares their connections, and waits
    together while none of them answers.  ``hops`` are tried in order.  ``rate`` is how many
    messages in how many seconds, or None.  ``requiretls``: only verified TLS may be used.
    """

    site: str
    hops: tuple[Hop, ...] = ()
    rate: tuple[int, float] | None = None
    requiretls: bool = False


class RelayConnection(Protocol):
    """
    A connection to another server, after its greeting, TLS and login.

    ``via`` names the server for the log.
    """

    via: str

    @property
    def most(self) -> int:
        """How many recipients one transaction can have."""

    @property
    def usable(self) -> bool:
        """Whether it can take another transaction."""

    def send(self, transaction: Transaction, text: IText) -> Awaitable[Result]:
        """Send one message.  Raises nothing: the result says what happened."""

    def close(self) -> Awaitable[None]:
        """Say QUIT and close."""

    def abort(self) -> None:
        """Close at once."""


class Relay(Protocol):
    """The ways to other servers."""

    def way(self, message: QueuedMessage, recipient: QueuedRecipient) -> str:
        """Return the way that the configuration chooses: a name without spaces."""

    def plan(self, way: str, domain: str) -> Awaitable[Plan]:
        """Find the hosts for a domain.  Raises Undeliverable."""

    def connect(self, plan: Plan) -> Awaitable[RelayConnection]:
        """Connect to the first host that can be used.  Raises Undeliverable."""

    def sender(self, message: QueuedMessage, recipient: QueuedRecipient) -> str | Awaitable[str]:
        """Return the reverse-path to send: a stranger's is rewritten if we forward the mail."""


class Letters(Protocol):
    """Letters to the senders of messages (RFC 3464); ``name`` is a message's in the queue."""

    def groups(
        self, message: QueuedMessage, replies: Mapping[int, PeerReply]
    ) -> Sequence[Mapping[int, PeerReply]]:
        """Part the failures of a message by who is told of them: each part is one letter."""

    def failed(
        self, name: str, message: QueuedMessage, replies: Mapping[int, PeerReply], via: str
    ) -> Awaitable[IDelivery | None]:
        """Write a letter about recipients who will not get it; None if nobody is to be told."""

    def delayed(
        self, name: str, message: QueuedMessage, replies: Mapping[int, PeerReply], via: str
    ) -> Awaitable[IDelivery | None]:
        """Write a letter about recipients who do not have it yet."""

    def relayed(
        self, name: str, message: QueuedMessage, replies: Mapping[int, PeerReply], via: str
    ) -> Awaitable[IDelivery | None]:
        """Write a letter about recipients whose server has it, and does not tell the sender."""
