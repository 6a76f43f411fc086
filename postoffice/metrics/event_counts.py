"""
Counts the events of the log as they pass: an observer of Twisted's logger.

Sessions, messages and logins are events already, so that counting them costs one call
for each, and nothing where metrics are off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.logger import ILogObserver
from zope.interface import implementer

from postoffice.metrics import table
from postoffice.util.histogram import Histogram

#: Sets of labels of one metric at most: values beyond them are counted as ``other``.
MOST = 200
#: Octets of a message, and seconds in the queue.
SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
WAITS = (1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, 86400.0, 345600.0)

Event = Mapping[str, object]
_Labels = tuple[str, ...]


@implementer(ILogObserver)
class EventCounts:
    """Numbers and histograms by metric and labels."""

    def __init__(self) -> None:
        self.numbers: dict[str, dict[_Labels, float]] = {}
        self.histograms: dict[str, dict[_Labels, Histogram]] = {}
        self._count: dict[object, Callable[[Event], None]] = {
            "session-ended": self._session,
            "login": self._login("accepted"),
            "login-refused": self._login("refused"),
            "login-disabled": self._login("disabled"),
            "login-slowed": lambda _: self.add(table.SLOWED),
            "policy-refused": lambda event: self.add(table.POLICY_REFUSED, _text(event, "policy")),
            "policy-failed": lambda event: self.add(table.POLICY_FAILED, _text(event, "policy")),
            "tls-failed": lambda event: self.add(table.TLS_FAILED, _text(event, "service")),
            "message-taken": self._taken,
            "failed": lambda event: self.add(table.FAILURES, _text(event, "service")),
            "fault": lambda _: self.add(table.FAULTS),
            "configuration-reloaded": lambda _: self.add(table.RELOADS, "reloaded"),
            "reload-failed": lambda _: self.add(table.RELOADS, "failed"),
            **{name: self._attempt(name) for name in ("sent", "deferred", "bounced", "expired")},
            "left-queue": self._left_queue,
            "letter-written": self._letter("written"),
            "letter-lost": self._letter("lost"),
            "mail-expired": self._expired,
        }

    def __call__(self, event: Event) -> None:
        """Count an event, if it is one that is counted."""
        count = self._count.get(event.get("event"))
        if count is not None:
            count(event)

    def add(self, metric: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        counts = self.numbers.setdefault(metric, {})
        if labels not in counts and len(counts) >= MOST:
            labels = ("other",) * len(labels)
        counts[labels] = counts.get(labels, 0) + by

    def observe(self, metric: str, value: float, bounds: tuple[float, ...], *labels: str) -> None:
        """Count a value in a histogram."""
        histograms = self.histograms.setdefault(metric, {})
        histogram = histograms.get(labels)
        if histogram is None:
            if len(histograms) >= MOST:
                labels = ("other",) * len(labels)
            histogram = histograms.setdefault(labels, Histogram(bounds))
        histogram.observe(value)

    # -- events --------------------------------------------------------------------

    def _session(self, event: Event) -> None:
        service = _text(event, "service")
        self.add(table.SESSIONS, service, "yes" if event.get("tls") else "no")
        if retrieved := _number(event, "retrieved"):
            self.add(table.RETRIEVED, service, by=retrieved)
        if deleted := _number(event, "deleted"):
            self.add(table.DELETED, service, by=deleted)

    def _login(self, result: str) -> Callable[[Event], None]:
        def count(event: Event) -> None:
            self.add(table.LOGINS, _text(event, "service"), _text(event, "mechanism"), result)

        return count

    def _taken(self, event: Event) -> None:
        service = _text(event, "service")
        self.add(table.ACCEPTED, service)
        self.add(table.RECIPIENTS, service, by=_number(event, "recipients"))
        self.observe(table.SIZES, _number(event, "size"), SIZES, service)

    def _attempt(self, result: str) -> Callable[[Event], None]:
        def count(event: Event) -> None:
            self.add(table.ATTEMPTS, result, by=_text(event, "to").count(",") + 1)

        return count

    def _left_queue(self, event: Event) -> None:
        self.observe(table.QUEUE_SECONDS, _number(event, "age"), WAITS)

    def _letter(self, result: str) -> Callable[[Event], None]:
        return lambda event: self.add(table.LETTERS, _text(event, "outcome"), result)

    def _expired(self, event: Event) -> None:
        if event.get("account"):  # the line without one has the sum
            self.add(table.EXPIRED, by=_number(event, "messages"))


def _text(event: Event, field: str) -> str:
    value = event.get(field)
    return value if isinstance(value, str) else ""


def _number(event: Event, field: str) -> float:
    value = event.get(field)
    return value if isinstance(value, int | float) else 0
