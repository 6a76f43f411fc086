"""The URL of a POP3 server, the TLS to use with it, and time limits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

#: Port numbers of pop3:// (RFC 1939) and of pop3s:// (RFC 8314).
PORTS = {"pop3": 110, "pop3s": 995}
#: TLS with a certificate that fits the host; with any certificate; none at all.
VERIFY, UNVERIFIED, NO_TLS = "verify", "unverified", "none"
TLS_LEVELS = (VERIFY, UNVERIFIED, NO_TLS)
#: Seconds: to connect, and at most for each reply, however long the protocol would wait.
CONNECT_TIMEOUT = 30.0
REPLY_TIMEOUT = 600.0
_URL = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+)://(?:(?P<user>.*)@)?(?P<host>[^@]*)\Z", re.DOTALL)
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:/?#\[\]\s]+))(?::(?P<port>[0-9]{1,9}))?/?\Z"
)


class NotAServer(ValueError):
    """A URL names no POP3 server that can be asked; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3Server:
    """
    A server: ``implicit`` is TLS from the first octet, else STLS as ``tls`` says.

    ``ca_file`` is a PEM file of authorities that are trusted beside the system's.  A server on a
    loopback address is asked without STLS.
    """

    host: str
    port: int
    implicit: bool = True
    tls: str = VERIFY
    ca_file: str | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    reply_timeout: float = REPLY_TIMEOUT

    @property
    def stls(self) -> bool:
        """Whether the session must begin TLS by STLS."""
        return not self.implicit and self.tls != NO_TLS and not self.loopback

    @property
    def clear(self) -> bool:
        """Whether a password may be sent without TLS."""
        return not self.implicit and not self.stls

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine, by its address or as ``localhost``."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"pop3{'s' * self.implicit}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class POP3URL:
    """``pop3s://user@host:port``, or ``pop3://`` for STLS; ``user`` is "" if it names none."""

    scheme: str
    user: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse a URL.  The last @ ends the user, who may have one; octets may be %-encoded.

        Raises NotAServer, also for a password: it would be seen in the list of processes.
        """
        found = _URL.match(text)
        if found is None or found["scheme"].lower() not in PORTS:
            raise NotAServer(
                f"{_hidden(text)} is no URL of a POP3 server: pop3s://user@host[:port]"
            )
        user = found["user"] or ""
        if ":" in user:
            raise NotAServer(
                "a URL must not have a password (or write %3A for a colon in the user)"
            )
        host = _HOST.match(found["host"])
        if host is None:
            raise NotAServer(f"{_hidden(text)} names no host: pop3s://user@host[:port]")
        scheme = found["scheme"].lower()
        port = int(host["port"]) if host["port"] else PORTS[scheme]
        if not 0 < port < 65536:
            raise NotAServer(f"{port} is no port: 1 to 65535")
        name = host["six"] or host["name"]
        return cls(scheme, unquote(user), name, port)

    def server(
        self,
        *,
        tls: str = VERIFY,
        ca_file: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        reply_timeout: float = REPLY_TIMEOUT,
    ) -> POP3Server:
        """The server, on these terms.  Raises NotAServer if they contradict the scheme."""
        implicit = self.scheme == "pop3s"
        if implicit and tls == NO_TLS:
            raise NotAServer("pop3s:// is TLS: write pop3:// if the server has none")
        return POP3Server(
            host=self.host,
            port=self.port,
            implicit=implicit,
            tls=tls,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
        )


def _hidden(text: str) -> str:
    """A URL for a message: without what may be a password."""
    return re.sub(r":[^:@/]*@", ":…@", text)
