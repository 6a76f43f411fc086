"""The administrators' pages of domains and maildrops, and what becomes of an address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from postoffice.accounts.address_resolution import AliasLoop, NoPostmaster, Resolution, resolve, run
from postoffice.accounts.directories import Directories
from postoffice.doctor.dns_checks import DomainKey
from postoffice.doctor.dns_findings import domain_keys
from postoffice.doctor.findings import LEVELS, Finding
from postoffice.doctor.maildrop_owners import maildrop_of
from postoffice.doctor.records import domain_records, host_records
from postoffice.model.address import Account, Address, NotAnAddress, Quota
from postoffice.model.errors import PostOfficeError
from postoffice.outbound.dkim import NotAKey
from postoffice.outbound.routes import shown
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ADMINISTRATOR, Route
from postoffice.web.values import NotServed, Response
from postoffice.web.visit import Visit

#: Domains and maildrops that are shown.
DOMAINS, MAILDROPS = 500, 100
#: The orders of the table of maildrops.
LARGEST, OLDEST, UNOWNED = ORDERS = ("largest", "oldest", "unowned")


class AddressPages(PageGroup):
    """Domains with their DNS records, maildrops, and the way of an address."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/admin/domains", ADMINISTRATOR, self.domains),
            Route("GET", "/admin/domains/one", ADMINISTRATOR, self.domain),
            Route("GET", "/admin/domains/check", ADMINISTRATOR, self.check),
            Route("GET", "/admin/maildrops", ADMINISTRATOR, self.maildrops),
            Route("GET", "/admin/explain", ADMINISTRATOR, self.explain),
        )

    # -- domains -----------------------------------------------------------------------------

    async def domains(self, visit: Visit) -> Response:
        """List the domains."""
        found = await self._context.office.domains()
        return self._pages.page(
            visit, "admin/domains.html", domains=found[:DOMAINS], count=len(found)
        )

    async def _domain(self, visit: Visit) -> str:
        name = visit.request.asked("name").strip().lower()
        if name not in await self._context.office.domains():
            raise NotServed(404, "There is no domain of that name.")
        return name

    async def _keys(self, domain: str) -> tuple[list[DomainKey], str]:
        """Return the DKIM keys of a domain, and why they cannot be read."""
        office = self._context.office
        try:
            return await self._state.executor.run(domain_keys, office.settings.state, domain), ""
        except (NotAKey, OSError) as error:
            return [], str(error)

    async def domain(self, visit: Visit) -> Response:
        """Show the DNS records of a domain, to be copied."""
        office = self._context.office
        name = await self._domain(visit)
        keys, why = await self._keys(name)
        records = domain_records(office.site, name, [one.key for one in keys])
        checked = await self._checked(name) if visit.request.asked("check") else None
        return self._pages.page(
            visit, "admin/domain.html", name=name, records=records,
            shared=host_records(office.site), signs=any(one.active for one in keys), why=why,
            findings=checked,
        )  # fmt: skip

    async def check(self, visit: Visit) -> Response:
        """Examine the DNS of a domain: the part of its page that comes later."""
        name = await self._domain(visit)
        findings = await self._checked(name)
        return self._pages.page(visit, "admin/findings.html", findings=findings, name=name)

    async def _checked(self, name: str) -> list[Finding]:
        found = await self._context.office.check_domain(name)
        return sorted(found, key=lambda one: -LEVELS.index(one.level))

    # -- maildrops ---------------------------------------------------------------------------

    async def maildrops(self, visit: Visit) -> Response:
        """Show the largest maildrops, the oldest mail, or what no account can fetch."""
        office = self._context.office
        order = visit.request.asked("by")
        order = order if order in ORDERS else LARGEST
        table = await office.usage(fresh=bool(visit.request.asked("fresh")))
        rows = list(table.rows) if table is not None else []
        total = sum(one.octets for one, _ in rows)
        if order == UNOWNED:
            rows = [pair for pair in rows if pair[1].account is None]
        if order == OLDEST:
            rows = [pair for pair in rows if pair[0].oldest is not None]
            rows.sort(key=lambda pair: pair[0].oldest or 0.0)
        else:
            rows.sort(key=lambda pair: -pair[0].octets)
        return self._pages.page(
            visit, "admin/maildrops.html", rows=rows[:MAILDROPS], order=order, orders=ORDERS,
            count=len(rows), total=total, when=table.when if table is not None else None,
        )  # fmt: skip

    # -- what becomes of an address --------------------------------------------------------------

    async def explain(self, visit: Visit) -> Response:
        """Show what happens to mail for an address, rule by rule, and where it goes."""
        text = visit.request.asked("address").strip()
        steps: list[tuple[str, str]] = []
        why = ""
        if text:
            try:
                steps = await self._steps(Address.parse(text))
            except NotAnAddress as error:
                why = str(error)
        return self._pages.page(visit, "admin/explain.html", text=text, steps=steps, why=why)

    async def _steps(self, address: Address) -> list[tuple[str, str]]:
        office = self._context.office
        directory = Directories(office.directories)
        if not await directory.serves(address.domain.lower()):
            return [("domain", f"{address.domain} is not ours"), ("route", self._route(address))]
        try:
            postmaster = office.settings.postmaster.normal
            answer = run(resolve(address.normal, postmaster), directory.look_up)
            found = answer if isinstance(answer, Resolution) else await answer
        except (AliasLoop, NoPostmaster, PostOfficeError) as failure:
            return [("failed", str(failure))]
        steps = [
            (rule.rule, f"{'  ' * rule.depth}{rule.address}: {rule.found}") for rule in found.steps
        ]
        steps += [("refused", f"{one.address}: {one.reply.log_text}") for one in found.refused]
        steps += [("remote", f"{one}: {self._route(one)}") for one in found.remote]
        steps += [("discarded", name) for name in found.discarded]
        for account in found.accounts:
            steps += [("maildrop", account.maildrop), ("room", await self._room(account))]
        return steps

    async def _room(self, account: Account) -> str:
        """Return whether there is room in a maildrop, in words."""
        office = self._context.office
        quota = maildrop_of(office.settings, account).quota or Quota()
        try:
            messages, octets = await office.store.count(account.maildrop)
            if quota.limited:
                await office.store.admit(replace(account, quota=quota), 0)
        except PostOfficeError as failure:
            return f"no: {failure}"
        share = quota.share(octets, messages)
        used = "" if share is None else f", {int(100 * share)} % of the quota"
        return f"yes: it holds {messages} messages, {octets} octets{used}"

    def _route(self, address: Address) -> str:
        """Return the next hop of mail for an address in another domain, in words."""
        outbound = self._context.office.settings.outbound
        if outbound is None:
            return "refused: the configuration has no outbound"
        return shown(outbound.router().route("", str(address)))
