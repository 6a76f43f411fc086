"""Examines the DNS: whether mail for our domains comes here, and whether others trust our mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from postoffice.dns.addresses import all_of, look_up
from postoffice.doctor import records as wanted
from postoffice.doctor import spf
from postoffice.doctor.client_checks import check_clients
from postoffice.doctor.findings import Finding, Report
from postoffice.doctor.public_site import DIRECT, NOTHING, SMARTHOST, PublicSite
from postoffice.doctor.records import DNSRecord
from postoffice.doctor.unanswered_lookups import unavailable
from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable, NoSuchName
from postoffice.outbound.dkim import SigningKey, same_record
from postoffice.outbound.mta_sts import ENFORCE, Policy, read_records

#: Fetches the MTA-STS policy of a domain; it must have this id.  Raises if it cannot.
Fetch = Callable[[str, str], Awaitable[Policy]]


@dataclass(frozen=True)
class DomainKey:
    """A DKIM key of a domain; ``active``: it signs."""

    key: SigningKey
    active: bool


@dataclass(frozen=True)
class DNSExaminer:
    """
    Examines names with ``ask``, whose look-ups always end.

    ``receives``: other servers deliver to us (SMTP listens), not to a server in front of us.
    ``fetch`` fetches MTA-STS policies; without it they are not examined.
    """

    ask: Ask
    site: PublicSite
    receives: bool = True
    fetch: Fetch | None = None

    async def host(self) -> list[Finding]:
        """Examine the name and the addresses of this machine."""
        host = self.site.hostname
        report = Report("dns", host)
        if "." not in host:
            report.error(
                f"the hostname {host} is no full name: other servers cannot find it",
                "set hostname: in the configuration to the name of this machine in the DNS, "
                "such as mail.example.net",
            )
            return report.findings
        found = await look_up(self.ask, host, (4, 6))
        if found.addresses:
            self._compare(report, found.addresses)
        elif found.failures:
            unavailable(report, f"the addresses of {host}", ", ".join(found.failures))
        else:
            report.error(
                f"{host} has no address in the DNS",
                f"add to the DNS an A record of {host} with the public address of this machine",
            )
        if self.site.sends == DIRECT:
            public = dict.fromkeys([*found.addresses, *self.site.addresses])
            ours = [one for one in public if ip_address(one).is_global]
            reports = await all_of([self._reverse(one) for one in ours])
            report.findings += [finding for one in reports for finding in one]
        return report.findings

    def _compare(self, report: Report, addresses: Sequence[str]) -> None:
        """Compare the addresses in the DNS with those that we know of."""
        told = ", ".join(addresses)
        if not self.site.addresses or set(addresses) & set(self.site.addresses):
            report.ok(f"{report.where} has the address {told}")
        elif all(not ip_address(one).is_global for one in addresses):
            report.warning(
                f"{report.where} has only the address {told}, which is not public",
                "give the name its public address; mail from outside cannot come otherwise",
            )
        else:
            report.note(
                f"{report.where} has the address {told}, which is none of this machine",
                "if a router translates it, name it under outbound: addresses:",
            )

    async def _reverse(self, address: str) -> list[Finding]:
        """Examine the name of an address, and whether it leads back (RFC 8601 §3)."""
        host, name = self.site.hostname, ip_address(address).reverse_pointer
        report = Report("dns", address)
        mend = f"ask the provider of the address for this record: {name}. IN PTR {host}."
        try:
            outcome = await self.ask(name, "PTR")
        except DNSUnavailable as error:
            unavailable(report, f"the name of {address}", str(error))
            return report.findings
        names = outcome.records if isinstance(outcome, Answer) else ()
        if host in names:
            report.ok(f"the address {address} has the name {host}")
        elif not names:
            report.error(
                f"the address {address} has no name in the DNS (PTR): "
                "many servers refuse mail from it",
                mend,
            )
        else:
            back = await look_up(self.ask, names[0], (4, 6))
            if address in back.addresses:
                report.note(f"the address {address} has the name {names[0]}, not {host}", mend)
            else:
                report.warning(
                    f"the address {address} has the name {names[0]}, which does not lead back "
                    "to it: many servers refuse mail from it",
                    mend,
                )
        return report.findings

    async def domain(self, domain: str, keys: Sequence[DomainKey] = ()) -> list[Finding]:
        """Examine a domain of ours (A-labels), with its DKIM keys that sign or will sign."""
        records = wanted.domain_records(self.site, domain, [one.key for one in keys])
        named = {one.purpose: one for one in records}
        checks = [
            self._mx(domain, named[wanted.MX]),
            self._spf(domain, named[wanted.SPF]),
            self._dkim(domain, keys),
            self._dmarc(domain, named[wanted.DMARC]),
            self._mta_sts(domain, named[wanted.MTA_STS]),
            self._optional(domain, named[wanted.TLS_RPT], "reports of failed TLS (TLS-RPT)"),
            check_clients(self.ask, domain, records),
        ]
        return [finding for one in await all_of(checks) for finding in one]

    # -- one record -------------------------------------------------------------------

    async def _mx(self, domain: str, record: DNSRecord) -> list[Finding]:
        report = Report("dns", domain)
        try:
            outcome = await self.ask(domain, "MX")
        except DNSUnavailable as error:
            unavailable(report, f"the MX records of {domain}", str(error))
            return report.findings
        mend = f"add to the DNS: {record.line}"
        if isinstance(outcome, NoSuchName):
            report.error(f"there is no domain {domain} in the DNS", f"register it, and {mend}")
        elif not isinstance(outcome, Answer):
            report.error(f"{domain} has no MX record: mail for it may not come here", mend)
        else:
            hosts = [host for _, host in sorted(outcome.records)]
            ours = [host for host in hosts if await self._is_ours(host)]
            others = [host for host in hosts if host not in ours]
            self._judge_mx(report, hosts, ours, others, mend)
        return report.findings

    def _judge_mx(
        self, report: Report, hosts: list[str], ours: list[str], others: list[str], mend: str
    ) -> None:
        domain = report.where
        if hosts == [""]:
            report.error(f"the MX record of {domain} says that it takes no mail", mend)
        elif ours and others:
            report.note(
                f"mail for {domain} comes here, and to {', '.join(others)}",
                "the other servers must pass it on to this one",
            )
        elif ours:
            report.ok(f"mail for {domain} comes here (MX {', '.join(ours)})")
        elif not self.receives:
            report.note(f"mail for {domain} comes to {', '.join(others)}, which passes it on to us")
        else:
            report.error(f"mail for {domain} goes to {', '.join(others)}, not here", mend)

    async def _is_ours(self, host: str) -> bool:
        """Return whether a host is this machine, by name or by address."""
        if host == self.site.hostname:
            return True
        if not host or not self.site.addresses:
            return False
        found = await look_up(self.ask, host, (4, 6))
        return bool(set(found.addresses) & set(self.site.addresses))

    async def _spf(self, domain: str, record: DNSRecord) -> list[Finding]:
        report = Report("dns", domain)
        try:
            texts = spf.spf_records(await self._texts(domain))
            if len(texts) == 1:
                await self._judge_spf(report, texts[0])
        except DNSUnavailable as error:
            unavailable(report, f"the SPF record of {domain}", str(error))
            return report.findings
        if not texts:
            add = f"add to the DNS: {record.line}"
            report.warning(f"{domain} has no SPF record: anybody can write in its name", add)
        elif len(texts) > 1:
            report.error(
                f"{domain} has {len(texts)} SPF records, so none counts",
                f"keep one, such as {record.line}",
            )
        return report.findings

    async def _judge_spf(self, report: Report, text: str) -> None:
        domain = report.where
        if self.site.sends != DIRECT:
            report.ok(f"{domain} has an SPF record")
            if self.site.sends == SMARTHOST:
                report.note(
                    f"its mail leaves through {', '.join(self.site.smarthosts)}: whether SPF "
                    f"allows that, only its provider knows ({text})"
                )
            return
        found = await look_up(self.ask, self.site.hostname, (4, 6))
        addresses = [*dict.fromkeys([*found.addresses, *self.site.addresses])]
        for address in filter(lambda one: ip_address(one).is_global, addresses):
            evaluation = spf.Evaluation(self.ask, address)
            result = await evaluation.result(domain)
            if result == spf.PERMERROR:
                report.error(f"the SPF record of {domain} is wrong: {evaluation.why}", text)
                return
            if result == spf.PASS:
                report.ok(f"SPF lets {address} send for {domain}")
            elif result == spf.UNKNOWN:
                report.note(f"whether SPF lets {address} send for {domain} depends on the message")
            else:
                kind = f"ip{ip_address(address).version}:{address}"
                report.error(
                    f"SPF does not let {address} send for {domain} ({result}): mail is refused "
                    "or put into the junk folder",
                    f"add {kind} to the record, before its last word: {text}",
                )

    async def _dkim(self, domain: str, keys: Sequence[DomainKey]) -> list[Finding]:
        report = Report("dns", domain)
        if not keys and self.site.sends != NOTHING:
            report.warning(
                f"mail from {domain} is not signed (DKIM): many servers trust it less",
                f"postoffice dkim add {domain}",
            )
        for one in keys:
            await self._one_key(report, one)
        return report.findings

    async def _one_key(self, report: Report, one: DomainKey) -> None:
        key, domain = one.key, report.where
        texts = await self._texts_of(key.name, report, f"the DKIM record {key.name}")
        if texts is None:
            return
        mend = f"add to the DNS: {wanted.dkim_record(key).line}"
        if any(same_record(text, key.record) for text in texts):
            if one.active:
                report.ok(f"the DKIM record of the key {key.selector} of {domain} is right")
            else:
                report.warning(
                    f"the DKIM record of the new key {key.selector} is there, but the key does "
                    "not sign yet",
                    f"postoffice dkim check {domain}",
                )
            return
        how = "wrong" if texts else "missing"
        if one.active:
            report.error(
                f"the DKIM record of the key {key.selector} of {domain} is {how}: "
                "its signatures are not valid for others",
                mend,
            )
        else:
            report.warning(
                f"the DKIM record of the new key {key.selector} of {domain} is {how}: "
                "it does not sign yet",
                f"{mend} then: postoffice dkim check {domain}",
            )

    async def _dmarc(self, domain: str, record: DNSRecord) -> list[Finding]:
        report = Report("dns", domain)
        texts = await self._texts_of(record.name, report, f"the DMARC record of {domain}")
        if texts is None:
            return report.findings
        found = [one for one in texts if one.replace(b" ", b"").lower().startswith(b"v=dmarc1")]
        if not found:
            report.warning(f"{domain} has no DMARC record", f"add to the DNS: {record.line}")
        elif len(found) > 1:
            report.error(f"{domain} has {len(found)} DMARC records, so none counts", "keep one")
        elif b"p=none" in found[0].replace(b" ", b"").lower():
            report.note(
                f"DMARC of {domain} only watches (p=none)",
                "when its mail is signed, make it p=quarantine or p=reject",
            )
        else:
            report.ok(f"{domain} has a DMARC record")
        return report.findings

    async def _mta_sts(self, domain: str, record: DNSRecord) -> list[Finding]:
        report = Report("dns", domain)
        texts = await self._texts_of(record.name, report, f"the MTA-STS record of {domain}")
        if texts is None:
            return report.findings
        name = read_records(texts)
        if name is None:
            report.note(f"{domain} does not ask others for TLS (MTA-STS)", record.why)
        elif self.fetch is None:
            report.ok(f"{domain} has an MTA-STS record")
        else:
            await self._policy(report, name, self.fetch)
        return report.findings

    async def _policy(self, report: Report, name: str, fetch: Fetch) -> None:
        domain, host = report.where, self.site.hostname
        where = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        try:
            policy = await fetch(domain, name)
        except Exception as error:  # of the network, TLS or HTTP; the text says which
            report.error(
                f"the MTA-STS policy of {domain} cannot be fetched: {error}",
                f"put the policy at {where}, or remove the record _mta-sts.{domain}",
            )
            return
        if policy.fits(host):
            report.ok(f"the MTA-STS policy of {domain} names {host} ({policy.mode})")
        else:
            level = report.error if policy.mode == ENFORCE else report.warning
            level(
                f"the MTA-STS policy of {domain} does not name {host}: others refuse to deliver",
                f"add the line mx: {host} to {where}, and change the id of _mta-sts.{domain}",
            )

    async def _optional(self, domain: str, record: DNSRecord, what: str) -> list[Finding]:
        report = Report("dns", domain)
        texts = await self._texts_of(record.name, report, record.name)
        if texts:
            report.ok(f"{domain} asks for {what}")
        elif texts is not None:
            report.note(f"{domain} does not ask for {what}", f"add to the DNS: {record.line}")
        return report.findings

    async def _texts_of(self, name: str, report: Report, what: str) -> Sequence[bytes] | None:
        """Return the TXT records of a name; report it and return None if there is no answer."""
        try:
            return await self._texts(name)
        except DNSUnavailable as error:
            unavailable(report, what, str(error))
            return None

    async def _texts(self, name: str) -> Sequence[bytes]:
        outcome = await self.ask(name, "TXT")
        return outcome.records if isinstance(outcome, Answer) else ()
