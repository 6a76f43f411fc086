"""How an account's mail is served, and for how long it is kept: settings, and who says them."""

from __future__ import annotations

from dataclasses import dataclass, fields

#: What may become of a login while another session holds the maildrop (``Serving.in_use``).
IN_USE = ("refuse", "wait", "take-over")
#: Who must have collected a message before it counts as collected (``Serving.devices``).
DEVICES = ("any", "all")


@dataclass(frozen=True)
class Serving:
    """
    How mail is served to one account; durations are seconds, None is: as somebody else says.

    ``keep`` is how long after its arrival a message stays, ``keep_collected``
    how long after it was collected; both 0: for ever.  ``delete_on_collect``:
    it goes when it is collected.  Collected is what RETR has sent whole in a
    session that ended with QUIT, by one of the account's ``devices`` (any) or
    by each of them (all).

    ``login_delay`` lies between two logins at the least (RFC 2449 §6.6).
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

    def or_else(self, other: Serving) -> Serving:
        """This one, and what ``other`` says where this one says nothing."""
        if self == UNSAID:
            return other
        mine = ((field.name, getattr(self, field.name)) for field in fields(self))
        return Serving(
            **{name: getattr(other, name) if value is None else value for name, value in mine}
        )


#: Says nothing.
UNSAID = Serving()
#: Mail stays for ever, anybody logs in at once, and a second session is refused.
PLAIN = Serving(
    keep=0,
    keep_collected=0,
    delete_on_collect=False,
    devices="any",
    login_delay=0,
    in_use="refuse",
    wait=0,
)
