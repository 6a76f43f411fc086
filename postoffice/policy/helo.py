"""Checks the name in EHLO or HELO: some names no honest server uses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from zope.interface import implementer

from postoffice.interfaces import IPolicy, Opinion
from postoffice.model.envelope import Envelope, Recipient
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase, is_for_the_postmaster
from postoffice.util.networks import in_plain_form

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?\Z")


@dataclass(frozen=True)
class Introduction:
    """The name that a client gave (EHLO), its address, and our own host name."""

    hello: str
    address: str
    hostname: str


@implementer(IPolicy)
class HeloPolicy(PolicyBase):
    """
    Refuses clients whose EHLO or HELO name fails a check.

    ``checks`` are names of CHECKS.  The refusal comes at RCPT, so that mail to the
    postmaster is still accepted; clients on this machine are not checked.  RFC 5321
    §4.1.4 forbids to refuse a message because the name does not match the client's
    address; these names are wrong whatever the address is.
    """

    stages = ("recipient",)

    def __init__(self, hostname: str, checks: Collection[str]) -> None:
        self._hostname = hostname
        self._checks = tuple(name for name in CHECKS if name in checks)

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        if envelope.client.local or is_for_the_postmaster(recipient):
            return None
        said = Introduction(envelope.hello, envelope.client.address, self._hostname)
        for name in self._checks:
            if objection := CHECKS[name](said):
                return Reply(550, "5.7.1", f"Your HELO: {objection}")
        return None


def _own_name(said: Introduction) -> str:
    return "that is my name" if said.hello.lower().rstrip(".") == said.hostname else ""


def _bare_address(said: Introduction) -> str:
    try:
        ipaddress.ip_address(said.hello)
    except ValueError:
        return ""
    return "an address stands in brackets: [192.0.2.1]"


def _no_name(said: Introduction) -> str:
    if (
        said.hello.startswith("[")
        or _NAME.match(said.hello)
        or not said.hello.isascii()
        or ":" in said.hello
    ):
        return ""
    return "that is no host name"


def _no_dot(said: Introduction) -> str:
    if said.hello.startswith("[") or ":" in said.hello or "." in said.hello.rstrip("."):
        return ""
    return "a host name has a domain"


def _literal(said: Introduction) -> str:
    if not said.hello.startswith("["):
        return ""
    text = said.hello[1:].removesuffix("]")
    text = text[5:] if text[:5].lower() == "ipv6:" else text
    try:
        if in_plain_form(ipaddress.ip_address(text)) == said.address:
            return ""
    except ValueError:
        return "that is no address"
    return "that is not your address"


#: The checks by name; each returns what is wrong, or "".
CHECKS: dict[str, Callable[[Introduction], str]] = {
    "own_name": _own_name,
    "bare_address": _bare_address,
    "no_name": _no_name,
    "no_dot": _no_dot,
    "literal": _literal,
}
