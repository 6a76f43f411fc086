"""TLS towards other servers: contexts by level, SNI, and whether a certificate fits a name."""

from __future__ import annotations

import ipaddress

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from postoffice.model.hop import OPPORTUNISTIC, VERIFY


class ClientContexts:
    """
    The TLS contexts of a client, one for each level: they are made once, because that is slow.

    ``ca`` is a PEM file of authorities that are trusted beside the system's.
    """

    def __init__(self, ca: str | None = None) -> None:
        self._ca = ca
        self._made: dict[str, SSL.Context] = {}

    def of(self, level: str) -> SSL.Context:
        """The context of a level."""
        context = self._made.get(level)
        if context is None:
            context = self._made[level] = self._make(level)
        return context

    def _make(self, level: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if level == OPPORTUNISTIC:  # weak keys are better than none
            context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        if level == VERIFY:
            context.set_default_verify_paths()
            if self._ca is not None:
                context.load_verify_locations(self._ca)
            context.set_verify(SSL.VERIFY_PEER)
        return context


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """Begins TLS with one host: what ``startTLS`` takes."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A new connection, which names the host (SNI, RFC 6066 §3)."""
        connection = SSL.Connection(self._context, None)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("ascii", "replace"))
        return connection


def misfit(connection: SSL.Connection, host: str) -> str:
    """Why the server's certificate does not fit the host's name, or ""; its chain is verified."""
    try:
        if _is_address(host):
            verify_ip_address(connection, host)
        else:
            verify_hostname(connection, host)
    except (VerificationError, CertificateError, ValueError) as error:
        return f"its certificate is not for {host} ({type(error).__name__})"
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
