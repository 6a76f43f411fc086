"""How an account's mail is served, and for how long it is kept: settings, and who says them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields

#: What may become of a login while another session holds the maildrop (``MailPolicy.in_use``).
IN_USE = ("refuse", "wait", "take-over")
#: Who must have collected a message before it counts as collected (``MailPolicy.devices``).
DEVICES = ("any", "all")
A_DAY = 86400
#: Seconds for which mail waits for somebody who no longer collects by the account's own password.
LAPSE = 90 * A_DAY


@dataclass(frozen=True)
class KeepTimes:
    """
    For how many seconds mail stays: after its arrival, after it was collected; None: for ever.

    It counts as collected when each of these ``devices`` has it, and whoever
    uses the account's own password, if anybody collects by that (or has for
    the last ``LAPSE`` seconds); where it is None, when anybody has it.
    """

    arrived: float | None = None
    collected: float | None = None
    devices: frozenset[str] | None = None

    @property
    def forever(self) -> bool:
        """Whether nothing goes by itself."""
        return self.arrived is None and self.collected is None


@dataclass(frozen=True)
class MailPolicy:
    """
    How mail is served to one account; durations are seconds, None is: as somebody else says.

    ``keep`` is how long after its arrival a message stays, ``keep_collected``
    how long after it was collected; both 0: for ever.  ``delete_on_collect``:
    it goes when it is collected.  Collected is what RETR has sent whole in a
    session that ended with QUIT, by one of the account's ``devices`` (any) or
    by each of them (all).

    ``login_delay`` lies between two logins at the least (RFC 2449 §6.5).
    ``in_use`` says what becomes of a login while another session holds the
    maildrop: it is refused, waits for as long as ``wait`` says, or takes over.
    """

    keep: float | None = None
    keep_collected: float | None = None
    delete_on_collect: bool | None = None
    devices: str | None = None
    login_delay: float | None = None
    in_use: str | None = None
    wait: float | None = None

    def or_else(self, other: MailPolicy) -> MailPolicy:
        """This one, and what ``other`` says where this one says nothing."""
        if self == UNSPECIFIED:
            return other
        mine = ((field.name, getattr(self, field.name)) for field in fields(self))
        return MailPolicy(
            **{name: getattr(other, name) if value is None else value for name, value in mine}
        )

    def days(self, *, makes_room: bool = False) -> int | None:
        """
        For how many days mail stays at the least, when the maildrop is left alone; None: for ever.

        ``makes_room``: whether mail goes when there is no room for more.  What
        is told to clients (EXPIRE, RFC 2449 §6.7) comes from here, rounded
        down: nothing goes before that.
        """
        if makes_room or self.delete_on_collect:
            return 0
        limits = [limit for limit in (self.keep, self.keep_collected) if limit]
        return int(min(limits) // A_DAY) if limits else None

    def kept(self, devices: Collection[str]) -> KeepTimes:
        """When mail goes, of an account that has these devices."""
        collected = 0.0 if self.delete_on_collect else self.keep_collected or None
        every = frozenset(devices) if self.devices == "all" else None
        return KeepTimes(self.keep or None, collected, every)


#: Says nothing.
UNSPECIFIED = MailPolicy()
#: Mail stays for ever, anybody logs in at once, and a second session is refused.
DEFAULT_POLICY = MailPolicy(
    keep=0,
    keep_collected=0,
    delete_on_collect=False,
    devices="any",
    login_delay=0,
    in_use="refuse",
    wait=0,
)


@dataclass(frozen=True)
class AnnouncedPolicy:
    """
    What clients are told: for how many days mail stays at the least (None: for ever), and how
    many seconds lie between two logins.

    Before a login, where accounts differ (``of_each``: the capabilities where they do), it is
    the smallest of the former and the largest of the latter (RFC 2449 §6.5, §6.7).
    """

    days: int | None = None
    seconds: int = 0
    of_each: frozenset[str] = frozenset()

    @property
    def expire(self) -> str:
        """As it stands behind EXPIRE."""
        return self._with_user("EXPIRE", "NEVER" if self.days is None else str(self.days))

    @property
    def login_delay(self) -> str:
        """As it stands behind LOGIN-DELAY; empty: there is none."""
        return self._with_user("LOGIN-DELAY", str(self.seconds)) if self.seconds else ""

    def _with_user(self, capability: str, text: str) -> str:
        return f"{text} USER" if capability in self.of_each else text


def announced(serving: MailPolicy, *, makes_room: bool) -> AnnouncedPolicy:
    """What the clients of one account are told, whose ``serving`` is whole."""
    return AnnouncedPolicy(serving.days(makes_room=makes_room), math.ceil(serving.login_delay or 0))


def together(ones: Collection[AnnouncedPolicy]) -> AnnouncedPolicy:
    """What is told of several accounts, one at least."""
    days = {one.days for one in ones}
    delays = {one.seconds for one in ones}
    differing = {"EXPIRE": len(days) > 1, "LOGIN-DELAY": len(delays) > 1}
    return AnnouncedPolicy(
        min((one for one in days if one is not None), default=None),
        max(delays),
        frozenset(name for name, differs in differing.items() if differs),
    )
