"""A queue in memory, of the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count

from zope.interface import implementer

from postoffice.interfaces import Arrived, IDelivery, IMailQueue, IText
from postoffice.model.envelope import Envelope
from postoffice.model.errors import MessageGone, NoSpace
from postoffice.model.queued_message import QueuedMessage


@implementer(IMailQueue)
class MemoryQueue:
    """
    Messages for other servers in a dictionary, at most ``most`` of them; 0: any number.

    ``make_text`` makes an IText.  ``aside`` has what was set aside, and why.
    """

    def __init__(self, make_text: Callable[[bytes], IText], most: int = 0) -> None:
        self.aside: dict[str, tuple[QueuedMessage, bytes, str]] = {}
        self._make_text = make_text
        self._most = most
        self._held: dict[str, tuple[QueuedMessage, bytes]] = {}
        self._watching: list[Arrived] = []
        self._numbers = count(1)

    def limit(self, messages: int, octets: int) -> None:
        """Hold so many messages at most; 0: any number.  Octets are not limited."""
        self._most = messages

    def admit(self, envelope: Envelope) -> None:
        """Raises NoSpace if the queue is full; letters of our own come in all the same."""
        ours = envelope.sender is None and envelope.client.local
        if self._most and not ours and len(self._held) >= self._most:
            raise NoSpace(f"refused: the queue is full: it holds {self._most} messages")

    def put(self, envelope: Envelope, text: bytes, before: int, now: float) -> None:
        """A message was committed; ``before`` octets stand before its trace fields."""
        message = envelope.message(now, len(text), before)
        if not text.startswith(envelope.return_path, before):
            message = replace(message, hole=(0, 0))
        name = f"queued-{next(self._numbers):09d}"
        self._held[name] = message, text
        for arrived in self._watching:
            arrived(name, message)

    def watch(self, arrived: Arrived) -> None:
        self._watching.append(arrived)

    async def names(self) -> list[str]:
        return list(self._held)

    async def read(self, names: Sequence[str]) -> list[QueuedMessage | None]:
        return [self._held[name][0] if name in self._held else None for name in names]

    async def text(self, name: str) -> IText:
        if name not in self._held:
            raise MessageGone(f"{name} is not in the queue")
        message, text = self._held[name]
        start, length = message.hole
        return self._make_text(text[:start] + text[start + length :])

    async def finish(
        self,
        name: str,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[IDelivery] = (),
        *,
        whole: bool,
    ) -> None:
        for letter in letters:
            await letter.commit()
        if whole:
            self._held.pop(name, None)
        elif name in self._held:
            message, text = self._held[name]
            self._held[name] = message.with_marks(done, told), text

    async def set_aside(self, name: str, why: str) -> None:
        if name in self._held:
            self.aside[name] = (*self._held.pop(name), why)

    async def usage(self) -> tuple[int, int]:
        return len(self._held), sum(len(text) for _, text in self._held.values())
