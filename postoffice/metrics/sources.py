"""Reads the values of all metrics from the parts of the running office; nothing here waits."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from postoffice import __version__
from postoffice.metrics import table
from postoffice.metrics.event_counts import EventCounts
from postoffice.server.certificates import Certificates
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ServerFactory, ServiceFigures
from postoffice.store.figures import StoreFigures
from postoffice.util.histogram import Histogram
from twisted import __version__ as twisted_version

_Labels = tuple[str, ...]
_Values = dict[str, dict[_Labels, "float | Histogram"]]


@dataclass
class Watched:
    """What is read now and then, not at each scrape: the queue, and the disk of the store."""

    queue: tuple[int, int] | None = None  # messages and octets
    oldest: float | None = None  # Unix time
    held: int = 0
    down: int = 0
    disk: tuple[int, int, int] | None = None  # its octets; octets and files that are free


@dataclass
class Sources:
    """
    Where values come from.

    ``servers`` are the factories of all sessions, ``certificates`` those in use.  ``services`` has
    the figures of each service, which its factories count.  ``store`` has the figures of the store,
    if it counts any.
    """

    servers: Callable[[], Iterable[object]]
    limits: ConnectionLimits
    certificates: Callable[[], Certificates | None]
    now: Callable[[], float]
    store: StoreFigures | None = None
    ready: Callable[[], bool] = lambda: False
    events: EventCounts = field(default_factory=EventCounts)
    services: dict[str, ServiceFigures] = field(default_factory=dict)
    lag: Histogram = field(default_factory=Histogram)
    watched: Watched = field(default_factory=Watched)

    def read(self) -> Mapping[str, Mapping[_Labels, float | Histogram]]:
        """The values of all metrics, by name and labels."""
        found: _Values = {name: dict(counts) for name, counts in self.events.numbers.items()}
        for name, histograms in self.events.histograms.items():
            found[name] = dict(histograms)
        versions = (__version__, twisted_version, platform.python_version())
        found[table.BUILD] = {versions: 1}
        found[table.READY] = {(): int(self.ready())}
        found[table.LAG] = {(): self.lag}
        self._add_clients(found)
        self._add_queue(found)
        if self.store is not None:
            _add_store(found, self.store)
        if self.watched.disk is not None:
            for name, value in zip(table.DISK, self.watched.disk, strict=True):
                found[name] = {(): value}
        return found

    def _add_clients(self, found: _Values) -> None:
        connected: Counter[str] = Counter()
        for server in self.servers():
            if isinstance(server, ServerFactory):  # not the web page
                connected[server.listener_options.service] += len(server.connections)
        found[table.OPEN] = {(service,): count for service, count in connected.items()}
        found[table.LIMIT] = {(): self.limits.total}
        services = self.services.items()
        found[table.ADMITTED] = {(service,): one.admitted for service, one in services}
        found[table.REJECTED] = {(service,): one.rejected for service, one in services}
        found[table.DELIVERY_SECONDS] = {
            (service,): one.delivery for service, one in services if not service.startswith("pop3")
        }
        found[table.LOGIN_SECONDS] = {
            (service,): one.login for service, one in services if service not in ("smtp", "lmtp")
        }
        found[table.REPLIES] = {
            (service, kind): one.replies[digit]
            for service, one in services
            for digit, kind in _classes(service).items()
        }
        certificates = self.certificates()
        if certificates is not None:
            found[table.CERTIFICATE] = {
                (file,): until.timestamp() for file, until in certificates.expiries()
            }

    def _add_queue(self, found: _Values) -> None:
        watched = self.watched
        if watched.queue is not None:
            messages, octets = watched.queue
            age = 0.0 if watched.oldest is None else max(self.now() - watched.oldest, 0.0)
            found[table.QUEUE_MESSAGES] = {(): messages}
            found[table.QUEUE_BYTES] = {(): octets}
            found[table.QUEUE_AGE] = {(): age}
            found[table.QUEUE_HELD] = {(): watched.held}
            found[table.DOWN] = {(): watched.down}


def _classes(service: str) -> dict[int, str]:
    """The classes of replies by their first digits."""
    if service.startswith("pop3"):
        return {2: "+OK", 5: "-ERR"}
    return {2: "2yz", 3: "3yz", 4: "4yz", 5: "5yz"}


def _add_store(found: _Values, store: StoreFigures) -> None:
    found[table.BATCHES] = {(): store.batches}
    found[table.BATCH_SECONDS] = {(): store.seconds}
    found[table.WRITTEN] = {(): store.octets}
    found[table.BATCHES_FAILED] = {(): store.failed}
    found[table.CHECKPOINTS] = {
        ("done",): store.checkpoints,
        ("failed",): store.checkpoints_failed,
    }
    if store.checkpointed:
        found[table.CHECKPOINTED] = {(): store.checkpointed}
    if store.sweep is not None and store.sweep.maildrops >= 0:
        found[table.MAILDROPS] = {(): store.sweep.maildrops}
    if store.process is not None:
        found[table.PROCESS_STARTS] = {(): store.process.starts}
