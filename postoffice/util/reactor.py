"""What we ask of Twisted's reactor, as one type."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFromThreads,
    IReactorInThreads,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IReactorUNIXDatagram,
)


class IReactor(
    IReactorCore,
    IReactorTime,
    IReactorFromThreads,
    IReactorInThreads,
    IReactorProcess,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorUDP,
    IReactorUNIX,
    IReactorUNIXDatagram,
):
    """A reactor that has all; a test's may have only what is used."""
