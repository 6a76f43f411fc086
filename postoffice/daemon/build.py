"""Builds the whole post office from its settings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from postoffice.accounts.password_verifier import AT_ONCE
from postoffice.config import loader
from postoffice.config.listeners import SERVICES
from postoffice.config.settings import Settings
from postoffice.daemon import process_executor
from postoffice.daemon.build_parts import try_endpoint as try_endpoint
from postoffice.daemon.build_plugins import build_logins, make_plugins, plugin_context
from postoffice.daemon.first_imports import FirstImports
from postoffice.daemon.generation import Core, first_generation
from postoffice.daemon.lifecycle import PostOffice
from postoffice.daemon.plugin_makers import find_maker as find_maker
from postoffice.daemon.plugin_makers import makers as makers
from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.daemon.web_page import WebPage
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.fair_share import ReactorShares
from postoffice.server.leases import Leases
from postoffice.server.neighbour_processes import Neighbours
from postoffice.util.reactor import IReactor

#: Threads for disk access: how many always exist, and the most.
USUALLY, THREADS = 2, 8
#: The same for calls that wait for other servers.
NETWORK_USUALLY, NETWORK_THREADS = 1, 8
#: The folder, in the state folder, for the sockets of the processes of one post office.
NEIGHBOURS = "neighbours"


def build(
    settings: Settings,
    reactor: IReactor,
    *,
    clock: IReactorTime | None = None,
    now: Callable[[], datetime] | None = None,
) -> PostOffice:
    """
    Build the whole post office, not yet open: a service for twistd, a .tac or a test.

    ``clock`` (IReactorTime) provides seconds and timers, default: the reactor.  ``now``
    returns the time of day with its time zone, default: the system's.  No file is touched
    before the service starts.  Raises ConfigurationError.
    """
    clock = clock or reactor
    threads = ThreadExecutor(reactor, THREADS, "disk", usually=USUALLY)
    network = ThreadExecutor(reactor, NETWORK_THREADS, "network", usually=NETWORK_USUALLY)
    context = plugin_context(settings, reactor, threads, process_executor.maker(reactor), network)
    limits = settings.limits
    plugins = make_plugins(settings, context)
    logins = build_logins(settings, threads, clock)
    file = os.path.abspath(settings.source.file)  # the daemon may change its folder
    core = Core(
        reactor,
        clock,
        now or _now,
        threads,
        ThreadExecutor(reactor, AT_ONCE, "hashing"),
        network,
        context,
        plugins,
        logins,
        Leases(clock, Neighbours(os.path.join(settings.state, NEIGHBOURS), reactor)),
        SendingLimits(settings.state, threads, clock),
        ConnectionLimits(limits.connections, limits.connections_per_client, SERVICES),
        ReactorShares(clock),
        WebPage(settings.state, threads, reactor, plugins, logins),
        FirstImports(file, network, reactor),
    )

    def read_again() -> Settings:
        return loader.load(file, find_maker, try_endpoint(reactor))

    return PostOffice(core, first_generation(core, settings), read_again)


def _now() -> datetime:
    """Return the time of day, to the second, as date header fields need it."""
    return _local(int(time.time()))


@lru_cache(maxsize=2)
def _local(second: int) -> datetime:
    return datetime.fromtimestamp(second).astimezone()
