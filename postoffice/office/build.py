"""From settings to the whole post office; the only place that asks for plugins."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.endpoints import serverFromString
from twisted.plugin import getPlugins
from twisted.python.modules import getModule

from postoffice.accounts.checker import Checker
from postoffice.accounts.directories import Directories
from postoffice.accounts.realm import Realm
from postoffice.conversation import Counter
from postoffice.doors import Doorkeeper
from postoffice.interfaces import IDirectoryMaker, IMaker, IStoreMaker, Surroundings, Workers
from postoffice.office.config import Settings
from postoffice.office.opening import Listener, PostOffice
from postoffice.office.reading import TryEndpoint, reason
from postoffice.office.rooms import Rooms
from postoffice.office.source import ConfigurationError, Problem
from postoffice.office.workers import ThreadWorkers
from postoffice.pop3.protocol import POP3Factory
from postoffice.smtp.protocol import SMTPFactory
from postoffice.smtp.reception import Reception
from postoffice.smtp.session import SMTPLimits

#: Threads that wait for the disk.
THREADS = 8


def build(
    settings: Settings,
    reactor: Any,
    *,
    clock: Any = None,
    now: Callable[[], datetime] | None = None,
) -> PostOffice:
    """
    The whole post office, not yet open: a service for twistd, a .tac or a test.

    ``clock`` (IReactorTime) tells seconds and rings, ``now`` tells the time
    of day with its zone; they are the reactor's and the system's where they
    are not given.  Nothing is touched before the service starts.  Raises
    ConfigurationError.
    """
    clock = clock or reactor
    threads = ThreadWorkers(reactor, THREADS, "disk")
    hashing = ThreadWorkers(reactor, os.cpu_count() or 1, "hashing")
    rooms = build_rooms(settings, reactor, threads)
    reception = Reception(
        Directories(rooms.directories),
        rooms.store,
        hostname=settings.hostname,
        postmaster=settings.postmaster,
        now=now or _now,
    )
    checker = Checker(rooms.directories, hashing, clock=clock.seconds)
    portal = Portal(Realm(rooms.store, reception), [checker])
    doors = Doorkeeper(settings.limits.connections, settings.limits.connections_per_client)
    listeners = _listeners(settings, _counters(settings, portal, clock, doors), reactor)
    return PostOffice(settings, rooms, listeners, doors, (threads, hashing), reactor)


def build_rooms(settings: Settings, reactor: Any, workers: Workers) -> Rooms:
    """The directories and the store, made by their makers.  Raises ConfigurationError."""
    around = Surroundings(reactor, workers, settings.state, settings.hostname)
    chosen = (*settings.accounts, settings.store)
    made: list[Any] = []
    problems: list[Problem] = []
    for one in chosen:
        try:
            made.append(one.make(around))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    *directories, store = made
    return Rooms(settings.state, directories, store, chosen, workers)


def _counters(
    settings: Settings, portal: Portal, clock: Any, doors: Doorkeeper
) -> Mapping[str, Counter]:
    """The counter of each service."""
    limits = settings.limits
    smtp_limits = SMTPLimits(
        message_size=limits.message_size,
        recipients=limits.recipients,
        text_line=limits.text_line,
        errors=limits.errors,
    )
    return {
        "smtp": SMTPFactory(
            portal, hostname=settings.hostname, limits=smtp_limits, clock=clock, doors=doors
        ),
        "pop3": POP3Factory(
            portal, clock=clock, plaintext_login=settings.plaintext_login, doors=doors
        ),
    }


def _listeners(
    settings: Settings, counters: Mapping[str, Counter], reactor: Any
) -> Sequence[Listener]:
    listeners = []
    problems = []
    for service, texts in settings.listeners.items():
        for number, text in enumerate(texts):
            try:
                endpoint = serverFromString(reactor, text)  # type: ignore[no-untyped-call]
            except Exception as error:
                key = f"listeners.{service}[{number}]"
                problems.append(settings.source.problem(key, f"{text!r}: {reason(error)}"))
            else:
                listeners.append(Listener(service, text, endpoint, counters[service]))
    if problems:
        raise ConfigurationError(problems)
    return listeners


def try_endpoint(reactor: Any) -> TryEndpoint:
    """Says whether Twisted knows what to do with an endpoint; nothing is opened."""

    def try_it(text: str) -> None:
        if text.startswith("systemd:") and "LISTEN_FDS" not in os.environ:
            return  # only under systemd can it be told
        try:
            serverFromString(reactor, text)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise ValueError(reason(error)) from error

    return try_it


def _now() -> datetime:
    return datetime.now().astimezone()


# -- plugins ----------------------------------------------------------------------------


def makers(interface: Any) -> list[Any]:
    """All makers of an interface that can be imported."""
    found: list[Any] = []
    for maker in getPlugins(interface):
        if hasattr(maker, "kind") and all(maker is not other for other in found):
            found.append(maker)
    return found


def find_maker(interface: Any, kind: str) -> IMaker:
    """
    The maker of that kind.

    Raises LookupError, which says which kinds there are, and which plugins
    are broken: ``getPlugins`` only logs those.
    """
    known = makers(interface)
    fitting = [maker for maker in known if maker.kind == kind]
    if len(fitting) == 1:
        return fitting[0]  # type: ignore[no-any-return]
    if fitting:
        where = ", ".join(type(maker).__module__ for maker in fitting)
        raise LookupError(f"kind {kind!r} is claimed by several plugins: {where}")
    kinds = ", ".join(sorted(maker.kind for maker in known))
    what = {IStoreMaker: "store", IDirectoryMaker: "directory of accounts"}.get(interface, "room")
    broken = "".join(f"; the plugin {name} is broken: {why}" for name, why in _broken_plugins())
    raise LookupError(f"there is no {what} of kind {kind!r}, only: {kinds}{broken}")


def _broken_plugins() -> list[tuple[str, str]]:
    """The modules among the plugins that cannot be imported, and why."""
    broken = []
    package = getModule("twisted.plugins")  # type: ignore[no-untyped-call]
    for module in package.iterModules():
        try:
            importlib.import_module(module.name)
        except (Exception, SystemExit) as error:
            broken.append((module.name, reason(error)))
    return broken
