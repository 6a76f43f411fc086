"""Makes the transaction that sends a message to some of its recipients."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from postoffice.interfaces import IText
from postoffice.interfaces.relay import SenderOf
from postoffice.model.hop import Transaction
from postoffice.model.queued_message import QueuedMessage
from postoffice.util.maybe_awaitable import later


async def transaction_of(
    message: QueuedMessage, indexes: Sequence[int], text: IText, sender_of: SenderOf
) -> tuple[Transaction, IText]:
    """
    Make the transaction to these recipients, who all get the message from the same sender.

    The beginning of the text is read to find out whether the header needs SMTPUTF8.  Returns the
    transaction, and the text to send.
    """
    recipients = [message.recipients[index] for index in indexes]
    sender = await later(sender_of(message, recipients[0]))
    utf8 = message.utf8
    if utf8:
        text = _TextReadAhead(text, await text.read())
        utf8 = not text.first.partition(b"\r\n\r\n")[0].isascii()
    transaction = Transaction(
        id=message.id,
        sender=sender,
        recipients=recipients,
        size=message.octets,
        utf8=utf8,
        eight_bit=message.eight_bit,
        requiretls=message.requiretls,
        ret=message.ret,
        envid=message.envid,
    )
    return transaction, text


@implementer(IText)
class _TextReadAhead:
    """A text of which the first piece was read."""

    def __init__(self, text: IText, first: bytes) -> None:
        self.first = first
        self._rest = text

    async def read(self) -> bytes:
        first, self.first = self.first, b""
        return first or await self._rest.read()

    def close(self) -> None:
        self._rest.close()
