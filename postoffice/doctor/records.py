"""The DNS records that a domain needs to get mail, to send mail, and to be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from ipaddress import ip_address

from postoffice.doctor.public_site import DIRECT, NOTHING, SMARTHOST, PublicSite
from postoffice.outbound.dkim import SigningKey, txt_strings

#: What records are for.
HOST, MX, SPF, DKIM, DMARC, MTA_STS, TLS_RPT, CLIENTS = (
    "host", "mx", "spf", "dkim", "dmarc", "mta-sts", "tls-rpt", "clients",
)  # fmt: skip
#: Seconds for which others keep our MTA-STS policy: a week.
POLICY_AGE = 7 * 86400
#: The services that mail programs look for, with names and priorities (RFC 6186, RFC 8314 §5.1):
#: implicit TLS comes first.
_LOOKED_FOR = (
    ("pop3s", "_pop3s._tcp", 0),
    ("pop3", "_pop3._tcp", 10),
    ("submissions", "_submissions._tcp", 0),
    ("submission", "_submission._tcp", 10),
)
_IMAP = ("_imaps._tcp", "_imap._tcp")
_PLACE = re.compile(r"<.*>\Z")


@dataclass(frozen=True, kw_only=True)
class DNSRecord:
    """
    One record; ``value`` is what people type at their DNS provider, without quotes around texts.

    ``purpose`` is one of HOST to CLIENTS.  Mail flows without records that are not ``needed``.
    """

    purpose: str
    name: str
    type: str
    value: str
    why: str
    needed: bool = True

    @property
    def complete(self) -> bool:
        """Whether the value can be copied; otherwise it says what belongs there."""
        return _PLACE.match(self.value) is None

    @property
    def line(self) -> str:
        """The record as a line of a zone file; a comment if the value is not complete."""
        value = txt_strings(self.value) if self.type == "TXT" else self.value
        start = "" if self.complete else "; "
        return f"{start}{self.name}. IN {self.type} {value}"

    def data(self) -> dict[str, object]:
        """Return the record for JSON."""
        return {**asdict(self), "complete": self.complete, "line": self.line}


def host_records(site: PublicSite) -> list[DNSRecord]:
    """Return the records of the machine itself, which all domains share."""
    host = site.hostname
    kinds = {4: "A", 6: "AAAA"}
    made = [
        DNSRecord(
            purpose=HOST,
            name=host,
            type=kinds[ip_address(address).version],
            value=address,
            why="Others find this machine by its name.",
        )
        for address in site.addresses
    ]
    if not made:
        made = [
            DNSRecord(
                purpose=HOST,
                name=host,
                type="A",
                value="<the public IPv4 address of this machine>",
                why="Others find this machine by its name. An IPv6 address is an AAAA record.",
            )
        ]
    return [*made, *_reverse(site), *_host_spf(site)]


def _reverse(site: PublicSite) -> list[DNSRecord]:
    """Return PTR records, which the provider sets; none if we do not send directly."""
    if site.sends != DIRECT:
        return []
    why = (
        "Many servers refuse mail from an address whose name does not lead back to it. "
        "The owner of the address sets this record: ask your provider for it."
    )
    return [
        DNSRecord(
            purpose=HOST,
            name=ip_address(address).reverse_pointer,
            type="PTR",
            value=f"{site.hostname}.",
            why=why,
        )
        for address in site.addresses
    ]


def _host_spf(site: PublicSite) -> list[DNSRecord]:
    if site.sends != DIRECT:
        return []
    why = "Bounces have no sender address; servers check the name that we say in EHLO instead."
    value = f"v=spf1 {_addresses(site) or 'a'} -all"
    return [
        DNSRecord(purpose=HOST, name=site.hostname, type="TXT", value=value, why=why, needed=False)
    ]


def domain_records(
    site: PublicSite, domain: str, keys: Sequence[SigningKey] = ()
) -> list[DNSRecord]:
    """
    Return the records of a domain (A-labels), the most important first.

    ``keys`` are its DKIM keys that sign or will sign.
    """
    return [
        _mx(site, domain),
        _spf(site, domain),
        *map(dkim_record, keys),
        _dmarc(domain, signs=bool(keys)),
        *_transport_security(site, domain),
        *_for_clients(site, domain),
    ]


def _mx(site: PublicSite, domain: str) -> DNSRecord:
    why = f"Mail for {domain} comes to this machine."
    return DNSRecord(purpose=MX, name=domain, type="MX", value=f"10 {site.hostname}.", why=why)


def _spf(site: PublicSite, domain: str) -> DNSRecord:
    sources = " ".join(filter(None, ("mx", _addresses(site) if site.sends == DIRECT else "")))
    last, why = "-all", f"Only this machine may send mail from {domain}."
    if site.sends == SMARTHOST:
        last = "~all"
        through = " and ".join(site.smarthosts) or "another server"
        why = (
            f"This machine may send mail from {domain}. It sends through {through}: "
            "add what its provider says, such as include:spf.provider.example, before ~all."
        )
    elif site.sends == NOTHING:
        last = "~all"
        why = (
            f"This machine may send mail from {domain}. It sends nothing to other domains now: "
            "add the servers that do, before ~all."
        )
    return DNSRecord(
        purpose=SPF, name=domain, type="TXT", value=f"v=spf1 {sources} {last}", why=why
    )


def _addresses(site: PublicSite) -> str:
    return " ".join(f"ip{ip_address(one).version}:{one}" for one in site.addresses)


def dkim_record(key: SigningKey) -> DNSRecord:
    """Return the record of a DKIM key."""
    why = f"Others check our {key.kind.upper()} signature with this key."
    return DNSRecord(purpose=DKIM, name=key.name, type="TXT", value=key.record, why=why)


def _dmarc(domain: str, *, signs: bool) -> DNSRecord:
    what = "quarantine" if signs else "none"
    why = (
        "Others put mail that only pretends to come from you into the junk folder, "
        "and report to the postmaster."
        if signs
        else "Others report to the postmaster who sends mail in your name. "
        "Make it p=quarantine when your mail is signed (postoffice dkim add)."
    )
    value = f"v=DMARC1; p={what}; rua=mailto:postmaster@{domain}"
    return DNSRecord(purpose=DMARC, name=f"_dmarc.{domain}", type="TXT", value=value, why=why)


def sts_policy(site: PublicSite, mode: str = "testing") -> str:
    """Return the MTA-STS policy of our domains (RFC 8461 §3.2), as its file has it."""
    fields = ("version: STSv1", f"mode: {mode}", f"mx: {site.hostname}", f"max_age: {POLICY_AGE}")
    return "".join(f"{field}\r\n" for field in fields)


def _transport_security(site: PublicSite, domain: str) -> list[DNSRecord]:
    """Records with which others refuse to send to us without TLS, and report failures."""
    name = sha256(sts_policy(site, "enforce").encode()).hexdigest()[:20]
    where = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    sts = (
        f"Others send to you with verified TLS only. A web server must have the policy at {where}; "
        "change the id with each change of the policy."
    )
    report = "Others report to the postmaster when TLS to this machine fails."
    return [
        DNSRecord(
            purpose=MTA_STS,
            name=f"_mta-sts.{domain}",
            type="TXT",
            value=f"v=STSv1; id={name}",
            why=sts,
            needed=False,
        ),
        DNSRecord(
            purpose=TLS_RPT,
            name=f"_smtp._tls.{domain}",
            type="TXT",
            value=f"v=TLSRPTv1; rua=mailto:postmaster@{domain}",
            why=report,
            needed=False,
        ),
    ]


def _for_clients(site: PublicSite, domain: str) -> Iterable[DNSRecord]:
    """Records by which mail programs find their settings."""
    for service, name, priority in _LOOKED_FOR:
        port = site.ports.get(service)
        if port:
            value = f"{priority} 1 {port} {site.hostname}."
            yield _client(f"{name}.{domain}", "SRV", value, "Mail programs find the server by it.")
    for name in _IMAP:
        yield _client(f"{name}.{domain}", "SRV", "0 0 0 .", "It says that there is no IMAP here.")
    why = "Mail programs fetch their settings from this name, by HTTPS."
    for name in ("autoconfig", "autodiscover"):
        yield _client(f"{name}.{domain}", "CNAME", f"{site.hostname}.", why)


def _client(name: str, kind: str, value: str, why: str) -> DNSRecord:
    return DNSRecord(purpose=CLIENTS, name=name, type=kind, value=value, why=why, needed=False)
