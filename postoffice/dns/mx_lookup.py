"""Looks up the hosts of a domain (RFC 5321 §5.1), and their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from twisted.names.hosts import searchFileForAll
from twisted.python.filepath import FilePath

from postoffice.dns.addresses import Addresses, all_of, look_up
from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable, NoSuchName
from postoffice.model.hop import Hop
from postoffice.outbound import mail_hosts as rules
from postoffice.outbound.mail_hosts import HostRules, MailHosts, Shuffle


class MXLookup:
    """
    Finds the hosts of a domain by its MX records, and their addresses, over ``ask``.

    ``shuffle`` puts a list in random order, in place.  ``hosts`` is the path of hosts(5).
    """

    def __init__(
        self, ask: Ask, host_rules: HostRules, shuffle: Shuffle, hosts: str = "/etc/hosts"
    ) -> None:
        self._ask = ask
        self._hosts = hosts
        self._rules = host_rules
        self._families = host_rules.families
        self._own = frozenset(host_rules.own_addresses)
        self._shuffle = shuffle

    async def hosts(self, domain: str) -> MailHosts:
        """Look up the hosts of a domain, without their addresses.  Raises NoMailHosts."""
        literal = rules.read_literal(domain, self._rules)
        if literal is not None:
            return literal
        try:
            domain = normal_domain(domain)
        except NotAnAddress:
            raise rules.no_such_domain(domain) from None
        rules.check_domain(domain)
        try:
            outcome = await self._ask(domain, "MX")
        except DNSUnavailable as failure:
            raise rules.unavailable(domain, failure) from failure
        if isinstance(outcome, NoSuchName):
            raise rules.no_such_domain(domain)
        records = outcome.records if isinstance(outcome, Answer) else ((0, domain),)
        groups = rules.rank(domain, records, self._rules, self._shuffle)
        return MailHosts(domain=domain, groups=groups, secure=outcome.secure)

    async def hops(self, hosts: MailHosts) -> list[Hop]:
        """Look up the addresses, until there are enough.  Raises NoMailHosts."""
        if hosts.address:
            return [Hop(host=hosts.domain, address=hosts.address)]
        found: list[Addresses] = []
        own = False
        for group in hosts.groups:
            looked_up = await all_of([self._addresses(host) for host in group])
            own = any(map(self._is_own, looked_up))
            if own:
                break
            found += looked_up
            if self._enough(found):
                break
        return self._chosen(hosts, found, own)

    async def fixed(self, host: str, port: int) -> list[Hop]:
        """
        Look up the addresses of a host that the administrator names: it may be anywhere.

        Raises NoMailHosts.
        """
        addresses = self._literal_or_local(host)
        if not addresses:
            found = await self._addresses(host.lower())
            addresses = found.addresses
            if not addresses and found.failures:
                raise rules.unavailable(host, ", ".join(found.failures))
        chosen = rules.choose([(host, addresses)], self._rules.families)
        if not chosen:
            raise rules.no_address(host)
        return [Hop(host=host, address=address, port=port) for _, address in chosen]

    def _literal_or_local(self, host: str) -> tuple[str, ...]:
        """The address that a host is, or those in /etc/hosts; none if the DNS has to tell."""
        try:
            return (str(ip_address(host)),)
        except ValueError:
            file = FilePath(self._hosts)
            found = searchFileForAll(file, host.encode())  # type: ignore[no-untyped-call]
            return tuple(found)

    def _chosen(self, hosts: MailHosts, found: Sequence[Addresses], own: bool) -> list[Hop]:
        secure = {one.host for one in found if hosts.secure and one.secure}
        chosen = rules.choose([(one.host, self._shuffled(one)) for one in found], self._families)
        failures = [failure for one in found for failure in one.failures]
        if chosen:
            return [
                Hop(host=host, address=address, secure=host in secure) for host, address in chosen
            ]
        if failures:
            raise rules.unavailable(hosts.domain, ", ".join(failures))
        raise rules.loops(hosts.domain) if own else rules.no_address(hosts.domain)

    def _enough(self, found: Sequence[Addresses]) -> bool:
        """Whether enough addresses are known, and of each family enough."""
        usable = [address for one in found for address in self._usable(one)]
        of_six = sum(":" in address for address in usable)
        least = min(of_six, len(usable) - of_six) if len(self._families) > 1 else len(usable)
        return len(usable) >= rules.ADDRESSES and least >= rules.ADDRESSES // 2

    def _usable(self, one: Addresses) -> list[str]:
        return [address for address in one.addresses if self._rules.usable(address)]

    def _shuffled(self, one: Addresses) -> list[str]:
        """Return usable addresses in random order, as those in our cache always have one order."""
        usable = self._usable(one)
        self._shuffle(usable)
        return usable

    def _is_own(self, one: Addresses) -> bool:
        """Whether a host is this machine: then neither it nor less preferred ones are tried."""
        return not self._own.isdisjoint(one.addresses)

    async def _addresses(self, host: str) -> Addresses:
        return await look_up(self._ask, host, self._families)
