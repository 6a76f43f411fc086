"""Limits the messages and recipients of one client, one sender, one account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from zope.interface import implementer

from postoffice.interfaces import IPolicy, Opinion
from postoffice.model.address import Address
from postoffice.model.envelope import Envelope, Recipient
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase
from postoffice.util.networks import network_of
from postoffice.util.token_bucket import TokenBucket


@dataclass(frozen=True)
class Rate:
    """At most ``count`` in ``seconds``."""

    count: int
    seconds: float


#: Whose messages, and whose recipients, can be counted.
KEYS = ("client", "sender", "account", "client_recipients", "account_recipients")


@implementer(IPolicy)
class RatePolicy(PolicyBase):
    """
    Counts messages at MAIL and recipients at RCPT, in memory.

    ``rates`` has a Rate for some of KEYS; ``clock`` returns seconds.  A client over a limit
    gets a temporary error that says when to try again.
    """

    stages = ("sender", "recipient")

    def __init__(self, rates: Mapping[str, Rate], clock: Callable[[], float]) -> None:
        self._buckets = {
            key: TokenBucket(rate.count, rate.seconds, clock) for key, rate in rates.items()
        }

    async def sender(self, envelope: Envelope) -> Opinion:
        return self._spend("messages", _of_a_message(envelope))

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        return self._spend("recipients", _of_a_recipient(envelope))

    def _spend(self, what: str, whose: Iterator[tuple[str, str]]) -> Reply | None:
        spent: list[tuple[TokenBucket, str]] = []
        for key, who in whose:
            bucket = self._buckets.get(key)
            if bucket is None or not who:
                continue
            if not bucket.spend(who):
                for other, name in spent:  # a refused message is not counted
                    other.give_back(name)
                when = _in_words(bucket.wait(who))
                return Reply(450, "4.7.1", f"Too many {what} from you; come again in {when}")
            spent.append((bucket, who))
        return None


def _of_a_message(envelope: Envelope) -> Iterator[tuple[str, str]]:
    yield "client", network_of(envelope.client.address)
    yield "sender", _name(envelope.sender)
    yield "account", envelope.login


def _of_a_recipient(envelope: Envelope) -> Iterator[tuple[str, str]]:
    yield "client_recipients", network_of(envelope.client.address)
    yield "account_recipients", envelope.login


def _name(sender: Address | None) -> str:
    """The sender address; "" for a bounce, which is not counted."""
    return "" if sender is None else sender.normal


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
