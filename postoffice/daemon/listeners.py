"""The listeners: where clients connect, and how a reload changes that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol as Interface

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from postoffice.config.endpoints import clash
from postoffice.config.source import Source
from postoffice.model.errors import StartupError
from postoffice.server.connection_setup import OpenConnection

log = Logger()


class Server(Interface):
    """
    Makes the connections of one or more ports: a ``ServerFactory``, or one of HTTP.

    ``connections`` are for the list of sessions.  While ``starting`` is true, nobody is served.
    """

    starting: bool

    @property
    def connections(self) -> Collection[OpenConnection]: ...
    def buildProtocol(self, addr: IAddress | None) -> Protocol | None: ...
    def open(self) -> None: ...
    async def close(self, patience: float) -> None: ...
    async def emptied(self) -> None: ...


class Listener(Factory):
    """
    One endpoint of a service; ``text`` is the endpoint as in the configuration, under ``key``.

    The port has this factory as long as it is open.  ``server`` makes the connections; a
    reload puts another one in its place.
    """

    noisy = False

    def __init__(
        self,
        service: str,
        text: str,
        endpoint: IStreamServerEndpoint,
        server: Server,
        key: str = "",
    ) -> None:
        self.service = service
        self.text = text
        self.server = server
        self.port: IListeningPort | None = None
        self._endpoint = endpoint
        self._key = key or f"listeners.{service}"

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self.server.buildProtocol(addr)

    @property
    def address(self) -> str:
        """The address where clients connect: ``127.0.0.1:2525``, ``[::]:25``, a path."""
        host = self.port.getHost() if self.port is not None else None
        if isinstance(host, UNIXAddress):
            return str(host.name, "utf-8", "replace") if host.name else ""
        if not isinstance(host, IPv4Address | IPv6Address):
            return self.text
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"

    @property
    def name(self) -> str:
        """The service and the address, for people."""
        return f"{self.service} {self.address}"

    async def listen(self, source: Source) -> None:
        """Open the port.  Raises StartupError."""
        try:
            self.port = await self._endpoint.listen(self)
        except CannotListenError as error:
            why: object = getattr(error.socketError, "strerror", None) or error.socketError
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        else:
            return
        where = source.problem(self._key, "")
        place = f" ({where.file}:{where.line})" if where.line else ""
        raise StartupError(f"{self.service} cannot listen on {self.text}{place}: {why}")

    async def reopen(self, source: Source) -> None:
        """Open the port again, after a reload has failed."""
        try:
            if self.port is None:
                await self.listen(source)
        except StartupError as error:
            log.critical("opening a port again failed: {why}; restart the daemon", why=str(error))

    async def stop(self) -> None:
        """Close the port; its sessions go on."""
        where, port, self.port = self.address, self.port, None
        try:
            if port is not None:
                stopped: object = port.stopListening()
                if isinstance(stopped, Deferred):
                    await stopped
        except OSError as error:
            # Root created this UNIX socket where the daemon's user may not remove it.  The next
            # start by root removes it.
            log.warn("removing the socket {where} failed: {why}", where=where, why=error.strerror)


class ListenerChange:
    """
    From the listeners that are open to those that are wanted.

    A port with the same endpoint stays open, also if another service gets it.  ``opened``
    are the listeners that are new; ``closed`` those that are no longer wanted.
    """

    def __init__(self, before: Sequence[Listener], wanted: Sequence[Listener]) -> None:
        self.closed = list(before)
        self._shut: list[Listener] = []
        self._kept: dict[Listener, Listener] = {}
        for same in (_same_service, _same_endpoint):
            for one in wanted:
                found = next((old for old in self.closed if same(old, one)), None)
                if one not in self._kept and found is not None:
                    self._kept[one] = found
                    self.closed.remove(found)
        self._wanted = wanted
        self.opened = [one for one in wanted if one not in self._kept]

    async def open(self, source: Source, before: Source) -> None:
        """
        Open the new ports; an old one is closed first only if both cannot be open together.

        Raises StartupError if one cannot be opened; then all is as it was before.
        """
        try:
            for one in sorted(self.opened, key=lambda new: bool(self._in_the_way(new))):
                for old in self._in_the_way(one):
                    self._shut.append(old)
                    await old.stop()
                await one.listen(source)
        except BaseException:
            await self.undo(before)
            raise

    async def undo(self, before: Source) -> None:
        """Close what was opened, and open again what was closed for it."""
        for one in self.opened:
            await one.stop()
            await one.server.close(0)
        shut, self._shut = self._shut, []
        for old in shut:
            await old.reopen(before)

    def _in_the_way(self, new: Listener) -> list[Listener]:
        return [old for old in self.closed if old.port and clash(old.text, new.text)]

    def commit(self) -> list[Listener]:
        """Let the new servers make the connections of all ports; return all listeners."""
        for one, old in self._kept.items():
            old.service, old.server = one.service, one.server
        return [self._kept.get(one, one) for one in self._wanted]


def _same_service(one: Listener, other: Listener) -> bool:
    return (one.service, one.text) == (other.service, other.text)


def _same_endpoint(one: Listener, other: Listener) -> bool:
    return one.text == other.text
