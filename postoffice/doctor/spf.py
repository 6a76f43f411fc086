"""Evaluates SPF records: may an address send for a domain (RFC 7208)?"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from postoffice.model.dns_answer import Answer, Ask, NoSuchName

#: The results of an evaluation (RFC 7208 §2.6); UNKNOWN: the result depends on the message.
PASS, FAIL, SOFTFAIL, NEUTRAL, NONE, PERMERROR, UNKNOWN = (
    "pass", "fail", "softfail", "neutral", "none", "permerror", "unknown",
)  # fmt: skip
#: Lookups that an evaluation may take (RFC 7208 §4.6.4); hosts of an MX that are looked up.
LOOKUPS, HOSTS = 10, 10
_QUALIFIERS = {"+": PASS, "-": FAIL, "~": SOFTFAIL, "?": NEUTRAL}


class _Permanent(Exception):
    """The record is wrong; the text says why."""


class _Unknown(Exception):
    """The record has macros, which depend on the message."""


def spf_records(records: Sequence[bytes]) -> list[str]:
    """Return the SPF records among the TXT records of a name."""
    texts = [one.decode("ascii", "replace") for one in records]
    return [one for one in texts if one.lower() == "v=spf1" or one.lower().startswith("v=spf1 ")]


class Evaluation:
    """
    One evaluation for ``address``, over ``ask``.

    ``why`` says what is wrong with the record after PERMERROR.
    """

    def __init__(self, ask: Ask, address: str) -> None:
        self._ask = ask
        self._address = ip_address(address)
        self._lookups = 0
        self.why = ""

    async def result(self, domain: str) -> str:
        """Return one of the results above.  Raises DNSUnavailable."""
        try:
            return await self._check(domain)
        except _Permanent as error:
            self.why = str(error)
            return PERMERROR
        except _Unknown:
            return UNKNOWN

    async def _check(self, domain: str) -> str:
        outcome = await self._ask(domain, "TXT")
        found = spf_records(outcome.records) if isinstance(outcome, Answer) else []
        if not found:
            return NONE
        if len(found) > 1:
            raise _Permanent(f"{domain} has {len(found)} SPF records, where one is allowed")
        redirect = ""
        for term in found[0].split()[1:]:
            name, _, value = term.partition("=")
            if "=" in term and name.isalnum():
                redirect = value if name.lower() == "redirect" else redirect
            elif await self._matches(term.lstrip("+-~?"), domain):
                return _QUALIFIERS.get(term[0], PASS)
        if redirect:
            self._count(redirect)
            result = await self._check(redirect)
            if result == NONE:
                raise _Permanent(f"redirect={redirect} leads to no SPF record")
            return result
        return NEUTRAL

    def _count(self, name: str) -> None:
        if "%" in name:
            raise _Unknown
        self._lookups += 1
        if self._lookups > LOOKUPS:
            raise _Permanent(f"it takes more than {LOOKUPS} lookups")

    async def _matches(self, term: str, domain: str) -> bool:
        name, colon, value = term.partition(":")
        name, _, bits = name.partition("/")
        kind = name.lower()
        if kind == "all":
            return True
        if kind in ("ip4", "ip6") and colon:
            return self._within(value)
        host, _, given = value.partition("/") if colon else (domain, "", "")
        lengths = given if colon else bits
        if kind in ("a", "mx", "include", "exists"):
            self._count(host)
        if kind == "include":
            result = await self._check(host)
            if result == NONE:
                raise _Permanent(f"include:{host} leads to no SPF record")
            return result == PASS
        if kind == "exists":
            return isinstance(await self._ask(host, "A"), Answer)
        if kind == "a":
            return await self._is_of(host, lengths)
        if kind == "mx":
            outcome = await self._ask(host, "MX")
            hosts = [exchange for _, exchange in getattr(outcome, "records", ())]
            for one in hosts[:HOSTS]:
                if one and await self._is_of(one, lengths):
                    return True
            return False
        if kind == "ptr":
            raise _Unknown
        raise _Permanent(f"{term!r} is no mechanism")

    async def _is_of(self, host: str, lengths: str) -> bool:
        """Whether the address is in a prefix (24, 24//64, /64) around one of a host's addresses."""
        four, _, six = lengths.partition("//") if "//" in lengths else (lengths, "", "")
        four, six = ("", four[1:]) if four.startswith("/") else (four, six)
        kind, bits = ("A", four or "32") if self._address.version == 4 else ("AAAA", six or "128")
        outcome = await self._ask(host, kind)
        if isinstance(outcome, NoSuchName):
            return False
        return any(self._within(f"{one}/{bits}") for one in getattr(outcome, "records", ()))

    def _within(self, network: str) -> bool:
        try:
            found = ip_network(network, strict=False)
        except ValueError:
            raise _Permanent(f"{network!r} is no network") from None
        return found.version == self._address.version and self._address in found
