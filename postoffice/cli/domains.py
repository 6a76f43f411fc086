"""``postoffice domain``: the local domains."""

from __future__ import annotations

import click

from postoffice.cli.change_settings import change_settings
from postoffice.cli.common import DOMAIN, Answer, CommandContext, Refused, command, counted, table
from postoffice.cli.completion import nothing
from postoffice.cli.mail_policies import (
    NAMES,
    EffectivePolicy,
    policy_of_domain,
    policy_options,
)
from postoffice.cli.quotas import (
    HEADS,
    EffectiveQuota,
    quota_of_domain,
    quota_options,
)
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Quota
from postoffice.model.errors import NotEmpty
from postoffice.model.mail_policy import MailPolicy


@click.group()
def domain() -> None:
    """Administer the domains for which mail is accepted."""


@command("add", domain)
@click.argument("domain", type=DOMAIN, shell_complete=nothing)
@quota_options()
@policy_options()
def add(
    context: CommandContext, domain: str, quota: Quota | None, policy: MailPolicy | None
) -> Answer:
    """
    Add DOMAIN: accept mail for its accounts from now on.

    The quota and mail policy that you set here apply to each account of the domain that
    does not set its own.

    With --json: domain, added.
    """

    async def work(plugins: Plugins) -> None:
        if not await plugins.register.add_domain(domain):
            raise Refused(f"{domain} is here already")
        if quota is not None:
            await plugins.register.set_domain_quota(domain, quota)
        if policy is not None:
            await plugins.register.set_domain_serving(domain, policy)

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

    async def work(plugins: Plugins) -> list[tuple[str, int, EffectiveQuota]]:
        found = []
        for name in await plugins.register.domains():
            accounts = len(await plugins.register.accounts(name))
            found.append((name, accounts, await quota_of_domain(plugins.register, settings, name)))
        return found

    found = context.ask(work, settings)
    rows = [("DOMAIN", "ACCOUNTS", *HEADS)]
    rows += [(name, str(accounts), *quota.cells) for name, accounts, quota in found]
    data = [{"domain": name, "accounts": number, **quota.data} for name, number, quota in found]
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

    async def work(plugins: Plugins) -> tuple[int, EffectiveQuota, EffectivePolicy]:
        if domain not in await plugins.register.domains():
            raise Refused(f"there is no domain {domain} here")
        return (
            len(await plugins.register.accounts(domain)),
            await quota_of_domain(plugins.register, settings, domain),
            await policy_of_domain(plugins.register, settings, domain),
        )

    accounts, quota, policy = context.ask(work, settings)
    data = {"domain": domain, "accounts": accounts, **quota.data, **policy.data}
    rows = [("domain", domain), ("accounts", str(accounts)), ("quota", quota.line), *policy.rows]
    return Answer(data, table(rows))


@command("set", domain)
@click.argument("domain", type=DOMAIN)
@quota_options("Use the quota of the configuration.")
@policy_options("Use the mail policy of the configuration.")
def set_(
    context: CommandContext, domain: str, quota: Quota | None, policy: MailPolicy | None
) -> Answer:
    """
    Change the settings of DOMAIN.

    They apply to accounts that do not set their own.  Settings that you do not give stay
    as they are.

    With --json: domain, changed, quota and quota_from, serving and serving_from (as in
    show).
    """
    if quota is None and policy is None:
        raise click.UsageError(
            "give one of --quota, --quota-messages, --over, --default-quota, "
            f"{NAMES}, --default-serving"
        )
    answer = change_settings(context, "domain", domain, quota, policy)
    return Answer({"domain": domain, **answer.data}, answer.lines)


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
