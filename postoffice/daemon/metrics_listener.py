"""Metrics and health pages: their listener, and a look at what is not counted as it happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from postoffice.config.endpoints import clash
from postoffice.config.settings import Settings
from postoffice.daemon.generation import Core, Generation
from postoffice.daemon.listeners import Listener
from postoffice.interfaces import IQueueStore
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.store.figures import StoreFigures
from postoffice.util.periodic import Periodic

if TYPE_CHECKING:  # its packages are loaded only where there are metrics
    from postoffice.metrics.site import MonitoringFactory
    from postoffice.metrics.sources import Sources
    from postoffice.queue.manager import QueueManager

log = Logger("postoffice")

#: Seconds between two looks at the queue and the disk, and between two measures of the lag.
LOOK, LAG = 15.0, 1.0


class MetricsListener:
    """
    The listener for metrics, if the configuration has one; ``ready`` is what /ready says.

    ``generation`` returns the one that serves new clients, ``servers`` the factories of all
    sessions, and ``manager`` what sends.
    """

    def __init__(
        self,
        core: Core,
        generation: Callable[[], Generation],
        servers: Callable[[], Iterable[object]],
        manager: Callable[[], QueueManager | None],
    ) -> None:
        self.ready = False
        self._core = core
        self._servers = servers
        self._generation = generation
        self._manager = manager
        self._sources: Sources | None = None
        self._listener: Listener | None = None
        self._factory: MonitoringFactory | None = None
        self._path = ""
        self._looking = Periodic(core.clock, LOOK, self._look, self._look_failed)
        self._due = 0.0
        self._ticking: IDelayedCall | None = None

    @property
    def address(self) -> str:
        """Where the listener is, or ""."""
        return "" if self._listener is None else self._listener.address

    async def use(self, settings: Settings) -> None:
        """
        Be what the configuration says.

        Raises StartupError if the port cannot be opened; then all is as it was before.
        """
        wanted = settings.metrics.listen if settings.metrics else ""
        self._path = str(settings.store.options.get("path") or settings.state)
        if wanted == (self._listener.text if self._listener else ""):
            return
        if not wanted:
            await self._close()
            return
        if self._sources is None:
            self._start()
        await self._replace(wanted, settings)

    async def stop(self) -> None:
        """Close the listener; the office has stopped."""
        self.ready = False
        await self._close()

    # -- the listener --------------------------------------------------------------

    async def _replace(self, wanted: str, settings: Settings) -> None:
        old, listener = self._listener, self._listen_on(wanted)
        in_the_way = old is not None and clash(old.text, wanted)
        if old is not None and in_the_way:
            await old.stop()
        try:
            await listener.listen(settings.source)
        except StartupError:
            if old is None:
                await self._close()
            elif in_the_way:
                await old.reopen(settings.source)
            raise
        if old is not None and not in_the_way:
            await old.stop()
        self._listener = listener
        log.info("metrics are at http://{where}/metrics", where=listener.address)

    def _listen_on(self, text: str) -> Listener:
        endpoint = serverFromString(self._core.reactor, text)  # type: ignore[no-untyped-call]
        factory = cast(Any, self._factory)
        return Listener("metrics", text, endpoint, factory, "metrics.listen")

    def _start(self) -> None:
        """Begin to count.  Raises StartupError if a package is missing."""
        try:
            from postoffice.metrics.exposition import CONTENT_TYPE, Exposition
            from postoffice.metrics.site import MonitoringFactory
            from postoffice.metrics.sources import Sources
        except ImportError as error:
            why = f"metrics need a package: {error}; pip install 'postoffice[metrics]'"
            raise StartupError(why) from error
        figures = getattr(self._core.plugins.store, "figures", None)
        sources = self._sources = Sources(
            self._servers,
            self._core.connection_limits,
            lambda: self._generation().certificates,
            time.time,
            figures if isinstance(figures, StoreFigures) else None,
            lambda: self.ready,
            services=self._core.service_figures,
        )
        text = Exposition(sources.read).text
        clock = self._core.clock
        self._factory = MonitoringFactory(text, CONTENT_TYPE, lambda: self.ready, clock)
        globalLogPublisher.addObserver(sources.events)
        self._looking.start(now=True)
        self._due = clock.seconds() + LAG
        self._ticking = clock.callLater(LAG, self._tick)

    async def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.close()
        if self._ticking is not None and self._ticking.active():
            self._ticking.cancel()
        if self._looking.running:
            await self._looking.stop(cancel=True)
        sources, self._sources = self._sources, None
        if sources is not None:
            globalLogPublisher.removeObserver(sources.events)

    # -- what is looked at now and then ----------------------------------------------

    def _tick(self) -> None:
        assert self._sources is not None
        now = self._core.clock.seconds()
        self._sources.lag.observe(max(now - self._due, 0.0))
        self._due = now + LAG
        self._ticking = self._core.clock.callLater(LAG, self._tick)

    async def _look(self) -> bool:
        sources = self._sources
        if sources is None or not self.ready:
            return False
        watched, store = sources.watched, self._core.plugins.destination
        watched.disk = await self._core.threads.run(_disk_of, self._path)
        if IQueueStore.providedBy(store):
            watched.queue = await store.queue.usage()
        manager = self._manager()
        if manager is not None and manager.running:
            watched.down = sum(site.failures > 0 for site in manager.sites.values())
            watched.oldest, watched.held = await manager.admin.totals()
        return False

    def _look_failed(self, why: Failure) -> None:
        if isinstance(why.value, (OSError, PostOfficeError)):
            log.warn("measuring for metrics failed, retrying: {why}", why=str(why.value))
        else:
            log.failure("measuring for metrics failed", failure=why)


def _disk_of(path: str) -> tuple[int, int, int]:
    """Octets of the disk where a path lies, and octets and files that are free.  It blocks."""
    status = os.statvfs(path)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    return size, free, status.f_favail
