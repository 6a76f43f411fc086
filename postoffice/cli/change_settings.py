"""Changes the quota and the mail policy of an account or of a domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from postoffice.cli.command import Answer, CommandContext, Refused
from postoffice.cli.mail_policies import changed_policy, policy_of_account, policy_of_domain
from postoffice.cli.quotas import changed, quota_of_account, quota_of_domain
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Quota
from postoffice.model.mail_policy import MailPolicy


async def change_settings(
    context: CommandContext,
    kind: str,
    name: str,
    quota: Quota | None,
    policy: MailPolicy | None,
    also: Callable[[Plugins], Awaitable[list[str]]] | None = None,
) -> Answer:
    """
    Change what is not None; ``kind`` is account or domain.  Return what applies now.

    ``also`` makes further changes first, and returns lines about them.
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        register = plugins.register
        set_quota: Callable[[str, Quota], Awaitable[bool]]
        set_policy: Callable[[str, MailPolicy], Awaitable[bool]]
        if kind == "account":
            own = await register.account_quota(name), await register.account_mail_policy(name)
            set_quota, set_policy = register.set_quota, register.set_mail_policy
            quota_of, policy_of = quota_of_account, policy_of_account
        else:
            own = await register.domain_quota(name), await register.domain_mail_policy(name)
            set_quota, set_policy = register.set_domain_quota, register.set_domain_mail_policy
            quota_of, policy_of = quota_of_domain, policy_of_domain
        if own[0] is None or own[1] is None:
            raise Refused(f"there is no {kind} {name} here")
        lines = [] if also is None else await also(plugins)
        if quota is not None:
            await set_quota(name, changed(own[0], quota))
        if policy is not None:
            await set_policy(name, changed_policy(own[1], policy))
        quota_now = await quota_of(register, settings, name)
        policy_now = await policy_of(register, settings, name)
    if quota is not None:
        lines.append(f"{name} has a quota: {quota_now.line}")
    if policy is not None:
        lines += [f"{name} has {what}: {line}" for what, line in policy_now.rows]
    return Answer({"changed": True, **quota_now.data, **policy_now.data}, lines)
