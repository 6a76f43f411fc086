"""
When a message is tried again.  This depends only on its age: no attempt has to be recorded.

The gaps are 5, 10, 20 and 40 minutes, then one hour, each up to a tenth shorter or longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from postoffice.model.queued_message import QueuedMessage

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
#: (age, gap): until a message is so old, the next attempt comes after that gap.
GAPS = (
    (5 * MINUTE, 5 * MINUTE),
    (15 * MINUTE, 10 * MINUTE),
    (35 * MINUTE, 20 * MINUTE),
    (75 * MINUTE, 40 * MINUTE),
)
LONGEST = HOUR
#: The part of a gap by which it is made shorter or longer at random.
JITTER = 0.1
#: The gaps between two probes of a destination that does not answer.
PROBES = tuple(minutes * MINUTE for minutes in (1, 2, 5, 10, 20))


@dataclass(frozen=True)
class Lifetimes:
    """
    Seconds for which a message is tried, and one with a null sender (``bounce``).

    ``warn``: seconds until the sender is told of the delay; 0: never.
    """

    message: float = 4 * DAY
    bounce: float = DAY
    warn: float = 4 * HOUR

    def expires(self, message: QueuedMessage) -> float:
        """When the message is given up (Unix time)."""
        return message.came + (self.message if message.sender else self.bounce)

    def warns(self, message: QueuedMessage) -> float | None:
        """When its sender is told of the delay (Unix time); None: never.  Only users are told."""
        if not (self.warn and message.sender and message.login):
            return None
        return message.came + self.warn


def gap(age: float, chance: float) -> float:
    """
    Return the seconds until the next attempt, for a message of this age (seconds).

    ``chance`` is a random number from 0 to 1.
    """
    wait = next((wait for until, wait in GAPS if age < until), LONGEST)
    return wait * (1 - JITTER + 2 * JITTER * chance)


def probe_gap(failures: int) -> float:
    """Return the seconds until a destination is probed again, after so many failures (1, 2, …)."""
    return PROBES[min(failures, len(PROBES)) - 1]
