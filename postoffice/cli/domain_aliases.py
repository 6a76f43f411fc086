"""``postoffice domain alias``: domains that are the same as another domain."""

from __future__ import annotations

from dataclasses import replace

import click

from postoffice.accounts.address_checks import check_domain
from postoffice.cli.addresses import (
    address_register,
    asked,
    check_no_aliases_of,
    confirm_look_alike,
    domain_of,
)
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.completion import nothing
from postoffice.cli.output import table
from postoffice.cli.parameters import DOMAIN
from postoffice.model.alias import Domain


@click.group("alias")
def domain_alias() -> None:
    """Administer domains that are the same as another domain."""


@command("add", domain_alias)
@click.argument("alias", type=DOMAIN, shell_complete=nothing)
@click.argument("domain", type=DOMAIN)
async def add(context: CommandContext, alias: str, domain: str) -> Answer:
    """
    Make ALIAS the same as DOMAIN.

    ALIAS is added, if it is no local domain yet.
    Mail for an address in ALIAS goes where mail for the same name in DOMAIN goes:
    accounts, aliases and the catch-all.  Accounts and aliases that ALIAS has itself come
    first.

    With --json: alias, domain, added.
    """
    confirm_look_alike(alias)
    settings = context.settings()
    async with context.open(settings) as plugins:
        register = address_register(plugins)
        known = await domain_of(plugins, alias) or Domain(alias)
        now = replace(known, same_as=domain)
        await asked(
            plugins, check_domain(now, settings.postmaster.normal, way_out=settings.way_out)
        )
        if known.same_as:
            raise Refused(f"{alias} is an alias of {known.same_as} already")
        await check_no_aliases_of(plugins, alias)
        await plugins.register.add_domain(alias)
        await register.set_domain(now)
    data = {"alias": alias, "domain": domain, "added": True}
    return Answer(data, [f"{alias} is the same as {domain} now"])


@command("list", domain_alias)
async def list_(context: CommandContext) -> Answer:
    """
    List the domain aliases.

    With --json: aliases, each with alias and domain.
    """
    async with context.open() as plugins:
        address_register(plugins)
        names = await plugins.register.domains()
        found = [one for name in names if (one := await domain_of(plugins, name)) and one.same_as]
    rows = [("ALIAS", "DOMAIN"), *((one.name, one.same_as) for one in found)]
    data = [{"alias": one.name, "domain": one.same_as} for one in found]
    return Answer({"aliases": data}, table(rows) if found else ["no domain aliases"])


@command("remove", domain_alias)
@click.argument("alias", type=DOMAIN)
async def remove(context: CommandContext, alias: str) -> Answer:
    """
    Make ALIAS a domain of its own again.

    It stays a local domain, with the accounts and aliases that it has itself; `domain
    remove` removes it.

    With --json: alias, domain (of which it was one), removed.
    """
    async with context.open() as plugins:
        known = await domain_of(plugins, alias)
        if known is None or not known.same_as:
            raise Refused(f"{alias} is no domain alias here")
        await address_register(plugins).set_domain(replace(known, same_as=""))
        domain = known.same_as
    data = {"alias": alias, "domain": domain, "removed": True}
    return Answer(data, [f"{alias} is a domain of its own; postoffice domain remove {alias}"])
