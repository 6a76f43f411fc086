"""Rows of ``queue.db`` that wait to be written, together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, TypeVarTuple

from postoffice.interfaces import Executor
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedMessage
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.destinations import ActiveMessage, Part, lanes_of
from postoffice.queue.queue_db import QueueDB, Row, word
from postoffice.util.serial_executor import SerialExecutor

#: The way of recipients whose route is not known yet.
UNKNOWN = "unknown"

T = TypeVar("T")
Args = TypeVarTuple("Args")


class PendingRows:
    """
    Rows to put into ``db``, and those to remove from it.

    ``run`` writes them, and then calls a function, on the database's thread.  What cannot be
    written (a full disk) waits for the next call.  A crash before only makes attempts come earlier.
    """

    def __init__(self, db: QueueDB, executor: Executor) -> None:
        self._db = db
        self._executor = SerialExecutor(executor)
        self.lifetimes = Lifetimes()
        self._put: dict[tuple[str, str], Row] = {}
        self._gone: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows with the next call of ``run``."""
        new = {(row.name, row.lane): row for row in rows}
        with self._lock:
            self._put |= new

    def forget(self, keys: Iterable[tuple[str, str]]) -> None:
        """Remove rows by (name, lane) with the next call of ``run``."""
        with self._lock:
            for key in keys:
                self._put.pop(key, None)
                self._gone.add(key)

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Write what waits, then call a function, with the database to itself."""
        return await self._executor.run(self._write_then, function, *args)

    def _write_then(self, function: Callable[[*Args], T], *args: *Args) -> T:
        with self._lock:
            put, self._put = self._put, {}
            gone, self._gone = self._gone, set()
        try:
            if put or gone:
                self._db.write(put.values(), gone)
        except BaseException:
            with self._lock:
                older = {key: row for key, row in put.items() if key not in self._gone}
                self._put = older | self._put
                self._gone |= gone
            raise
        return function(*args)

    def unsent(self, name: str, message: QueuedMessage) -> list[Row]:
        """Rows of a message that no daemon has seen yet: by domain, as no route is known."""
        active = ActiveMessage(name, message)
        return self.new(active, lanes_of(message, message.left, lambda _: UNKNOWN))

    def new(self, active: ActiveMessage, lanes: Mapping[str, Part]) -> list[Row]:
        """Rows of a message that does not stay in memory."""
        message = active.message
        return [
            self.row(active, key, part.indexes, message.came, why=message.held)
            for key, part in lanes.items()
        ]

    def row(
        self,
        active: ActiveMessage,
        lane: str,
        indexes: Sequence[int],
        next_at: float,
        *,
        attempts: int = 0,
        reply: PeerReply | None = None,
        via: str = "",
        last: float = 0.0,
        why: str = "",
    ) -> Row:
        """The row of some recipients of a message; ``why`` it is held, or ""."""
        message = active.message
        warned = message.told.issuperset(indexes)
        return Row(
            active.name,
            lane,
            message.id,
            message.sender,
            message.login,
            " ".join(word(message.recipients[index].address) for index in indexes),
            message.octets,
            message.came,
            next_at,
            self.lifetimes.expires(message),
            None if warned else self.lifetimes.warns(message),
            attempts,
            *((reply.code, reply.status, reply.text, reply.phase) if reply else (0, "", "", "")),
            via,
            last,
            why,
        )
