"""Deliveries of the reception: with a header that is completed, and discarded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from zope.interface import implementer

from postoffice.interfaces import IDelivery, IQueuedDelivery, IText
from postoffice.model.errors import PermanentFailure, PostOfficeError, TemporaryFailure
from postoffice.outbound.dkim import Signer, SigningKey
from postoffice.smtp.author import Authors
from postoffice.smtp.header import Completion, LoopReader, Opening

#: Told of a commit: the beginning of the text, and the outcomes of single recipients, if they had
#: any of their own.
Success = Callable[[bytes, Sequence[PostOfficeError | None] | None], None]


@implementer(IDelivery)
class DiscardedDelivery:
    """A message that nobody gets: all its recipients are aliases that discard mail."""

    async def write(self, data: bytes) -> None:
        pass

    async def commit(self) -> None:
        pass

    async def commit_each(self) -> list[PostOfficeError | None]:
        return []

    async def text(self) -> IText:
        raise TemporaryFailure("a message that is discarded has no text to read")

    async def prepend(self, fields: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


@implementer(IDelivery)
class CompletedDelivery:
    """
    A delivery that corrects the beginning of the text, or completes its header.

    ``authors``, if given, reads the addresses in the From field on the way.  A text that ``loop``
    finds to be in a loop is refused.  ``undo`` is called if it is aborted before it is committed.
    ``signer`` reads what ``sign`` signs.  ``success`` is called with the beginning of the text and
    the outcomes, once it is committed.
    """

    def __init__(
        self,
        delivery: IDelivery,
        completion: Completion | Opening,
        authors: Authors | None = None,
        loop: LoopReader | None = None,
        undo: Callable[[], None] | None = None,
        signer: Signer | None = None,
        success: Success | None = None,
    ) -> None:
        self._delivery = delivery
        self._completion = completion
        self._authors = authors
        self._loop = loop
        self._undo = undo
        self._signer = signer
        self._success = success

    async def authors(self) -> list[str]:
        """The addresses in From, once the text is complete; [] without ``authors``."""
        await self._end()
        return [] if self._authors is None else self._authors.addresses()

    async def sign(self, keys: Sequence[SigningKey], now: float) -> None:
        """Put signatures by these keys before a text that is complete; not without ``signer``."""
        await self._end()
        if self._signer is not None and (fields := self._signer.fields(keys, now)):
            await self._delivery.prepend(fields)

    @property
    def uidl(self) -> str:
        return getattr(self._delivery, "uidl", "")

    async def write(self, data: bytes) -> None:
        await self._pass_on(self._completion.feed(data))

    async def commit(self) -> None:
        await self._check()
        beginning = await self._beginning()
        await self._delivery.commit()
        self._undo = None
        if self._success is not None:
            self._success(beginning, None)

    async def commit_each(self) -> list[PostOfficeError | None]:
        await self._check()
        beginning = await self._beginning()
        outcomes = list(await self._delivery.commit_each())
        self._undo = None
        if self._success is not None:
            self._success(beginning, outcomes)
        return outcomes

    async def text(self) -> IText:
        await self._end()
        return await self._delivery.text()

    async def prepend(self, fields: bytes) -> None:
        await self._end()
        await self._delivery.prepend(fields)

    def withdraw(self) -> bool:
        """Put nothing into the queue after all; False if the store cannot do that."""
        if not IQueuedDelivery.providedBy(self._delivery):
            return False
        cast(IQueuedDelivery, self._delivery).withdraw()
        return True

    def abort(self) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()
        self._delivery.abort()

    async def _beginning(self) -> bytes:
        """The beginning of the text, for a letter about it; read only if there may be one."""
        if self._success is None:
            return b""
        text = await self._delivery.text()
        try:
            return await text.read()
        finally:
            text.close()

    async def _check(self) -> None:
        """The text is complete: refuse it if it is in a loop."""
        await self._end()
        if self._loop is not None and (refusal := self._loop.objection()) is not None:
            raise PermanentFailure("a mail loop", refusal)

    async def _end(self) -> None:
        """The text is complete: pass on what was held back of it, once."""
        await self._pass_on(self._completion.end())

    async def _pass_on(self, octets: bytes) -> None:
        if octets:
            if self._authors is not None:
                self._authors.feed(octets)
            if self._loop is not None:
                self._loop.feed(octets)
            if self._signer is not None:
                self._signer.feed(octets)
            await self._delivery.write(octets)
