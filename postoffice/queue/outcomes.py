"""
What follows from an attempt: recipients are finished, wait again, or are given up with a letter.

A start reads only messages that have no row in ``queue.db``.  So a message has rows for all its
recipients that are left, or none at all; a row is removed after the store has saved that its
recipients are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime

from postoffice.interfaces import IMailQueue
from postoffice.interfaces.relay import Letters, Undeliverable
from postoffice.model import log_events
from postoffice.model.hop import PeerReply, Result
from postoffice.model.queued_message import QueuedMessage
from postoffice.outbound import schedule
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.active_messages import ActiveMessages
from postoffice.queue.destinations import ActiveMessage, Item, QueueChange, WriteLetter
from postoffice.queue.outcome_log import log_replies
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_changes import QueueChanges
from postoffice.queue.queue_db import ACTIVE, PARKED, PAUSED, Row

#: The reply where an administrator returns a message.
RETURNED = PeerReply(
    550, "5.7.1", "an administrator of the sending mail server returns it", "route"
)
#: The reply where a message expired before there was any attempt.
NO_ATTEMPT = PeerReply(0, "4.4.7", "the message expired before it could be sent", "connect")
#: The same in a letter about a delay: mail to the domain is paused, or limited by a rate.
NOT_TRIED = PeerReply(
    0, "4.4.5", "it waits for its turn, and was not tried yet: this server sends less", "connect"
)

Replies = Mapping[int, PeerReply]


class Outcomes:
    """
    Carries out what follows from attempts.

    An item that is finished or waits in ``queue.db`` leaves ``in_memory``.
    """

    def __init__(
        self,
        queue: IMailQueue,
        rows: PendingRows,
        in_memory: ActiveMessages,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._in_memory = in_memory
        self._changes = QueueChanges(queue, in_memory, clock=clock, now=now)
        self._now = now
        self._chance = chance

    def use(
        self,
        letters: Letters,
        lifetimes: Lifetimes,
        refused: Callable[[str, int, int], None],
        left: Callable[[str, QueuedMessage], None],
    ) -> None:
        """
        Use these from now on.

        ``refused`` is called as in ``QueueContext``, ``left`` with a message that leaves the queue.
        """
        self._changes.left = left
        self._letters = letters
        self._lifetimes = lifetimes
        self._refused = refused

    async def stop(self) -> None:
        """Wait until all changes are saved, or saving them has failed once more."""
        await self._changes.stop()

    # -- what an attempt gave ---------------------------------------------------------------

    def attempted(self, item: Item, replies: Replies, via: str, result: Result) -> None:
        """Take the replies to an item: recipients that got it or were refused are finished."""
        log_replies(item.active.message, replies, via, result)
        sent = {index: reply for index, reply in replies.items() if reply.sent}
        refused = {index: reply for index, reply in replies.items() if reply.permanent}
        later = {i: reply for i, reply in replies.items() if i not in sent and i not in refused}
        item.indexes = tuple(index for index in item.indexes if index not in replies)
        active = item.active
        if active.message.login and not active.message.recipients[next(iter(replies))].forwarder:
            self._refused(active.message.login, len(sent), len(refused))
        letters: list[WriteLetter] = []
        if sent and not result.dsn:
            letters.append(lambda message: self._letters.relayed(active.name, message, sent, via))
        if refused:
            letters += self._failure_letters(active, refused, via)
        if sent or refused:
            self.finish(active, [*sent, *refused], letters=letters)
        if later:
            self._later(item, later, via)

    def undeliverable(self, items: Iterable[Item], failure: Undeliverable) -> None:
        """These items cannot be sent, for now or for good."""
        reply = failure.reply
        for item in items:
            indexes = item.indexes
            item.indexes = ()
            replies = dict.fromkeys(indexes, reply)
            age = self._now() - item.active.message.came
            over = failure.after is not None and age >= failure.after
            final = reply.permanent or over
            event = log_events.RECIPIENT_BOUNCED if final else log_events.RECIPIENT_DEFERRED
            log_replies(item.active.message, replies, "", event=event)
            if final:
                self._give_up(item.active, replies, "")
                self._end(item)
            else:
                self._later(item, replies, "")
                self.over(item)

    def over(self, item: Item) -> None:
        """All recipients of an item were tried: let it wait again, or finish it."""
        if item.later:
            self._let_wait(item, self._row_of(item))
        else:
            self._end(item)

    def _end(self, item: Item) -> None:
        self._changes.when_saved(item.active, lambda: self._forget_item(item))

    def _forget_item(self, item: Item) -> None:
        if item.saved:
            self._rows.forget([item.key])
        self._in_memory.remove(item)

    def _let_wait(self, item: Item, row: Row) -> None:
        """Let an item wait in ``queue.db``."""
        self._changes.when_saved(item.active, lambda: self._put(item, row))

    def _put(self, item: Item, row: Row) -> None:
        item.saved = True
        self._rows.put([row])
        for other in item.active.items if not item.active.noted else ():
            self.note(other)
        item.active.noted = True
        self._in_memory.remove(item)

    def _later(self, item: Item, replies: Replies, via: str) -> None:
        """Let recipients wait, or give them up where the message is too old."""
        message, now = item.active.message, self._now()
        if now >= self._lifetimes.expires(message):
            log_replies(message, replies, via, event=log_events.RECIPIENT_EXPIRED)
            self._give_up(item.active, replies, via)
            return
        item.later.update(replies)
        item.via = via
        warns = self._lifetimes.warns(message)
        if warns is not None and now >= warns:
            self._tell_delay(item.active, replies, via)

    def _row_of(self, item: Item) -> Row:
        now = self._now()
        wait = schedule.gap(now - item.active.message.came, self._chance())
        indexes, reply = list(item.later), next(iter(item.later.values()))
        return self._rows.row(
            item.active,
            item.lane.key,
            indexes,
            now + wait,
            attempts=item.attempts,
            reply=reply,
            via=item.via,
            last=now,
        )

    def _give_up(self, active: ActiveMessage, replies: Replies, via: str) -> None:
        self.finish(active, list(replies), letters=self._failure_letters(active, replies, via))

    def _failure_letters(
        self, active: ActiveMessage, replies: Replies, via: str
    ) -> list[WriteLetter]:
        def about(these: Replies) -> WriteLetter:
            return lambda message: self._letters.failed(active.name, message, these, via)

        return [about(these) for these in self._letters.groups(active.message, replies)]

    def _tell_delay(self, active: ActiveMessage, replies: Replies, via: str) -> None:
        new = {index: reply for index, reply in replies.items() if index not in active.message.told}
        if new:
            self.finish(
                active,
                (),
                new,
                [lambda message: self._letters.delayed(active.name, message, new, via)],
            )

    # -- without an attempt ---------------------------------------------------------------

    def note(self, item: Item) -> None:
        """Write a row of an item in memory that has none, unless its message is being saved."""
        if not (item.saved or item.active.saving):
            item.saved = True
            indexes = [*item.later, *item.indexes]
            row = self._rows.row(
                item.active, item.lane.key, indexes, ACTIVE, attempts=item.attempts
            )
            self._rows.put([row])

    def note_late(self, items: Iterable[Item]) -> None:
        """Write rows of items whose senders have to be told of the delay."""
        now = self._now()
        for item in items:
            warns = None if item.saved else self._lifetimes.warns(item.active.message)
            if warns is not None and now >= warns:
                self.note(item)

    def put_back(self, item: Item) -> None:
        """Move an item to ``queue.db``, where it is due at once."""
        indexes = [*item.later, *item.indexes]
        row = self._rows.row(item.active, item.lane.key, indexes, 0.0, attempts=item.attempts)
        self._let_wait(item, row)

    def bounce(self, active: ActiveMessage, rows: Iterable[Row]) -> None:
        """Return rows of a message to its sender, as an administrator wants."""
        for row in rows:
            replies = dict.fromkeys(row.indexes(active.message), RETURNED)
            if replies:
                self._give_up(active, replies, "")
            self.forget(active, [(row.name, row.lane)])

    def park(self, item: Item, reply: PeerReply | None) -> None:
        """Let an item wait in ``queue.db`` until its destination answers, or is not paused."""
        if reply is not None:
            replies = dict.fromkeys(item.indexes, reply)
            log_replies(item.active.message, replies, "", event=log_events.RECIPIENT_DEFERRED)
        row = self._rows.row(
            item.active,
            item.lane.key,
            [*item.later, *item.indexes],
            PAUSED if reply is None else PARKED,
            attempts=item.attempts + (reply is not None),
            reply=reply,
            last=self._now(),
        )
        self._let_wait(item, row)

    def expired(self, active: ActiveMessage, rows: Iterable[Row]) -> None:
        """Give up rows of a message that have expired."""
        for row in rows:
            replies = self._replies(active, row, NO_ATTEMPT)
            log_replies(active.message, replies, row.via, event=log_events.RECIPIENT_EXPIRED)
            if replies:
                self._give_up(active, replies, row.via)
            self.forget(active, [(row.name, row.lane)])

    def delayed(self, active: ActiveMessage, rows: Iterable[Row]) -> None:
        """Tell the sender that rows of a message are delayed."""
        for row in rows:
            self._tell_delay(active, self._replies(active, row, NOT_TRIED), row.via)

    def _replies(
        self, active: ActiveMessage, row: Row, otherwise: PeerReply
    ) -> dict[int, PeerReply]:
        """The last reply for each recipient of a row that is left."""
        last = PeerReply(row.code, row.status, row.reply, row.phase) if row.reply else otherwise
        return dict.fromkeys(row.indexes(active.message), last)

    # -- the store ---------------------------------------------------------------

    def finish(
        self,
        active: ActiveMessage,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[WriteLetter] = (),
    ) -> None:
        """Mark recipients of a message as finished or told, with letters about them."""
        before = active.message
        if before.left or not before.done:
            active.message = before.with_marks(done, told)
            noted = [(one, before) for one in letters]
            self._changes.add(active, QueueChange(frozenset(done), frozenset(told), noted))

    def forget(self, active: ActiveMessage, keys: Sequence[tuple[str, str]]) -> None:
        """Remove rows of a message by (name, lane)."""
        if keys:
            self._changes.when_saved(active, lambda: self._rows.forget(keys))

    def remove(self, active: ActiveMessage) -> None:
        """Remove a message without recipients left, which a crash kept from being removed."""
        self._changes.add(active, QueueChange(frozenset(), frozenset(), ()))
