"""The answer to a DNS lookup: records, none of this type, no such name, or unavailable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from postoffice.model.errors import TemporaryFailure


class DNSUnavailable(TemporaryFailure):
    """
    No server gave a usable answer: SERVFAIL, REFUSED, timed out, or a malformed response.

    This says nothing about the name: ask again later.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The records of a name.

    They are plain values: for A and AAAA the address, for MX (preference, host name; "" is the
    root), for TXT its octets, for TLSA (usage, selector, matching type, data), for CNAME and PTR a
    host name; for others their text.  Names are in lower case, without the final dot.

    ``name`` is the name that has the records, after all aliases (CNAME) were followed.  ``secure``:
    a trusted server has validated all of it with DNSSEC (the AD bit, RFC 4035 §3.2.3).
    """

    records: tuple[Any, ...]
    name: str = ""
    secure: bool = False


@dataclass(frozen=True, slots=True)
class NoData:
    """The name is there, but has no record of this type."""

    name: str = ""
    secure: bool = False


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """The name is not there (NXDOMAIN)."""

    name: str = ""
    secure: bool = False


Outcome = Answer | NoData | NoSuchName
#: Looks up the records of a name and a type ("MX"), as ``IResolver.ask`` does.
Ask = Callable[[str, str], Awaitable[Outcome]]


class IResolver(Protocol):
    """Looks up names."""

    def ask(self, name: str, kind: str) -> Awaitable[Outcome]:
        """
        Look up the records of a type ("MX").  Raises DNSUnavailable, and nothing else.

        The name is absolute, and in ASCII (A-labels).
        """

    def stop(self) -> None:
        """End all lookups: they fail."""
