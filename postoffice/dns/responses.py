"""Queries to DNS servers, and the meaning of their responses; without I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.message import Message, QueryMessage
from dns.name import Name
from dns.rdatatype import RdataType

from postoffice.model.dns_answer import Answer, DNSUnavailable, NoData, NoSuchName, Outcome

#: Octets of a response at most: to read it keeps the reactor for some 4 µs an octet.
MOST = 16 << 10


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What one response says.

    ``outcome`` is None if it ends with an alias: then ``name`` is what to ask for next.  It can be
    cached for ``ttl`` seconds.
    """

    outcome: Outcome | None
    name: Name
    ttl: int
    aliases: int
    secure: bool


def query(name: Name, kind: RdataType, id: int) -> Message:  # noqa: A002
    """
    Make a query for a server that resolves for us.

    AD asks for the AD bit (RFC 6840 §5.7); responses over UDP have at most 1232 octets, which
    no network cuts into fragments.
    """
    flags = dns.flags.RD | dns.flags.AD
    return dns.message.make_query(name, kind, use_edns=0, payload=1232, flags=flags, id=id)


def wire_name(name: str) -> Name | None:
    """The name as it is sent; None if no name in the DNS can be like this."""
    try:
        return Name([label.encode("ascii") for label in name.split(".")] + [b""])
    except (UnicodeEncodeError, dns.exception.DNSException):
        return None


def parse(octets: bytes, asked: Message) -> Message | None:
    """Read what came; None if it is no response to this query.  Raises DNSUnavailable."""
    if octets[:2] != asked.id.to_bytes(2, "big"):
        return None
    if len(octets) > MOST:
        raise DNSUnavailable(f"a response of over {MOST} octets")
    try:
        response = dns.message.from_wire(octets, raise_on_truncation=False)
        return response if asked.is_response(response) else None
    except Exception as error:  # dnspython's errors, and its bugs
        raise DNSUnavailable(f"malformed response ({type(error).__name__})") from error


def read(response: Message, trusted: bool) -> Reading:
    """
    Tell what a response says.  Raises DNSUnavailable.

    ``trusted``: its AD bit counts.
    """
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise DNSUnavailable(dns.rcode.to_text(code))
    if response.flags & dns.flags.TC:
        raise DNSUnavailable("truncated even over TCP")
    assert isinstance(response, QueryMessage)  # it has the opcode of our query
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:
        raise DNSUnavailable(f"malformed response ({type(error).__name__})") from error
    name, ttl, aliases = chain.canonical_name, int(chain.minimum_ttl), len(chain.cnames)
    text, secure = _text(name), bool(trusted and response.flags & dns.flags.AD)
    outcome: Outcome | None
    if chain.answer is not None:
        outcome = Answer(tuple(plain(record) for record in chain.answer), text, secure)
    elif code == dns.rcode.NXDOMAIN:
        _check_lame(response)
        outcome = NoSuchName(text, secure)
    elif aliases and not _authorities(response, RdataType.SOA):
        outcome = None
    else:
        _check_lame(response)
        outcome = NoData(text, secure)
    return Reading(outcome, name, ttl, aliases, secure)


def _check_lame(response: Message) -> None:
    """
    Raise DNSUnavailable if a server that finds nothing is not one to ask.

    It refers us to others (RFC 2308 §2.2), or neither resolves names nor has the zone.
    """
    referral = _authorities(response, RdataType.NS) and not _authorities(response, RdataType.SOA)
    if not response.flags & dns.flags.AA and (referral or not response.flags & dns.flags.RA):
        raise DNSUnavailable("lame: the server does not resolve names for us")


def _authorities(response: Message, kind: RdataType) -> bool:
    return any(records.rdtype == kind for records in response.authority)


def _text(name: Name) -> str:
    return name.to_text(omit_final_dot=True).lower().rstrip(".")


#: How a record becomes a plain value.
_PLAIN: dict[RdataType, Callable[[Any], Any]] = {
    RdataType.A: lambda record: record.address,
    RdataType.AAAA: lambda record: record.address,
    RdataType.MX: lambda record: (record.preference, _text(record.exchange)),
    RdataType.TXT: lambda record: b"".join(record.strings),
    RdataType.TLSA: lambda record: (record.usage, record.selector, record.mtype, record.cert),
    RdataType.CNAME: lambda record: _text(record.target),
    RdataType.PTR: lambda record: _text(record.target),
}


def plain(record: Any) -> Any:
    """The value of a record, as ``Answer`` has it."""
    return _PLAIN.get(record.rdtype, str)(record)
