"""Salts for unknown names, so that SCRAM does not reveal which accounts exist."""

from __future__ import annotations

import hmac

from postoffice.protocol import scram

#: Seconds for which an unknown name keeps its salt, at least.
PACE = 120 * 86400.0


def steady_salt(key: bytes, name: str, now: float) -> scram.Salt:
    """
    Return the fake salt of an unknown name.  When it changes depends on the key alone.

    Each name has a period of its own, of one to sixteen times PACE; its salt changes once in each
    period.
    """
    octets = name.encode("utf-8", "replace")

    def drawn(what: str) -> bytes:
        return hmac.digest(key, what.encode() + b" " + octets, "sha256")

    pace = PACE * 16 ** _fraction(drawn("pace"))
    epoch, passed = divmod(now + pace * _fraction(drawn("start")), pace)
    if passed < pace * _fraction(drawn(f"change {int(epoch)}")):
        epoch -= 1
    return scram.Salt(drawn(f"salt {int(epoch)}")[: scram.SALT], scram.ITERATIONS)


def _fraction(octets: bytes) -> float:
    """Turn octets into a number from 0 to 1."""
    return int.from_bytes(octets[:6], "big") / (1 << 48)
