"""``postoffice domain``: whose mail is ours."""

from __future__ import annotations

import click

from postoffice.errors import NotEmpty
from postoffice.office.admin.desk import DOMAIN, Answer, Desk, Refused, command, counted, table
from postoffice.office.rooms import Rooms


@click.group()
def domain() -> None:
    """The domains whose mail is taken in."""


@command("add", domain)
@click.argument("domain", type=DOMAIN)
def add(desk: Desk, domain: str) -> Answer:
    """
    Take in mail for the accounts of DOMAIN from now on.

    With --json: domain, added.
    """

    async def work(rooms: Rooms) -> None:
        if not await rooms.register.add_domain(domain):
            raise Refused(f"{domain} is here already")

    desk.ask(work)
    return Answer({"domain": domain, "added": True}, [f"{domain} is added"])


@command("list", domain)
def list_(desk: Desk) -> Answer:
    """
    All domains, and how many accounts each has.

    With --json: domains, each with domain, accounts.
    """

    async def work(rooms: Rooms) -> list[tuple[str, int]]:
        register = rooms.register
        return [(name, len(await register.accounts(name))) for name in await register.domains()]

    found = desk.ask(work)
    rows = [("DOMAIN", "ACCOUNTS"), *((name, str(accounts)) for name, accounts in found)]
    data = [{"domain": name, "accounts": accounts} for name, accounts in found]
    return Answer({"domains": data}, table(rows))


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
