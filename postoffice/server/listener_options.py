"""The TLS, PROXY and XCLIENT settings of one listener."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from postoffice.util.networks import Network


class Certificates(Protocol):
    """An ``IOpenSSLServerConnectionCreator`` that also knows whether a certificate is loaded."""

    @property
    def ready(self) -> bool: ...


@dataclass(frozen=True)
class ListenerOptions:
    """
    The TLS, PROXY and XCLIENT settings of one listener.

    ``service`` is the service's name in the configuration.  ``certificates`` is
    None if the listener has no TLS; with ``implicit`` the connection begins with
    a TLS handshake.  ``proxies`` are the networks of load balancers, which send a
    PROXY header first; ``relays`` are those of clients that may use XCLIENT.
    ``handshake`` is the timeout, in seconds, of the PROXY header and of the TLS
    handshake.
    """

    service: str = ""
    certificates: Certificates | None = None
    implicit: bool = False
    proxies: Sequence[Network] = ()
    relays: Sequence[Network] = ()
    handshake: float = 30.0
