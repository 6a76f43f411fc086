"""Runs the checks that ask the DNS and other servers, for the command and the web page."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut

from postoffice.config.outbound import FAMILIES
from postoffice.config.settings import Settings
from postoffice.dns.addresses import all_of, look_up
from postoffice.dns.mta_sts_fetch import PolicyFetcher
from postoffice.dns.resolver import Resolver
from postoffice.doctor.dns_checks import DNSExaminer, DomainKey
from postoffice.doctor.findings import Finding, Report
from postoffice.doctor.port_checks import check_way_out
from postoffice.doctor.public_site import DIRECT, PublicSite, site_of
from postoffice.doctor.unanswered_lookups import CountingResolver, too_slow
from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable
from postoffice.outbound.dkim import NotAKey
from postoffice.server.dkim_keys import ACTIVE, OLD, DKIMKeys
from postoffice.util.networks import local_addresses
from postoffice.util.reactor import IReactor

#: Domains that are examined at the same time, the seconds for one of them, and those for all.
TOGETHER, PATIENCE, IN_ALL = 50, 60.0, 120.0
#: Domains whose mail servers we try to reach on port 25.
TRIED = ("gmail.com", "outlook.com")


def site_here(settings: Settings) -> PublicSite:
    """Return what others see of this post office."""
    return site_of(settings, sorted(local_addresses()))


def resolver_of(reactor: IReactor, settings: Settings) -> Resolver:
    """Return a resolver that asks the servers of the configuration, or of this machine."""
    outbound = settings.outbound
    return Resolver(reactor, outbound.dns.servers if outbound else ())


async def check_dns(reactor: IReactor, settings: Settings, domains: Sequence[str]) -> list[Finding]:
    """Examine the host and as many of these domains as the time allows."""
    resolver = resolver_of(reactor, settings)
    site, outbound = site_here(settings), settings.outbound
    ca = outbound.tls.ca if outbound else None
    counting = CountingResolver(resolver.ask)
    fetcher = PolicyFetcher(reactor, resolver.ask, lambda _: True, ca=ca)
    examiner = DNSExaminer(counting.ask, site, bool(settings.listeners.smtp), fetcher.fetch)
    start = reactor.seconds()
    try:
        findings = await _in_time(reactor, site.hostname, examiner.host())
        for at in range(0, len(domains), TOGETHER):
            if reactor.seconds() - start > IN_ALL:
                report = Report("dns")
                left = len(domains) - at
                report.warning(
                    f"{left} domains were not examined: the DNS was too slow",
                    "postoffice doctor --only dns --domain DOMAIN examines one of them",
                )
                return [*findings, *report.findings]
            examined = await all_of(
                [
                    _in_time(reactor, one, _domain(examiner, settings.state, one))
                    for one in domains[at : at + TOGETHER]
                ]
            )
            findings += [finding for one in examined for finding in one]
            if counting.silent:
                return counting.merged(findings, outbound.dns.servers if outbound else ())
    finally:
        resolver.stop()
    return findings


async def _in_time(reactor: IReactor, what: str, examining: object) -> list[Finding]:
    try:
        found: list[Finding] = await Deferred.fromCoroutine(examining).addTimeout(  # type: ignore[arg-type]
            PATIENCE, reactor
        )
        return found
    except TimedOut:
        report = Report("dns", what)
        too_slow(report, what)
        return report.findings


async def _domain(examiner: DNSExaminer, state: str, domain: str) -> list[Finding]:
    report = Report("dns", domain)
    try:
        keys = domain_keys(state, domain)
    except (NotAKey, OSError) as error:
        report.error(f"the DKIM keys of {domain} cannot be read: {error}")
        keys = []
    return [*report.findings, *await examiner.domain(domain, keys)]


def domain_keys(state: str, domain: str) -> list[DomainKey]:
    """Read the DKIM keys that sign, or will sign.  It blocks.  Raises NotAKey, OSError."""
    keys = DKIMKeys(state)
    return [
        DomainKey(keys.key(domain, one.selector), one.state == ACTIVE)
        for one in keys.entries(domain)
        if one.state != OLD
    ]


async def check_outgoing(reactor: IReactor, settings: Settings) -> list[Finding]:
    """Check that other mail servers can be reached, if we send mail directly."""
    if settings.outbound is None or site_here(settings).sends != DIRECT:
        return []
    resolver = resolver_of(reactor, settings)
    families = FAMILIES[settings.outbound.ip][:1]
    try:
        found = await all_of([_first_host(resolver.ask, one, families) for one in TRIED])
    finally:
        resolver.stop()
    return check_way_out([pair for pair in found if pair is not None])


async def _first_host(ask: Ask, domain: str, families: Sequence[int]) -> tuple[str, str] | None:
    """Return the first mail server of a domain and its first address, if it has one."""
    try:
        outcome = await ask(domain, "MX")
    except DNSUnavailable:
        return None
    hosts = sorted(outcome.records) if isinstance(outcome, Answer) else []
    for _, host in hosts[:1]:
        addresses = (await look_up(ask, host, families)).addresses
        return (host, addresses[0]) if addresses else None
    return None
