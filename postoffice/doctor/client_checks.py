"""Examines the DNS: whether mail programs find their settings there."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.dns.addresses import all_of, look_up
from postoffice.doctor.findings import Finding, Report
from postoffice.doctor.records import CLIENTS, DNSRecord
from postoffice.doctor.unanswered_lookups import unavailable
from postoffice.model.dns_answer import Ask, DNSUnavailable, Outcome


async def check_clients(ask: Ask, domain: str, records: Sequence[DNSRecord]) -> list[Finding]:
    """
    Examine by which of a domain's records mail programs find their settings.

    ``records`` are those that the DNS should have.  Records of services must be the same (RFC
    6186); the hosts ``autoconfig`` and ``autodiscover`` must have an address, of any server.
    """
    report = Report("dns", domain)
    ours = [one for one in records if one.purpose == CLIENTS]
    services = [one for one in ours if one.type == "SRV" and not one.value.endswith(" .")]
    missing = await _services(ask, report, services)
    missing += await _hosts(ask, report, [one for one in ours if one.type == "CNAME"])
    if missing:
        report.note(
            f"mail programs do not find the server by {', '.join(one.name for one in missing)}",
            f"add to the DNS: {'; '.join(one.line for one in missing)}",
        )
    elif ours and not report.findings:
        report.ok(f"mail programs find the server of {domain} (SRV records, autoconfig)")
    return report.findings


async def _services(ask: Ask, report: Report, records: Sequence[DNSRecord]) -> list[DNSRecord]:
    """Examine the SRV records; return those that are missing."""
    heard = await all_of([_heard(ask, one.name, "SRV") for one in records])
    missing = []
    for record, outcome in zip(records, heard, strict=True):
        values = [str(one).lower() for one in getattr(outcome, "records", ())]
        leads_here = any(_same_service(one, record.value) for one in values)
        if isinstance(outcome, DNSUnavailable):
            unavailable(report, record.name, str(outcome))
        elif values and not leads_here:
            report.warning(
                f"{record.name} leads mail programs to {values[0]}",
                f"change it in the DNS: {record.line}",
            )
        elif not values:
            missing.append(record)
    return missing


async def _hosts(ask: Ask, report: Report, records: Sequence[DNSRecord]) -> list[DNSRecord]:
    """Examine the names from which settings are fetched; return those without an address."""
    heard = await all_of([look_up(ask, one.name, (4, 6)) for one in records])
    missing = []
    for record, found in zip(records, heard, strict=True):
        if found.failures and not found.addresses:
            unavailable(report, record.name, ", ".join(dict.fromkeys(found.failures)))
        elif not found.addresses:
            missing.append(record)
    return missing


async def _heard(ask: Ask, name: str, kind: str) -> Outcome | DNSUnavailable:
    try:
        return await ask(name, kind)
    except DNSUnavailable as failure:
        return failure


def _same_service(found: str, value: str) -> bool:
    """Return whether two SRV records lead to the same port of the same host."""
    return found.split()[2:] == value.lower().split()[2:]
