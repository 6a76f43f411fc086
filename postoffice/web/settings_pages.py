"""Settings that an owner can read: how long mail is kept, and how mail programs connect."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.model.address import Address, NotAnAddress
from postoffice.web import mail_programs
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ANYONE, OWNER, Route
from postoffice.web.values import NotServed, Response
from postoffice.web.visit import Visit

XML = "text/xml; charset=utf-8"


class SettingsPages(PageGroup):
    """The pages that explain settings, and the answers for mail programs."""

    def routes(self) -> Sequence[Route]:
        autoconfig = ("/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml")
        discover = ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml")
        return (
            Route("GET", "/kept", OWNER, self.kept),
            Route("GET", "/programs", OWNER, self.programs),
            *(Route("GET", path, ANYONE, self.autoconfig, public=True) for path in autoconfig),
            *(Route("POST", path, ANYONE, self.autodiscover, public=True) for path in discover),
        )

    async def kept(self, visit: Visit) -> Response:
        """Tell how long mail is kept, in words."""
        policy = self._context.mail_policy_of(visit.owner)
        quota = self._context.quota_of(visit.owner)
        undelete = self._context.undelete
        return self._pages.page(visit, "kept.html", policy=policy, quota=quota, undelete=undelete)

    async def programs(self, visit: Visit) -> Response:
        """Show the settings for mail programs."""
        found = self._context.accesses
        return self._pages.page(
            visit,
            "programs.html",
            fetching=[one for one in found if one.fetches],
            sending=[one for one in found if not one.fetches],
        )

    async def autoconfig(self, visit: Visit) -> Response:
        """Answer Thunderbird: it asks at autoconfig.DOMAIN, or at DOMAIN itself."""
        asked = visit.request.asked("emailaddress")
        domain = _domain(asked) if asked else visit.request.host.removeprefix("autoconfig.")
        await self._check_ours(domain)
        return Response(200, mail_programs.autoconfig(domain, self._best()), XML)

    async def autodiscover(self, visit: Visit) -> Response:
        """Answer Outlook, for any address in a domain of ours, with an account or without."""
        address = mail_programs.asked_address(visit.request.body)
        await self._check_ours(_domain(address))
        return Response(200, mail_programs.autodiscover(address, self._best()), XML)

    async def _check_ours(self, domain: str) -> None:
        if not domain or not await self._context.directory.serves(domain):
            raise NotServed(404, "There is no such page.")

    def _best(self) -> list[mail_programs.Access]:
        """Return the best way to fetch mail and the best to send it."""
        found = self._context.accesses
        ways = [[one for one in found if one.fetches is way] for way in (True, False)]
        return [way[0] for way in ways if way]


def _domain(address: str) -> str:
    """Return the domain of an address in normal form, or ""."""
    try:
        return Address.parse(address).normal.rpartition("@")[2]
    except NotAnAddress:
        return ""
