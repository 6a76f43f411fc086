"""Whether this daemon sends: what sends is imported where the configuration has ``outbound``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from postoffice.daemon.control_socket import Lines
from postoffice.daemon.generation import Core, Generation
from postoffice.interfaces import IQueueStore

if TYPE_CHECKING:
    from postoffice.daemon.sending import Sending
    from postoffice.queue.manager import QueueManager

#: The answer to the command ``queue`` if this daemon sends nothing.
NOT_SENDING = "the daemon sends no mail: its configuration has no outbound"


class Outbound:
    """
    Sends what is in the queue, as the current configuration says.

    Without ``outbound`` in it, what is in the queue waits.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sending: Sending | None = None

    @property
    def manager(self) -> QueueManager | None:
        """What sends; None while nothing is sent."""
        return None if self._sending is None else self._sending.manager

    async def use(self, generation: Generation) -> None:
        """Send as this generation says from now on.  Raises StartupError."""
        store, outbound = self._core.plugins.destination, generation.settings.outbound
        if outbound is None or not IQueueStore.providedBy(store):
            if self._sending is not None:
                await self._sending.stop()
            return
        if self._sending is None:
            from postoffice.daemon.sending import Sending

            self._sending = Sending(self._core)
        await self._sending.use(generation, outbound, store)

    async def answer(self, question: Mapping[str, object]) -> Lines:
        """Answer the command ``queue`` of the control socket."""
        if self._sending is None or self._sending.manager is None:
            return iter([{"failed": NOT_SENDING, "sends": False}])
        return await self._sending.control.answer(self._sending.manager, question)

    async def close(self) -> None:
        """Stop for good; no session submits mail any more."""
        if self._sending is not None:
            await self._sending.close()
