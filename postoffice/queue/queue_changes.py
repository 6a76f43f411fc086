"""
Saves the changes of messages in the store, those of one message one after the other.

If the store cannot save a change now (a full disk), it is tried again; meanwhile nothing is sent
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from postoffice.interfaces import IDelivery, IMailQueue
from postoffice.model import log_events
from postoffice.model.errors import PostOfficeError
from postoffice.model.log_event import tell
from postoffice.model.queued_message import QueuedMessage
from postoffice.queue.active_messages import ActiveMessages
from postoffice.queue.destinations import ActiveMessage, QueueChange
from postoffice.util.event_log import EventLogger
from postoffice.util.shield import start_work

#: Seconds until a change that the store could not save is tried again.
AGAIN = 5.0

log = EventLogger("postoffice")


class QueueChanges:
    """
    Saves changes in ``queue``.

    ``left`` is called with a message that has left the queue.  A message without items leaves
    ``in_memory`` when all its changes are saved.
    """

    left: Callable[[str, QueuedMessage], None]

    def __init__(
        self,
        queue: IMailQueue,
        in_memory: ActiveMessages,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._in_memory = in_memory
        self._clock = clock
        self._now = now
        self._saving: set[Deferred[None]] = set()
        self._timers: set[IDelayedCall] = set()
        self._stopped = False

    async def stop(self) -> None:
        """Wait until all changes are saved, or saving them has failed once more."""
        self._stopped = True
        for timer in self._timers:
            timer.reset(0)
        await DeferredList(list(self._saving))

    def when_saved(self, active: ActiveMessage, step: Callable[[], None]) -> None:
        """Call ``step`` when all changes of a message are saved."""
        if active.saving:
            active.steps.append(step)
        else:
            step()

    def add(self, active: ActiveMessage, change: QueueChange) -> None:
        """Save a change of a message, after the earlier ones."""
        active.changes.append(change)
        if not active.saving:
            active.saving = True
            work = start_work(self._save(active))
            self._saving.add(work)
            work.addErrback(self._bug).addBoth(lambda _: self._saving.discard(work))

    async def _save(self, active: ActiveMessage) -> None:
        try:
            while active.changes:
                changes = list(active.changes)
                whole = not active.message.left
                if await self._save_all(active, changes, whole=whole):
                    del active.changes[: len(changes)]
                    if whole:
                        self.left(active.name, active.message)
                        tell(log, log_events.MESSAGE_LEFT_QUEUE, id=active.message.id,
                             size=active.message.octets,
                             age=round(self._now() - active.message.came, 1))  # fmt: skip
                elif self._stopped:
                    return
                else:
                    await self._pause()
        finally:
            active.saving = False
            steps, active.steps = active.steps, []
            for step in steps if not active.changes else ():
                step()
            self._in_memory.unload_unused(active)

    async def _save_all(
        self, active: ActiveMessage, changes: Sequence[QueueChange], *, whole: bool
    ) -> bool:
        """Save changes together; False if the store cannot take them now."""
        done = frozenset[int]().union(*(one.done for one in changes))
        told = frozenset[int]().union(*(one.told for one in changes))
        deliveries: list[IDelivery] = []
        try:
            for write, before in (letter for change in changes for letter in change.letters):
                delivery = await write(before)
                if delivery is not None:
                    deliveries.append(delivery)
            await self._queue.finish(active.name, done, told, deliveries, whole=whole)
        except PostOfficeError as error:
            tell(log, log_events.QUEUE_NOT_KEPT, id=active.message.id, why=error)
            _abort(deliveries)
            return False
        except Exception:
            log.failure("finishing {id} in the queue failed", id=active.message.id)
            _abort(deliveries)
            return await self._set_aside(active)
        return True

    async def _set_aside(self, active: ActiveMessage) -> bool:
        """Set a message aside; False if the store cannot do so now."""
        try:
            await self._queue.set_aside(active.name, "a fault in the program; see the log")
        except PostOfficeError as error:
            tell(log, log_events.QUEUE_NOT_KEPT, id=active.message.id, why=error)
            return False
        return True

    async def _pause(self) -> None:
        pause: Deferred[None] = Deferred()
        timer = self._clock.callLater(AGAIN, pause.callback, None)
        self._timers.add(timer)
        try:
            await pause
        finally:
            self._timers.discard(timer)

    def _bug(self, why: Failure) -> None:
        log.failure("finishing a message in the queue failed", failure=why)


def _abort(deliveries: Iterable[IDelivery]) -> None:
    for delivery in deliveries:
        delivery.abort()
