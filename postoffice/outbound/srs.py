"""
The Sender Rewriting Scheme: what we forward has a sender in a domain of ours.

``ann@example.org`` becomes ``SRS0=HHHH=TT=example.org=ann@ours``: TT is the day, HHHH a
signature.  A sender that another server has rewritten (SRS0) becomes SRS1: we send its bounces
straight to the server that rewrote it first.  The form is that of libsrs2 and postsrsd.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1

from postoffice.model.address import LOCAL_MAXIMUM, Address, NotAnAddress, normal_domain

#: Days for which an address can be used.
DAYS = 21
#: Characters of a signature.
SIGNATURE = 4
_DAY = 86400
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
#: How many days two such characters can distinguish.
_CYCLE = len(_BASE32) ** 2
#: Letter case may change on the way, of ASCII letters only: others are not equal to them.
_FLAGS = re.IGNORECASE | re.ASCII | re.DOTALL
_SIGNED = r"(?P<signature>[A-Za-z0-9+/]{4,28})"
_SRS0 = re.compile(
    rf"SRS0[=+-]{_SIGNED}=(?P<day>[A-Z2-7]{{2}})=(?P<domain>[^=]+)=(?P<local>.+)",
    _FLAGS,
)
_SRS1 = re.compile(rf"SRS1[=+-]{_SIGNED}=(?P<domain>[^=]+)=(?P<rest>[=+-].+)", _FLAGS)
_OTHERS = re.compile(r"SRS0(?P<rest>[=+-].+)", _FLAGS)


class NotRewritten(ValueError):
    """An address was not rewritten by us, or too long ago."""


def is_rewritten(address: Address) -> bool:
    """Whether an address looks rewritten."""
    return bool(re.match("SRS[01][=+-]", address.local, _FLAGS))


class SenderRewriting:
    """Rewrites senders; the first of ``secrets`` signs, and a signature by any is accepted."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def rewritten(self, sender: Address, domain: str, now: float) -> Address | None:
        """
        Return the address in ``domain`` from which a message of this sender is forwarded.

        None if it would be too long (64 octets before the @, RFC 5321 §4.5.3.1.1): such a message
        is sent from the null sender.
        """
        if (other := _SRS1.match(sender.local)) is not None:
            host, rest = other["domain"], other["rest"]
        elif (other := _OTHERS.match(sender.local)) is not None:
            host, rest = sender.domain, other["rest"]
        else:
            day = _day(now)
            signature = self._signatures(day, sender.domain, sender.local)[0]
            return _fitting(f"SRS0={signature}={day}={sender.domain}={sender.local}", domain)
        signature = self._signatures(host, rest)[0]
        return _fitting(f"SRS1={signature}={host}={rest}", domain)

    def original(self, address: Address, now: float) -> Address:
        """Return the address that was rewritten.  Raises NotRewritten."""
        if (found := _SRS1.match(address.local)) is not None:
            host, rest = found["domain"], found["rest"]
            self._verify(found["signature"], host, rest)
            return _checked(f"SRS0{rest}", host)
        found = _SRS0.match(address.local)
        if found is None:
            raise NotRewritten("not in the form of SRS")
        self._verify(found["signature"], found["day"], found["domain"], found["local"])
        if (_number(_day(now)) - _number(found["day"])) % _CYCLE > DAYS:
            raise NotRewritten("expired")
        return _checked(found["local"], found["domain"])

    def _signatures(self, *parts: str) -> list[str]:
        """The signature by each secret; letter case does not count."""
        text = "".join(parts).lower().encode()
        digests = (hmac.digest(secret, text, sha1) for secret in self._secrets)
        return [b64encode(digest).decode()[:SIGNATURE] for digest in digests]

    def _verify(self, signature: str, *parts: str) -> None:
        given = signature.lower().encode()
        right = [
            hmac.compare_digest(given, one.lower().encode()) for one in self._signatures(*parts)
        ]
        if not any(right):
            raise NotRewritten("the signature is wrong")


def _fitting(local: str, domain: str) -> Address | None:
    return Address(local, domain) if len(local.encode()) <= LOCAL_MAXIMUM else None


def _checked(local: str, domain: str) -> Address:
    """Raises NotRewritten."""
    try:
        normal_domain(domain)
    except NotAnAddress as error:
        raise NotRewritten(str(error)) from error
    if not local.isprintable():
        raise NotRewritten("control characters")
    return Address(local, domain)


def _day(now: float) -> str:
    """The day, in two characters."""
    high, low = divmod(int(now // _DAY) % _CYCLE, len(_BASE32))
    return _BASE32[high] + _BASE32[low]


def _number(day: str) -> int:
    day = day.upper()
    return _BASE32.index(day[0]) * len(_BASE32) + _BASE32.index(day[1])
