"""MTA-STS policies (RFC 8461): reads them, and checks hosts against them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Octets of a policy, and seconds for which it holds, at most (RFC 8461 §3.2, §3.3).
MOST, LONGEST = 64 << 10, 31557600
#: The modes: hosts must match the policy; a host that does not is only logged; no policy.
ENFORCE, TESTING, NONE = MODES = ("enforce", "testing", "none")

_RECORD = re.compile(rb"v=STSv1[ \t]*;")
_ID = re.compile(rb"[A-Za-z0-9]{1,32}\Z")
_PATTERN = re.compile(r"(?:\*\.)?(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\Z")


class BadPolicy(ValueError):
    """A policy cannot be read."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    The policy of a domain for those who send mail to it.

    ``mx`` are host names, or patterns: ``*.`` and a domain, for names with one label more.  The
    policy is in force for ``max_age`` seconds.  ``id`` is its id in the domain's TXT record.
    """

    mode: str
    mx: tuple[str, ...]
    max_age: int
    id: str = ""

    def fits(self, host: str) -> bool:
        """Whether mail may go to this host (RFC 8461 §4.1)."""
        host = host.lower().rstrip(".")
        label, _, rest = host.partition(".")
        return host in self.mx or (bool(label) and f"*.{rest}" in self.mx)


def read_records(records: Sequence[bytes]) -> str | None:
    """
    Read the TXT records of ``_mta-sts.DOMAIN``: the policy's id; None if it has no policy.

    Records of other kinds are ignored; two records of this kind count as none (RFC 8461 §3.1).
    """
    found = [record for record in records if _RECORD.match(record)]
    if len(found) != 1:
        return None
    for field in found[0].split(b";")[1:]:
        name, _, value = field.strip(b" \t").partition(b"=")
        if name == b"id":
            return value.decode("ascii") if _ID.match(value) else None
    return None


def read_policy(octets: bytes, id: str = "") -> Policy:  # noqa: A002
    """Read a policy file (RFC 8461 §3.2).  Raises BadPolicy."""
    if len(octets) > MOST:
        raise BadPolicy(f"over {MOST} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPolicy("not UTF-8") from error
    fields: dict[str, str] = {}
    mx: list[str] = []
    for line in re.split(r"\r?\n", text):
        name, colon, value = (part.strip(" \t") for part in line.partition(":"))
        if name == "mx" and colon:
            mx.append(_pattern(value))
        elif colon:
            fields.setdefault(name, value)  # of a field that occurs twice, the first counts
        elif name:
            raise BadPolicy(f"{name[:40]!r} has no colon")
    if fields.get("version") != "STSv1":
        raise BadPolicy("its version is not STSv1")
    if (mode := fields.get("mode")) not in MODES:
        raise BadPolicy(f"mode is not one of {', '.join(MODES)}")
    if not re.fullmatch("[0-9]{1,10}", age := fields.get("max_age", ""), re.ASCII):
        raise BadPolicy("max_age is no number of seconds")
    if not mx and mode != NONE:
        raise BadPolicy("it names no mx")
    return Policy(mode, tuple(dict.fromkeys(mx)), min(int(age), LONGEST), id)


def _pattern(value: str) -> str:
    pattern = value.lower().removesuffix(".")
    if not _PATTERN.match(pattern):
        raise BadPolicy(f"mx {value[:80]!r} is no host name")
    return pattern
