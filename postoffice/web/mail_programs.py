"""
The settings for mail programs: for people, and as mail programs ask for them.

Autoconfig is Mozilla's (config-v1.1.xml), autodiscover Microsoft's (POX).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

#: How the connection is protected: TLS from the start, or by STARTTLS, or not at all.
SSL, STARTTLS, PLAIN = "SSL", "STARTTLS", "plain"
#: The services in the order in which they are recommended.
SERVICES = ("pop3s", "pop3", "submissions", "submission")
_ADDRESS = re.compile(rb"<EMailAddress>\s*([^<>\s]{3,254})\s*</EMailAddress>", re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """Where a mail program connects: to ``service`` (of SERVICES), with TLS as ``socket`` says."""

    service: str
    host: str
    port: int
    socket: str

    @property
    def fetches(self) -> bool:
        """Whether the service is for fetching mail; otherwise it is for sending."""
        return self.service.startswith("pop3")


def accesses(host: str, ports: Sequence[tuple[str, int]], *, tls: bool) -> list[Access]:
    """
    Return where mail programs connect, the best first.

    ``ports`` are the services that listen, with their ports.  With ``tls`` services that begin in
    clear offer STARTTLS.
    """
    order = {service: place for place, service in enumerate(SERVICES)}
    found = [
        Access(service, host, port, _socket(service, tls))
        for service, port in ports
        if service in order
    ]
    return sorted(found, key=lambda one: (order[one.service], one.port))


def _socket(service: str, tls: bool) -> str:
    if service in ("pop3s", "submissions"):
        return SSL
    return STARTTLS if tls else PLAIN


def autoconfig(domain: str, found: Sequence[Access]) -> bytes:
    """Return the answer for Thunderbird and others, for addresses in a domain."""
    servers = "".join(map(_autoconfig_server, found))
    name = escape(domain)
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="{name}">
    <domain>{name}</domain>
    <displayName>{name}</displayName>
    <displayShortName>{name}</displayShortName>
{servers}  </emailProvider>
</clientConfig>
""".encode()


def _autoconfig_server(one: Access) -> str:
    tag, kind = ("incomingServer", "pop3") if one.fetches else ("outgoingServer", "smtp")
    return f"""\
    <{tag} type="{kind}">
      <hostname>{escape(one.host)}</hostname>
      <port>{one.port}</port>
      <socketType>{one.socket}</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </{tag}>
"""


def asked_address(body: bytes) -> str:
    """Return the address in a request of autodiscover, or ""."""
    found = _ADDRESS.search(body)
    return found[1].decode("utf-8", "replace") if found else ""


def autodiscover(address: str, found: Sequence[Access]) -> bytes:
    """Return the answer for Outlook and others."""
    servers = "".join(_protocol(one, address) for one in found)
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006">
  <Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a">
    <Account>
      <AccountType>email</AccountType>
      <Action>settings</Action>
{servers}    </Account>
  </Response>
</Autodiscover>
""".encode()


def _protocol(one: Access, address: str) -> str:
    encryption = {SSL: "SSL", STARTTLS: "TLS", PLAIN: "None"}[one.socket]
    return f"""\
      <Protocol>
        <Type>{"POP3" if one.fetches else "SMTP"}</Type>
        <Server>{escape(one.host)}</Server>
        <Port>{one.port}</Port>
        <LoginName>{escape(address)}</LoginName>
        <SPA>off</SPA>
        <SSL>{"on" if one.socket == SSL else "off"}</SSL>
        <Encryption>{encryption}</Encryption>
        <AuthRequired>on</AuthRequired>
      </Protocol>
"""
