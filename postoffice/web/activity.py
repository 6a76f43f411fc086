"""What the daemon did in the last day, counted from its log events: for the small charts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.logger import ILogObserver
from zope.interface import implementer

#: Seconds of one column of a chart, and columns.
STEP, COLUMNS = 1800, 48
#: What is counted: the series of each event.
SERIES = {
    "message-taken": "taken",
    "sent": "sent",
    "login": "logins",
    "refused": "refused",
    "policy-refused": "refused",
    "login-refused": "wrong",
}
NAMES = tuple(dict.fromkeys(SERIES.values()))


@dataclass(frozen=True)
class Chart:
    """One series: the counts of its columns, the oldest first, and their sum."""

    name: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def most(self) -> int:
        return max(self.counts, default=0)

    def bars(self, height: int) -> list[tuple[int, int]]:
        """Return number and height of the columns that are not empty; ``height`` is the highest."""
        most = self.most
        return [
            (number, max(2, round(height * count / most)))
            for number, count in enumerate(self.counts)
            if count
        ]


@implementer(ILogObserver)
class Activity:
    """Counts events in columns of half an hour; an observer of the log."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.since = now()
        self._column = int(now() // STEP)
        self._counts = {name: deque([0] * COLUMNS, COLUMNS) for name in NAMES}

    def __call__(self, event: Mapping[str, object]) -> None:
        name = event.get("event")
        series = SERIES.get(name) if isinstance(name, str) else None
        if series is not None:
            self._move_on()
            self._counts[series][-1] += 1

    def chart(self, name: str) -> Chart:
        """Return the chart of one of NAMES."""
        self._move_on()
        return Chart(name, tuple(self._counts[name]))

    def _move_on(self) -> None:
        column = int(self._now() // STEP)
        for _ in range(min(max(column - self._column, 0), COLUMNS)):
            for counts in self._counts.values():
                counts.append(0)
        self._column = max(column, self._column)
