"""Lanes: threads that work on messages side by side, each in the order of its maildrops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVarTuple

Message = TypeVarTuple("Message")
#: How many messages a thread takes at once, and how many batches may wait for it.
BATCH = 32
AHEAD = 4


class Lane(Generic[*Message]):
    """A thread that puts messages into some of the maildrops, in order."""

    def __init__(self, put: Callable[[*Message], None]) -> None:
        self._put = put
        self._thread = ThreadPoolExecutor(1, "redo")
        self._batch: list[tuple[*Message]] = []
        self._running: deque[Future[None]] = deque()

    def add(self, *message: *Message) -> None:
        """Queue a message; blocks while too many wait.  Raises what failed with an earlier one."""
        self._batch.append(message)
        if len(self._batch) >= BATCH:
            self._begin()
            while len(self._running) > AHEAD:
                self._running.popleft().result()

    def settle(self) -> None:
        """Wait until the queue is empty.  Raises what failed."""
        self._begin()
        while self._running:
            self._running.popleft().result()

    def end(self) -> None:
        """Drop what is queued, and stop the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._running.append(self._thread.submit(self._put_each, batch))

    def _put_each(self, batch: Sequence[tuple[*Message]]) -> None:
        for message in batch:
            self._put(*message)
