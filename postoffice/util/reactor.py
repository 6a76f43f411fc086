"""The type of Twisted's reactor: all interfaces of it that we use."""

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
    """All that we use of a reactor; that of a test may have less."""
