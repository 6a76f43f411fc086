"""Looks up the addresses of a host, of both families at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import gatherResults

from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable, Outcome
from postoffice.util.shield import start_work

T = TypeVar("T")
_TYPES = {4: "A", 6: "AAAA"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """
    The addresses of a host; ``failures`` are the lookups that failed, so that some may be missing.

    ``secure``: DNSSEC has validated those of one family or both.
    """

    host: str
    addresses: tuple[str, ...]
    secure: bool
    failures: tuple[str, ...]


async def look_up(ask: Ask, host: str, families: Sequence[int]) -> Addresses:
    """Look up the addresses of these versions of IP."""
    heard = await all_of([_heard(ask, host, _TYPES[family]) for family in families])
    answers = [one for one in heard if isinstance(one, Answer)]
    return Addresses(
        host,
        tuple(record for answer in answers for record in answer.records),
        any(answer.secure for answer in answers),
        tuple(str(one) for one in heard if isinstance(one, DNSUnavailable)),
    )


async def _heard(ask: Ask, host: str, kind: str) -> Outcome | DNSUnavailable:
    try:
        return await ask(host, kind)
    except DNSUnavailable as failure:
        return failure


async def all_of(work: Sequence[Awaitable[T]]) -> list[T]:
    """Do all work at the same time; return the results in order.  Raises the first failure."""
    return await gatherResults([start_work(one) for one in work])
