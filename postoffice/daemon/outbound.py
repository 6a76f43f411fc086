"""Whether this daemon sends: what sends is imported where the configuration has ``outbound``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from postoffice.daemon.control_socket import Lines
from postoffice.daemon.generation import Core, Generation
from postoffice.interfaces import IQueueStore

if TYPE_CHECKING:
    from postoffice.daemon.queue_runner import QueueRunner
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
        self._runner: QueueRunner | None = None

    @property
    def manager(self) -> QueueManager | None:
        """What sends; None while nothing is sent."""
        return None if self._runner is None else self._runner.manager

    async def use(self, generation: Generation) -> None:
        """Send as this generation says from now on.  Raises StartupError."""
        store, outbound = self._core.plugins.destination, generation.settings.outbound
        if outbound is None or not IQueueStore.providedBy(store):
            if self._runner is not None:
                await self._runner.stop()
            return
        if self._runner is None:
            from postoffice.daemon.queue_runner import QueueRunner

            self._runner = QueueRunner(self._core)
        await self._runner.use(generation, outbound, store)

    async def answer(self, question: Mapping[str, object]) -> Lines:
        """Answer the command ``queue`` of the control socket."""
        if self._runner is None or self._runner.manager is None:
            return iter([{"failed": NOT_SENDING, "sends": False}])
        return await self._runner.control.answer(self._runner.manager, question)

    async def close(self) -> None:
        """Stop for good; no session submits mail any more."""
        if self._runner is not None:
            await self._runner.close()
