"""The queue of a store, whose messages are committed together with local mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from zope.interface import Attribute, Interface

from postoffice.interfaces.maintenance import Finding
from postoffice.interfaces.store import IDelivery, IText
from postoffice.model.queued_message import QueuedMessage

#: Told of a message that was committed to the queue: its name there, and the message.
Arrived = Callable[[str, QueuedMessage], None]


class IQueueStore(Interface):
    """Optional interface of a store: it has a queue, with the same commits as its maildrops."""

    queue = Attribute("IMailQueue: the queue of the store")


class IMailQueue(Interface):
    """
    What a store keeps for other servers.

    ``IDestination.begin`` puts a message here too if the envelope has ``queued`` recipients, in
    the same commit as into the maildrops: all get it or none, over any crash.
    A message has a name, which is never used again.
    """

    def limit(messages: int, octets: int) -> None:
        """
        From now on hold so many messages and octets at most; 0: any number.

        Beyond it ``IDestination.begin`` raises NoSpace, but not for our own letters.
        """

    def watch(arrived: Arrived) -> None:
        """From now on call ``arrived`` for each message that is committed, before its 250."""

    def names() -> Awaitable[list[str]]:
        """List the names of all messages, oldest first."""

    def read(names: Sequence[str]) -> Awaitable[list[QueuedMessage | None]]:
        """
        Read messages, with their marks; None for one that is gone.

        A message that cannot be read is set aside and logged; it counts as gone.
        """

    def text(name: str) -> Awaitable[IText]:
        """Begin to read the text as it is sent.  Raises MessageGone."""

    def finish(
        name: str,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[IDelivery] = (),
        *,
        whole: bool,
    ) -> Awaitable[None]:
        """
        Mark recipients as finished or told, and commit letters about them, all or nothing.

        ``whole``: no recipient is left, the message is removed.  Durable when it returns.
        Each of ``letters`` is a delivery of this store that is written, and neither committed nor
        aborted.  Raises TemporaryFailure, or MaildropFull if a letter does not fit; then nothing
        has changed.
        """

    def set_aside(name: str, why: str) -> Awaitable[None]:
        """Take a message that causes a fault out of the queue; it is kept, logged and shown."""

    def usage() -> Awaitable[tuple[int, int]]:
        """Return how many messages wait, and their octets."""


class IQueueRepair(Interface):
    """Optional interface of a queue, for ``postoffice maildrop verify --repair``."""

    def repair() -> Awaitable[list[Finding]]:
        """
        Try again what could not be put into the queue, or taken out of it; return what was mended.

        A daemon that runs meanwhile finds it at its next start.
        """
