"""The settings of ``listeners``: where clients connect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from postoffice.config.schema import WithCertificate, key, keys_of, list_of_sections
from postoffice.model import config_values as kinds
from postoffice.protocol.sasl import MECHANISMS
from postoffice.util.networks import Network

#: The services with TLS from the first octet: without a certificate they do not listen.
IMPLICIT_TLS = ("submissions", "pop3s")


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """
    One endpoint of a service.

    endpoint: The endpoint on which the service listens.
    mechanisms: The authentication mechanisms (AUTH). Clients use the strongest mechanism on offer
        and do not fall back: offer SCRAM-SHA-256 or CRAM-MD5 only when all accounts have what it
        needs (`postoffice check-config` counts the accounts that do not). With TLS, SCRAM-SHA-256
        implies SCRAM-SHA-256-PLUS. OAUTHBEARER and XOAUTH2 need an entry in `checkers` that accepts
        tokens.
    proxy_from: Load balancers in front of this listener. They must, and nobody else may, start each
        connection with a PROXY protocol header (version 1 or 2) that names the real client, before
        TLS and before the greeting. For all other peers the address of the connection counts.
    xclient_from: Mail servers in front of this listener that may name the real client with XCLIENT.
    """

    endpoint: str = key(kinds.ENDPOINT, kinds.REQUIRED, "tcp:2525")
    mechanisms: tuple[str, ...] = key(kinds.list_of(kinds.one_of(*MECHANISMS)), ())
    proxy_from: tuple[Network, ...] = key(kinds.list_of(kinds.NETWORK), ())
    xclient_from: tuple[Network, ...] = key(kinds.list_of(kinds.NETWORK), ())


@dataclass(frozen=True, kw_only=True)
class SubmissionListener(ListenerSettings):
    """A listener for users who send mail."""

    mechanisms: tuple[str, ...] = key(kinds.list_of(kinds.one_of(*MECHANISMS)), ("PLAIN", "LOGIN"))


@dataclass(frozen=True, kw_only=True)
class LMTPListener(ListenerSettings):
    """A listener without logins."""

    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class POP3Listener(ListenerSettings):
    """A listener for users who fetch mail."""

    mechanisms: tuple[str, ...] = key(
        kinds.list_of(kinds.one_of(*MECHANISMS, "APOP")),
        ("PLAIN", "LOGIN"),
        also="USER and PASS are allowed if PLAIN or LOGIN is. APOP needs what CRAM-MD5 needs, and "
        "is only for very old clients: see docs/pop3.rst.",
    )
    xclient_from: tuple[Network, ...] = ()


def _listeners(
    settings: type[ListenerSettings], port: int, default: type = tuple
) -> tuple[ListenerSettings, ...]:
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    example = f'["{endpoint}"]'
    return key(list_of_sections(settings, example, short="endpoint"), default((endpoint,)), example)


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """
    Where clients connect: for each service a list of Twisted endpoints. tcp:25 is every IPv4
    address, tcp6:25 every IPv6 and IPv4 address, tcp:25:interface=192.0.2.1 one of them,
    unix:/run/postoffice/smtp a UNIX socket. To set more keys for an endpoint, write a mapping
    instead. An empty list, [], closes the service.

    smtp: SMTP: receives mail from anyone, for local accounts. Other mail servers connect to port
        25: tcp6:25.
    submission: Message submission: users send mail after they have logged in (RFC 6409). The usual
        port is 587.
    submissions: The same with TLS from the first octet (RFC 8314). The usual port is 465.
    lmtp: LMTP (RFC 2033): receives mail from a mail server in front, such as Postfix or Exim. Every
        client that can connect may deliver mail, so use a UNIX socket or a loopback address.
    pop3: POP3: users fetch their mail. The usual port is 110.
    pop3s: The same with TLS from the first octet (RFC 8314). The usual port is 995.
    """

    smtp: tuple[ListenerSettings, ...] = _listeners(ListenerSettings, 2525)
    submission: tuple[ListenerSettings, ...] = _listeners(SubmissionListener, 2587)
    submissions: tuple[ListenerSettings, ...] = _listeners(
        SubmissionListener, 2465, WithCertificate
    )
    lmtp: tuple[ListenerSettings, ...] = _listeners(LMTPListener, 2424)
    pop3: tuple[ListenerSettings, ...] = _listeners(POP3Listener, 2110)
    pop3s: tuple[ListenerSettings, ...] = _listeners(POP3Listener, 2995, WithCertificate)

    def of(self, service: str) -> tuple[ListenerSettings, ...]:
        """The listeners of one service."""
        found: tuple[ListenerSettings, ...] = getattr(self, service)
        return found

    def items(self) -> Iterator[tuple[str, tuple[ListenerSettings, ...]]]:
        """Each service, and its listeners."""
        for one in fields(self):
            yield one.name, getattr(self, one.name)


#: The names of all services that can listen.
SERVICES = tuple(one.name for one in keys_of(Listeners))
