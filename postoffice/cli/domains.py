"""``postoffice domain``: the local domains."""

from __future__ import annotations

import click

from postoffice.cli.common import DOMAIN, Answer, CommandContext, Refused, command, counted, table
from postoffice.cli.completion import nothing
from postoffice.cli.mail_policies import (
    NAMES,
    Served,
    asks_for_serving,
    changed_serving,
    default_serving_option,
    served_in_domain,
    serving_options,
)
from postoffice.cli.quotas import (
    HEADS,
    Told,
    asks_for_change,
    changed,
    default_option,
    quota_options,
    told_of_domain,
)
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Quota
from postoffice.model.errors import NotEmpty
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy


@click.group()
def domain() -> None:
    """Administer the domains for which mail is accepted."""


@command("add", domain)
@click.argument("domain", type=DOMAIN, shell_complete=nothing)
@quota_options
@serving_options
def add(context: CommandContext, domain: str, quota: Quota, serving: MailPolicy) -> Answer:
    """
    Add DOMAIN: accept mail for its accounts from now on.

    The quota and mail policy that you set here apply to each account of the domain that
    does not set its own.

    With --json: domain, added.
    """

    async def work(plugins: Plugins) -> None:
        if not await plugins.register.add_domain(domain):
            raise Refused(f"{domain} is here already")
        if quota != Quota():
            await plugins.register.set_domain_quota(domain, quota)
        if serving != UNSPECIFIED:
            await plugins.register.set_domain_serving(domain, serving)

    context.ask(work)
    return Answer({"domain": domain, "added": True}, [f"{domain} is added"])


@command("list", domain)
def list_(context: CommandContext) -> Answer:
    """
    List all domains, the number of their accounts, and their quotas.

    The quota is for each account that does not set its own.  FROM is where it is set: in
    the domain, or in the configuration (default).

    With --json: domains, each with domain, accounts, quota (octets, messages, over) and
    quota_from (where each of them is set).
    """
    settings = context.settings()

    async def work(plugins: Plugins) -> list[tuple[str, int, Told]]:
        found = []
        for name in await plugins.register.domains():
            accounts = len(await plugins.register.accounts(name))
            found.append((name, accounts, await told_of_domain(plugins.register, settings, name)))
        return found

    found = context.ask(work, settings)
    rows = [("DOMAIN", "ACCOUNTS", *HEADS)]
    rows += [(name, str(accounts), *told.cells) for name, accounts, told in found]
    data = [{"domain": name, "accounts": number, **told.data} for name, number, told in found]
    return Answer({"domains": data}, table(rows))


@command("show", domain)
@click.argument("domain", type=DOMAIN)
def show(context: CommandContext, domain: str) -> Answer:
    """
    Show the settings of DOMAIN, and how many accounts it has.

    With --json: domain, accounts, quota and quota_from (as in list), serving (keep,
    keep_collected, delete_on_collect, devices, login_delay, in_use, wait; durations in
    seconds) and serving_from (where each is set).
    """
    settings = context.settings()

    async def work(plugins: Plugins) -> tuple[int, Told, Served]:
        if domain not in await plugins.register.domains():
            raise Refused(f"there is no domain {domain} here")
        return (
            len(await plugins.register.accounts(domain)),
            await told_of_domain(plugins.register, settings, domain),
            await served_in_domain(plugins.register, settings, domain),
        )

    accounts, told, served = context.ask(work, settings)
    data = {"domain": domain, "accounts": accounts, **told.data, **served.data}
    rows = [("domain", domain), ("accounts", str(accounts)), ("quota", told.line), *served.rows]
    return Answer(data, table(rows))


@command("set", domain)
@click.argument("domain", type=DOMAIN)
@quota_options
@default_option("Use the quota of the configuration.")
@serving_options
@default_serving_option("Use the mail policy of the configuration.")
def set_(
    context: CommandContext,
    domain: str,
    quota: Quota,
    default_quota: bool,
    serving: MailPolicy,
    default_serving: bool,
) -> Answer:
    """
    Change the settings of DOMAIN.

    They apply to accounts that do not set their own.  Settings that you do not give stay
    as they are.

    With --json: domain, changed, quota and quota_from, serving and serving_from (as in
    show).
    """
    changes_quota = asks_for_change(quota, default_quota)
    changes_serving = asks_for_serving(serving, default_serving)
    if not changes_quota and not changes_serving:
        raise click.UsageError(
            "give one of --quota, --quota-messages, --over, --default-quota, "
            f"{NAMES}, --default-serving"
        )
    settings = context.settings()

    async def work(plugins: Plugins) -> tuple[Told, Served]:
        register = plugins.register
        known, served = await register.domain_quota(domain), await register.domain_serving(domain)
        if known is None or served is None:
            raise Refused(f"there is no domain {domain} here")
        if changes_quota:
            await register.set_domain_quota(domain, changed(known, quota))
        if changes_serving:
            await register.set_domain_serving(domain, changed_serving(served, serving))
        return (
            await told_of_domain(register, settings, domain),
            await served_in_domain(register, settings, domain),
        )

    told, served = context.ask(work, settings)
    data = {"domain": domain, "changed": True, **told.data, **served.data}
    lines = [f"{domain} has a quota: {told.line}"] if changes_quota else []
    if changes_serving:
        lines += [f"{domain} has {what}: {line}" for what, line in served.rows]
    return Answer(data, lines)


@command("remove", domain)
@click.argument("domain", type=DOMAIN)
def remove(context: CommandContext, domain: str) -> Answer:
    """
    Remove DOMAIN; refused while it has accounts.

    With --json: domain, removed.
    """

    async def work(plugins: Plugins) -> None:
        accounts = len(await plugins.register.accounts(domain))
        try:
            removed = not accounts and await plugins.register.remove_domain(domain)
        except NotEmpty:  # somebody has just added an account
            accounts, removed = 1, False
        if accounts:
            raise Refused(f"{domain} has {counted(accounts, 'account')}; remove those first")
        if not removed:
            raise Refused(f"there is no domain {domain} here")

    context.ask(work)
    return Answer({"domain": domain, "removed": True}, [f"{domain} is removed"])
