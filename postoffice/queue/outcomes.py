"""
What follows from an attempt: recipients are finished, wait again, or are given up with a letter.

All changes of one message go to the store one after the other.  What the store cannot keep now
(a full disk) is tried again, and meanwhile nothing of it is sent twice.

A start looks into those messages only of which ``queue.db`` has no row.  So a message has rows for
all that is left of it, or none; a row goes when the store knows that its recipients are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from postoffice.interfaces import IDelivery, IMailQueue
from postoffice.interfaces.relay import Letters, Undeliverable
from postoffice.model import log_events
from postoffice.model.errors import PostOfficeError
from postoffice.model.hop import PeerReply, Result
from postoffice.model.log_event import tell
from postoffice.model.queued_message import QueuedMessage
from postoffice.outbound import schedule
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.destinations import Change, Held, Item, WriteLetter
from postoffice.queue.outcome_log import log_replies
from postoffice.queue.queue_db import ACTIVE, PARKED, PAUSED, Row
from postoffice.queue.rows import Rows
from postoffice.util.event_log import EventLogger
from postoffice.util.shield import start_work

#: Seconds until a change that the store could not keep is tried again.
AGAIN = 5.0
#: The reply where an administrator returns a message.
RETURNED = PeerReply(
    550, "5.7.1", "an administrator of the sending mail server returns it", "route"
)
#: The reply where a message expired before there was any attempt.
NO_ATTEMPT = PeerReply(0, "4.4.7", "the message expired before it could be sent", "connect")
#: The same, in a letter that it is late: mail to its domain is paused, or limited by a rate.
NOT_TRIED = PeerReply(
    0, "4.4.5", "it waits for its turn, and was not tried yet: this server sends less", "connect"
)

log = EventLogger("postoffice")

Replies = Mapping[int, PeerReply]


class Outcomes:
    """
    Carries out what an attempt has given.

    ``done`` is called with an item that is finished or waits in ``queue.db``, ``saved`` with a
    message of which the store has all changes.
    """

    def __init__(
        self,
        queue: IMailQueue,
        rows: Rows,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        chance: Callable[[], float],
        done: Callable[[Item], None],
        saved: Callable[[Held], None],
    ) -> None:
        self._queue = queue
        self._rows = rows
        self._clock = clock
        self._now = now
        self._chance = chance
        self._done = done
        self._saved = saved
        self._saving: set[Deferred[None]] = set()
        self._timers: set[IDelayedCall] = set()
        self._stopped = False

    def use(
        self,
        letters: Letters,
        lifetimes: Lifetimes,
        refused: Callable[[str, int, int], None],
        left: Callable[[str, QueuedMessage], None],
    ) -> None:
        """
        From now on write these letters.

        ``refused`` is told who sends to whom in vain, ``left`` what has left the queue.
        """
        self._left = left
        self._letters = letters
        self._lifetimes = lifetimes
        self._refused = refused

    async def stop(self) -> None:
        """Wait until the store has all changes, or has refused them once more."""
        self._stopped = True
        for timer in self._timers:
            timer.reset(0)
        await DeferredList(list(self._saving))

    # -- what an attempt gave ---------------------------------------------------------------

    def attempted(self, item: Item, replies: Replies, via: str, result: Result) -> None:
        """Recipients of an item were tried: the sent and the refused are finished."""
        log_replies(item.held.message, replies, via, result)
        sent = {index: reply for index, reply in replies.items() if reply.sent}
        refused = {index: reply for index, reply in replies.items() if reply.permanent}
        later = {i: reply for i, reply in replies.items() if i not in sent and i not in refused}
        item.indexes = tuple(index for index in item.indexes if index not in replies)
        held = item.held
        if held.message.login and not held.message.recipients[next(iter(replies))].forwarder:
            self._refused(held.message.login, len(sent), len(refused))
        letters: list[WriteLetter] = []
        if sent and not result.dsn:
            letters.append(lambda message: self._letters.relayed(held.name, message, sent, via))
        if refused:
            letters += self._failure_letters(held, refused, via)
        if sent or refused:
            self.finish(held, [*sent, *refused], letters=letters)
        if later:
            self._later(item, later, via)

    def undeliverable(self, items: Iterable[Item], failure: Undeliverable) -> None:
        """There is no way for these items, for now or for good."""
        reply = failure.reply
        for item in items:
            indexes = item.indexes
            item.indexes = ()
            replies = dict.fromkeys(indexes, reply)
            age = self._now() - item.held.message.came
            over = failure.after is not None and age >= failure.after
            final = reply.permanent or over
            event = log_events.RECIPIENT_BOUNCED if final else log_events.RECIPIENT_DEFERRED
            log_replies(item.held.message, replies, "", event=event)
            if final:
                self._give_up(item.held, replies, "")
                self._end(item)
            else:
                self._later(item, replies, "")
                self.over(item)

    def over(self, item: Item) -> None:
        """All recipients of an item were tried: it waits again, or is finished."""
        if item.later:
            self._let_wait(item, self._row_of(item))
        else:
            self._end(item)

    def _end(self, item: Item) -> None:
        self._when_saved(item.held, lambda: self._forget_item(item))

    def _forget_item(self, item: Item) -> None:
        if item.saved:
            self._rows.forget([item.key])
        self._done(item)

    def _let_wait(self, item: Item, row: Row) -> None:
        """Let an item wait in ``queue.db``."""
        self._when_saved(item.held, lambda: self._put(item, row))

    def _put(self, item: Item, row: Row) -> None:
        item.saved = True
        self._rows.put([row])
        for other in item.held.items if not item.held.noted else ():
            self.note(other)
        item.held.noted = True
        self._done(item)

    def _later(self, item: Item, replies: Replies, via: str) -> None:
        """Let recipients wait, or give them up where the message is too old."""
        message, now = item.held.message, self._now()
        if now >= self._lifetimes.expires(message):
            log_replies(message, replies, via, event=log_events.RECIPIENT_EXPIRED)
            self._give_up(item.held, replies, via)
            return
        item.later.update(replies)
        item.via = via
        warns = self._lifetimes.warns(message)
        if warns is not None and now >= warns:
            self._tell_delay(item.held, replies, via)

    def _row_of(self, item: Item) -> Row:
        now = self._now()
        wait = schedule.gap(now - item.held.message.came, self._chance())
        indexes, reply = list(item.later), next(iter(item.later.values()))
        return self._rows.row(
            item.held,
            item.lane.key,
            indexes,
            now + wait,
            attempts=item.attempts,
            reply=reply,
            via=item.via,
            last=now,
        )

    def _give_up(self, held: Held, replies: Replies, via: str) -> None:
        self.finish(held, list(replies), letters=self._failure_letters(held, replies, via))

    def _failure_letters(self, held: Held, replies: Replies, via: str) -> list[WriteLetter]:
        def about(these: Replies) -> WriteLetter:
            return lambda message: self._letters.failed(held.name, message, these, via)

        return [about(these) for these in self._letters.groups(held.message, replies)]

    def _tell_delay(self, held: Held, replies: Replies, via: str) -> None:
        new = {index: reply for index, reply in replies.items() if index not in held.message.told}
        if new:
            self.finish(
                held, (), new, [lambda message: self._letters.delayed(held.name, message, new, via)]
            )

    # -- without an attempt ---------------------------------------------------------------

    def note(self, item: Item) -> None:
        """Let ``queue.db`` know of an item that is in memory, unless its message is changing."""
        if not (item.saved or item.held.saving):
            item.saved = True
            indexes = [*item.later, *item.indexes]
            row = self._rows.row(item.held, item.lane.key, indexes, ACTIVE, attempts=item.attempts)
            self._rows.put([row])

    def note_late(self, items: Iterable[Item]) -> None:
        """Let ``queue.db`` know of items whose senders are to be told that they are late."""
        now = self._now()
        for item in items:
            warns = None if item.saved else self._lifetimes.warns(item.held.message)
            if warns is not None and now >= warns:
                self.note(item)

    def put_back(self, item: Item) -> None:
        """Let an item wait in ``queue.db``; it is due."""
        indexes = [*item.later, *item.indexes]
        row = self._rows.row(item.held, item.lane.key, indexes, 0.0, attempts=item.attempts)
        self._let_wait(item, row)

    def bounce(self, held: Held, rows: Iterable[Row]) -> None:
        """Give up what an administrator does not want to send."""
        for row in rows:
            replies = dict.fromkeys(row.indexes(held.message), RETURNED)
            if replies:
                self._give_up(held, replies, "")
            self.forget(held, [(row.name, row.lane)])

    def park(self, item: Item, reply: PeerReply | None) -> None:
        """Let an item wait in ``queue.db`` until its destination answers, or is not paused."""
        if reply is not None:
            replies = dict.fromkeys(item.indexes, reply)
            log_replies(item.held.message, replies, "", event=log_events.RECIPIENT_DEFERRED)
        row = self._rows.row(
            item.held,
            item.lane.key,
            [*item.later, *item.indexes],
            PAUSED if reply is None else PARKED,
            attempts=item.attempts + (reply is not None),
            reply=reply,
            last=self._now(),
        )
        self._let_wait(item, row)

    def expired(self, held: Held, rows: Iterable[Row]) -> None:
        """Give up what is too old."""
        for row in rows:
            replies = self._replies(held, row, NO_ATTEMPT)
            log_replies(held.message, replies, row.via, event=log_events.RECIPIENT_EXPIRED)
            if replies:
                self._give_up(held, replies, row.via)
            self.forget(held, [(row.name, row.lane)])

    def delayed(self, held: Held, rows: Iterable[Row]) -> None:
        """Tell the sender of what is late."""
        for row in rows:
            self._tell_delay(held, self._replies(held, row, NOT_TRIED), row.via)

    def _replies(self, held: Held, row: Row, otherwise: PeerReply) -> dict[int, PeerReply]:
        """The last reply for each recipient of a row that is left."""
        last = PeerReply(row.code, row.status, row.reply, row.phase) if row.reply else otherwise
        return dict.fromkeys(row.indexes(held.message), last)

    # -- the store ---------------------------------------------------------------

    def finish(
        self,
        held: Held,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[WriteLetter] = (),
    ) -> None:
        """Let the store mark recipients of a message, and commit letters about them."""
        before = held.message
        if before.left or not before.done:
            held.message = before.with_marks(done, told)
            noted = [(one, before) for one in letters]
            self._save_later(held, Change(frozenset(done), frozenset(told), noted))

    def forget(self, held: Held, keys: Sequence[tuple[str, str]]) -> None:
        """Remove rows of a message by (name, lane)."""
        if keys:
            self._when_saved(held, lambda: self._rows.forget(keys))

    def _when_saved(self, held: Held, step: Callable[[], None]) -> None:
        """Take a step as soon as the store has all changes of a message."""
        if held.saving:
            held.steps.append(step)
        else:
            step()

    def remove(self, held: Held) -> None:
        """Remove a message of which no recipient is left, as a crash has cut off its end."""
        self._save_later(held, Change(frozenset(), frozenset(), ()))

    def _save_later(self, held: Held, change: Change) -> None:
        held.changes.append(change)
        if not held.saving:
            held.saving = True
            work = start_work(self._save(held))
            self._saving.add(work)
            work.addErrback(self._bug).addBoth(lambda _: self._saving.discard(work))

    async def _save(self, held: Held) -> None:
        try:
            while held.changes:
                changes = list(held.changes)
                whole = not held.message.left
                if await self._save_all(held, changes, whole=whole):
                    del held.changes[: len(changes)]
                    if whole:
                        self._left(held.name, held.message)
                        tell(log, log_events.MESSAGE_LEFT_QUEUE, id=held.message.id,
                             size=held.message.octets,
                             age=round(self._now() - held.message.came, 1))  # fmt: skip
                elif self._stopped:
                    return
                else:
                    await self._pause()
        finally:
            held.saving = False
            steps, held.steps = held.steps, []
            for step in steps if not held.changes else ():
                step()
            self._saved(held)

    async def _save_all(self, held: Held, changes: Sequence[Change], *, whole: bool) -> bool:
        """Save changes together; False if the store cannot take them now."""
        done = frozenset[int]().union(*(one.done for one in changes))
        told = frozenset[int]().union(*(one.told for one in changes))
        deliveries: list[IDelivery] = []
        try:
            for write, before in (letter for change in changes for letter in change.letters):
                delivery = await write(before)
                if delivery is not None:
                    deliveries.append(delivery)
            await self._queue.finish(held.name, done, told, deliveries, whole=whole)
        except PostOfficeError as error:
            tell(log, log_events.QUEUE_NOT_KEPT, id=held.message.id, why=error)
            for delivery in deliveries:
                delivery.abort()
            return False
        except Exception:
            log.failure("finishing {id} in the queue failed", id=held.message.id)
            await self._queue.set_aside(held.name, "a fault in the program; see the log")
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
