"""``postoffice domain``: the local domains."""

from __future__ import annotations

import os

import click

from postoffice.accounts.address_checks import check_domain
from postoffice.accounts.alias_changes import pointing_lines
from postoffice.cli.addresses import (
    address_register,
    asked,
    confirm_look_alike,
    domain_of,
    still_pointing,
)
from postoffice.cli.change_settings import change_settings
from postoffice.cli.command import Answer, CommandContext, Refused, check_domain_exists, command
from postoffice.cli.completion import nothing
from postoffice.cli.domain_settings import CHANGES, DomainChange, address_options, domain_rows
from postoffice.cli.mail_policies import NAMES, policy_of_domain, policy_options
from postoffice.cli.output import table
from postoffice.cli.parameters import DOMAIN
from postoffice.cli.quotas import HEADS, quota_of_domain, quota_options
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Quota
from postoffice.model.alias import Domain
from postoffice.model.errors import NotEmpty
from postoffice.model.mail_policy import MailPolicy
from postoffice.server.dkim_keys import FOLDER


@click.group()
def domain() -> None:
    """Administer the domains for which mail is accepted."""


@command("add", domain)
@click.argument("domain", type=DOMAIN, shell_complete=nothing)
@quota_options()
@policy_options()
async def add(
    context: CommandContext, domain: str, quota: Quota | None, policy: MailPolicy | None
) -> Answer:
    """
    Add DOMAIN: accept mail for its accounts from now on.

    The quota and mail policy that you set here apply to each account of the domain that
    does not set its own.

    With --json: domain, added.
    """
    confirm_look_alike(domain)
    async with context.open() as plugins:
        if not await plugins.register.add_domain(domain):
            raise Refused(f"{domain} is here already")
        if quota is not None:
            await plugins.register.set_domain_quota(domain, quota)
        if policy is not None:
            await plugins.register.set_domain_mail_policy(domain, policy)
    return Answer({"domain": domain, "added": True}, [f"{domain} is added"])


@command("list", domain)
async def list_(context: CommandContext) -> Answer:
    """
    List all domains, the number of their accounts, and their quotas.

    The quota is for each account that does not set its own.  FROM is where it is set: in
    the domain, or in the configuration (default).

    With --json: domains, each with domain, accounts, quota (octets, messages, over) and
    quota_from (where each of them is set).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        found = []
        for name in await plugins.register.domains():
            accounts = await _count(plugins, name)
            found.append((name, accounts, await quota_of_domain(plugins.register, settings, name)))
    rows = [("DOMAIN", "ACCOUNTS", *HEADS)]
    rows += [(name, str(accounts), *quota.cells) for name, accounts, quota in found]
    data = [{"domain": name, "accounts": number, **quota.data} for name, number, quota in found]
    return Answer({"domains": data}, table(rows))


async def _count(plugins: Plugins, domain: str) -> int:
    """Return how many accounts a domain has."""
    count = 0
    async for _ in plugins.register.each_account(domain):
        count += 1
    return count


@command("show", domain)
@click.argument("domain", type=DOMAIN)
async def show(context: CommandContext, domain: str) -> Answer:
    """
    Show the settings of DOMAIN, and how many accounts it has.

    With --json: domain, accounts, quota and quota_from (as in list), serving (keep,
    keep_collected, delete_on_collect, devices, login_delay, in_use, wait; durations in
    seconds) and serving_from (where each is set), same_as (of which domain it is an
    alias, or empty), separators, catch_all (targets), uncaught (local parts).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        await check_domain_exists(plugins, domain)
        known = Domain(domain)
        if IAddressRegister.providedBy(plugins.register):
            known = await domain_of(plugins, domain) or known
        accounts = await _count(plugins, domain)
        quota = await quota_of_domain(plugins.register, settings, domain)
        policy = await policy_of_domain(plugins.register, settings, domain)
    addresses = {
        "same_as": known.same_as,
        "separators": known.separators,
        "catch_all": [str(one) for one in known.catch_all],
        "uncaught": sorted(known.uncaught),
    }
    data = {"domain": domain, "accounts": accounts, **quota.data, **policy.data, **addresses}
    rows = [("domain", domain), ("accounts", str(accounts)), ("quota", quota.line), *policy.rows]
    return Answer(data, table([*rows, *domain_rows(known)]))


@command("set", domain)
@click.argument("domain", type=DOMAIN)
@quota_options("Use the quota of the configuration.")
@policy_options("Use the mail policy of the configuration.")
@address_options
async def set_(
    context: CommandContext,
    domain: str,
    quota: Quota | None,
    policy: MailPolicy | None,
    change: DomainChange,
) -> Answer:
    """
    Change the settings of DOMAIN.

    Quota and mail policy apply to accounts that do not set their own.  Settings that you
    do not give stay as they are.

    With --json: domain, changed, quota and quota_from, serving and serving_from (as in
    show).
    """
    if quota is None and policy is None and not change:
        raise click.UsageError(
            "give one of --quota, --quota-messages, --over, --default-quota, "
            f"{NAMES}, --default-serving, {CHANGES}"
        )
    settings = context.settings()

    async def addresses(plugins: Plugins) -> list[str]:
        known = await domain_of(plugins, domain) or Domain(domain)
        now = change.applied(known)
        await asked(
            plugins, check_domain(now, settings.postmaster.normal, way_out=settings.way_out)
        )
        await address_register(plugins).set_domain(now)
        return [f"{domain} has {what}: {text}" for what, text in domain_rows(now)]

    answer = await change_settings(
        context, "domain", domain, quota, policy, addresses if change else None
    )
    return Answer({"domain": domain, **answer.data}, answer.lines)


@command("remove", domain)
@click.argument("domain", type=DOMAIN)
async def remove(context: CommandContext, domain: str) -> Answer:
    """
    Remove DOMAIN; refused while it has accounts or aliases.

    The command reports the aliases, forwards and catch-alls with targets in DOMAIN,
    and where DKIM keys of DOMAIN remain.

    With --json: domain, removed, pointing (what still leads to it), dkim_keys (their
    folder, or null).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        try:
            removed = await plugins.register.remove_domain(domain)
        except NotEmpty as error:
            raise Refused(f"{error}; remove those first") from None
        if not removed:
            raise Refused(f"there is no domain {domain} here")
        pointing = await still_pointing(plugins, f"@{domain}")
    keys = _folder_of_keys(settings.state, domain)
    data = {"domain": domain, "removed": True, "pointing": pointing, "dkim_keys": keys}
    lines = [f"{domain} is removed", *pointing_lines(domain, pointing)]
    return Answer(data, [*lines, *([f"its DKIM keys remain in {keys}"] if keys else [])])


def _folder_of_keys(state: str, domain: str) -> str | None:
    folder = os.path.join(state, FOLDER, domain)
    return folder if os.path.isdir(folder) else None
