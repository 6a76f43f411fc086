"""
How many recipients an account may send to, in a time.  Recipients are counted in slots of time.

A slot is a twelfth of the limit's time.  The current slot and the twelve before it count.  So any
period of this length, whenever it begins, has at most as many recipients as the limit allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from postoffice.outbound.routes import matching_patterns
from postoffice.outbound.schedule import DAY, HOUR, MINUTE

SLOTS = 12
#: An account with at least so many recipients in an hour, and more than this share of them refused,
#: looks as if its password was stolen.
SUSPECT_FROM = 30
SUSPECT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class SendingRate:
    """``most`` recipients in ``seconds``."""

    most: int
    seconds: float

    def slot(self, now: float) -> int:
        """The number of the slot of a time."""
        return int(now * SLOTS // self.seconds)

    def oldest(self, now: float) -> int:
        """The oldest slot that counts."""
        return self.slot(now) - SLOTS

    def until(self, slot: int) -> float:
        """When a slot counts no longer."""
        return (slot + SLOTS + 1) * self.seconds / SLOTS

    def used(self, counts: Mapping[int, int], now: float) -> int:
        """How many recipients of these slots count."""
        oldest = self.oldest(now)
        return sum(count for slot, count in counts.items() if slot >= oldest)

    def wait(self, counts: Mapping[int, int], now: float, more: int) -> float | None:
        """Seconds until there is room for so many more recipients; None if there never is."""
        if more > self.most:
            return None
        used = self.used(counts, now)
        wait = 0.0
        for slot in sorted(slot for slot in counts if slot >= self.oldest(now)):
            if used + more <= self.most:
                break
            used -= counts[slot]
            wait = self.until(slot) - now
        return wait

    def __str__(self) -> str:
        return f"{self.most} recipients in {_words(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of an account, and of each of its devices."""

    account: tuple[SendingRate, ...] = ()
    device: tuple[SendingRate, ...] = ()
    hold: bool = True


@dataclass(frozen=True, slots=True)
class SendingRules:
    """The limits of all accounts: the first exception whose patterns fit, or else ``rates``."""

    rates: Rates = Rates()
    exceptions: tuple[tuple[frozenset[str], Rates], ...] = ()

    def of(self, account: str) -> Rates:
        """The limits of an account."""
        if self.exceptions:
            patterns = matching_patterns(account)
            for accounts, rates in self.exceptions:
                if not accounts.isdisjoint(patterns):
                    return rates
        return self.rates


#: Nobody has a limit.
NO_RULES = SendingRules()


def _words(seconds: float) -> str:
    """A time in words: ``an hour``, ``2 days``."""
    for unit, one, many in ((DAY, "a day", "days"), (HOUR, "an hour", "hours")):
        if seconds == unit:
            return one
        if seconds % unit == 0:
            return f"{seconds / unit:.0f} {many}"
    return "a minute" if seconds == MINUTE else f"{max(round(seconds / MINUTE), 1)} minutes"


def suspect(tried: int, refused: int) -> bool:
    """Whether so many refused recipients, in an hour, look like a stolen password."""
    return tried >= SUSPECT_FROM and refused > tried * SUSPECT_SHARE
