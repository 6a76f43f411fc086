"""Mail policies: retention, login delay, and what happens if a maildrop is in use."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields

#: What happens to a login while another session holds the maildrop (``MailPolicy.in_use``).
IN_USE = ("refuse", "wait", "take-over")
#: Which devices must have fetched a message before it counts as collected (``devices``).
DEVICES = ("any", "all")
A_DAY = 86400
#: Seconds after the last login with the account's own password: then mail waits for it no longer.
LAPSE = 90 * A_DAY


@dataclass(frozen=True)
class KeepTimes:
    """
    Seconds for which mail is kept after its arrival, and after it was collected; None: for ever.

    If ``devices`` is None, a message counts as collected when any client has fetched
    it.  Otherwise each of these devices must have fetched it, and also a client with
    the account's own password, if that was used within the last ``LAPSE`` seconds.
    """

    arrived: float | None = None
    collected: float | None = None
    devices: frozenset[str] | None = None

    @property
    def forever(self) -> bool:
        """Whether no mail expires."""
        return self.arrived is None and self.collected is None


@dataclass(frozen=True)
class MailPolicy:
    """
    The mail policy of one account.  Durations are seconds; None means that a default applies.

    ``keep`` is how long a message is kept after its arrival, ``keep_collected`` how
    long after it was collected; 0 is for ever.  With ``delete_on_collect`` a message
    is removed when it is collected.  A message is collected when RETR has sent it
    completely in a session that ended with QUIT, to any of the account's ``devices``
    (any) or to each of them (all).

    ``login_delay`` is the minimum time between two logins (RFC 2449 §6.5).
    ``in_use`` says what happens to a login while another session holds the maildrop:
    it is refused, waits for at most ``wait``, or takes over.
    """

    keep: float | None = None
    keep_collected: float | None = None
    delete_on_collect: bool | None = None
    devices: str | None = None
    login_delay: float | None = None
    in_use: str | None = None
    wait: float | None = None

    def or_else(self, other: MailPolicy) -> MailPolicy:
        """This policy, completed with the values of ``other`` where this one has None."""
        if self == UNSPECIFIED:
            return other
        mine = ((field.name, getattr(self, field.name)) for field in fields(self))
        return MailPolicy(
            **{name: getattr(other, name) if value is None else value for name, value in mine}
        )

    def days(self, *, makes_room: bool = False) -> int | None:
        """
        The days for which mail is kept at least, if no client deletes it; None: for ever.

        ``makes_room`` is whether a full quota removes the oldest mail.  EXPIRE
        (RFC 2449 §6.7) announces this number; it is rounded down, so that no mail is
        removed earlier than announced.
        """
        if makes_room or self.delete_on_collect:
            return 0
        limits = [limit for limit in (self.keep, self.keep_collected) if limit]
        return int(min(limits) // A_DAY) if limits else None

    def kept(self, devices: Collection[str]) -> KeepTimes:
        """How long mail is kept for an account with these devices."""
        collected = 0.0 if self.delete_on_collect else self.keep_collected or None
        every = frozenset(devices) if self.devices == "all" else None
        return KeepTimes(self.keep or None, collected, every)


#: Sets nothing: the defaults apply.
UNSPECIFIED = MailPolicy()
#: The default: mail is kept for ever, no login delay, a second session is refused.
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
    What CAPA announces: the days for which mail is kept at least (None: for ever), and the
    minimum seconds between two logins.

    Before a login it is the smallest number of days and the largest number of seconds of all
    accounts (RFC 2449 §6.5, §6.7); ``of_each`` are the capabilities in which accounts differ.
    """

    days: int | None = None
    seconds: int = 0
    of_each: frozenset[str] = frozenset()

    @property
    def expire(self) -> str:
        """The argument of EXPIRE."""
        return self._with_user("EXPIRE", "NEVER" if self.days is None else str(self.days))

    @property
    def login_delay(self) -> str:
        """The argument of LOGIN-DELAY; empty if there is no delay."""
        return self._with_user("LOGIN-DELAY", str(self.seconds)) if self.seconds else ""

    def _with_user(self, capability: str, text: str) -> str:
        return f"{text} USER" if capability in self.of_each else text


def announced(mail_policy: MailPolicy, *, makes_room: bool) -> AnnouncedPolicy:
    """What is announced for one account; no field of its ``mail_policy`` is None."""
    return AnnouncedPolicy(
        mail_policy.days(makes_room=makes_room), math.ceil(mail_policy.login_delay or 0)
    )


def together(ones: Collection[AnnouncedPolicy]) -> AnnouncedPolicy:
    """What is announced for several accounts together, at least one."""
    days = {one.days for one in ones}
    delays = {one.seconds for one in ones}
    differing = {"EXPIRE": len(days) > 1, "LOGIN-DELAY": len(delays) > 1}
    return AnnouncedPolicy(
        min((one for one in days if one is not None), default=None),
        max(delays),
        frozenset(name for name, differs in differing.items() if differs),
    )
