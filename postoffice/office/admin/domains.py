"""``postoffice domain``: whose mail is ours."""

from __future__ import annotations

import click

from postoffice.address import Quota
from postoffice.errors import NotEmpty
from postoffice.office.admin.desk import DOMAIN, Answer, Desk, Refused, command, counted, table
from postoffice.office.admin.quotas import (
    HEADS,
    Told,
    asks_for_change,
    changed,
    default_option,
    quota_options,
    told_of_domain,
)
from postoffice.office.rooms import Rooms


@click.group()
def domain() -> None:
    """The domains whose mail is taken in."""


@command("add", domain)
@click.argument("domain", type=DOMAIN)
@quota_options
def add(desk: Desk, domain: str, quota: Quota) -> Answer:
    """
    Take in mail for the accounts of DOMAIN from now on.

    A quota is for each of its accounts that has none of its own.

    With --json: domain, added.
    """

    async def work(rooms: Rooms) -> None:
        if not await rooms.register.add_domain(domain):
            raise Refused(f"{domain} is here already")
        if quota != Quota():
            await rooms.register.set_domain_quota(domain, quota)

    desk.ask(work)
    return Answer({"domain": domain, "added": True}, [f"{domain} is added"])


@command("list", domain)
def list_(desk: Desk) -> Answer:
    """
    All domains, how many accounts each has, and what each of those may hold.

    FROM is who says so: the domain, or the configuration (default).

    With --json: domains, each with domain, accounts, quota (octets, messages,
    over) and quota_from (who says each of them).
    """
    settings = desk.settings()

    async def work(rooms: Rooms) -> list[tuple[str, int, Told]]:
        found = []
        for name in await rooms.register.domains():
            accounts = len(await rooms.register.accounts(name))
            found.append((name, accounts, await told_of_domain(rooms.register, settings, name)))
        return found

    found = desk.ask(work, settings)
    rows = [("DOMAIN", "ACCOUNTS", *HEADS)]
    rows += [(name, str(accounts), *told.cells) for name, accounts, told in found]
    data = [{"domain": name, "accounts": number, **told.data} for name, number, told in found]
    return Answer({"domains": data}, table(rows))


@command("set", domain)
@click.argument("domain", type=DOMAIN)
@quota_options
@default_option("As the configuration says.")
def set_(desk: Desk, domain: str, quota: Quota, default_quota: bool) -> Answer:
    """
    Change what each account of DOMAIN may hold that has no quota of its own.

    What is not given stays as it is.

    With --json: domain, changed, quota and quota_from (as list has them).
    """
    if not asks_for_change(quota, default_quota):
        raise click.UsageError("give one of --quota, --quota-messages, --over, --default-quota")
    settings = desk.settings()

    async def work(rooms: Rooms) -> Told:
        known = await rooms.register.domain_quota(domain)
        if known is None:
            raise Refused(f"there is no domain {domain} here")
        await rooms.register.set_domain_quota(domain, changed(known, quota))
        return await told_of_domain(rooms.register, settings, domain)

    told = desk.ask(work, settings)
    data = {"domain": domain, "changed": True, **told.data}
    return Answer(data, [f"{domain} has a quota: {told.line}"])


@command("remove", domain)
@click.argument("domain", type=DOMAIN)
def remove(desk: Desk, domain: str) -> Answer:
    """
    Take in mail for DOMAIN no more; refused while it has accounts.

    With --json: domain, removed.
    """

    async def work(rooms: Rooms) -> None:
        accounts = len(await rooms.register.accounts(domain))
        try:
            removed = not accounts and await rooms.register.remove_domain(domain)
        except NotEmpty:  # somebody was quicker
            accounts, removed = 1, False
        if accounts:
            raise Refused(f"{domain} has {counted(accounts, 'account')}; remove those first")
        if not removed:
            raise Refused(f"there is no domain {domain} here")

    desk.ask(work)
    return Answer({"domain": domain, "removed": True}, [f"{domain} is removed"])
