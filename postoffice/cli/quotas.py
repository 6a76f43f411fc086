"""Quotas on the command line: the options that set them, and how the command shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from postoffice.cli.confirmation import confirm_or_warn, smallness
from postoffice.cli.options import with_options
from postoffice.cli.output import counted, sized
from postoffice.cli.parameters import Parameter
from postoffice.cli.setting_layers import effective
from postoffice.config.settings import OVER, Settings
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.maildrop_owners import OwnedMaildrop
from postoffice.interfaces import IAccountDirectory, IAccountRegister, IBulkRegister
from postoffice.model.address import Account, Quota
from postoffice.model.config_values import SIZE, read_size
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy

T = TypeVar("T")

#: The largest number that an account directory can store.
MOST = (1 << 63) - 1


def _size(text: str) -> int:
    try:
        octets = read_size(int(text) if text.isdecimal() else text)
    except ValueError:
        raise ValueError(f"{text!r} is not {SIZE.expects}") from None
    if octets > MOST:
        raise ValueError(f"{text!r} is more than a quota can be")
    return octets


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST:
        raise ValueError(f"{text!r} is not a number of messages")
    return int(text)


SIZE_TYPE = Parameter("size", _size)
#: Each option, its name in a Quota, its type, and its help text.
OPTIONS: tuple[tuple[str, str, click.ParamType[object], str], ...] = (
    ("--quota", "octets", SIZE_TYPE, "Most octets in the maildrop, such as 1GiB; 0: no limit."),
    (
        "--quota-messages",
        "messages",
        Parameter("number", _number),
        "Most messages in the maildrop; 0: no limit.",
    ),
    ("--over", "over", click.Choice(OVER), "What happens to a message that does not fit."),
)
_NAMES = "--quota, --quota-messages and --over"


def quota_options(default: str = "") -> Callable[[Callable[..., T]], Callable[..., T]]:
    """
    Add OPTIONS, and --default-quota with this help text.

    The function gets ``quota``: None if no option was given, an empty one for
    --default-quota.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def run(*args: object, default_quota: bool = False, **rest: Any) -> T:
            given = Quota(*(rest.pop(name) for _, name, _, _ in OPTIONS))
            if default_quota and given != Quota():
                raise click.UsageError(f"--default-quota removes what {_NAMES} set; give only one")
            if why := smallness(given.octets):
                confirm_or_warn(why)
            return function(
                *args, quota=given if default_quota or given != Quota() else None, **rest
            )

        options = [
            click.option(one, name, type=kind, help=text) for one, name, kind, text in OPTIONS
        ]
        unset = [click.option("--default-quota", is_flag=True, help=default)] if default else []
        return with_options(run, *options, *unset)

    return decorate


def changed(known: Quota, quota: Quota) -> Quota:
    """Return the quota with these changes; an empty change removes all of it."""
    return quota if quota == Quota() else quota.or_else(known)


VALUES = ("octets", "messages", "over")


@dataclass(frozen=True)
class EffectiveQuota:
    """The quota that applies, and where each of its values is set."""

    quota: Quota
    sources: Mapping[str, str]

    @property
    def data(self) -> dict[str, object]:
        """The quota as an object for --json, with where each value is set."""
        quota = {value: getattr(self.quota, value) for value in VALUES}
        return {"quota": quota, "quota_from": self.sources}

    @property
    def cells(self) -> tuple[str, str, str]:
        """The quota as cells of a table: how much, what happens beyond it, and where it is set."""
        sources = ", ".join(dict.fromkeys(self.sources.values()))
        return limits(self.quota), self.quota.over or "", sources

    @property
    def line(self) -> str:
        """The quota in one line."""
        texts = (
            _octets(self.quota) or "any size",
            _messages(self.quota) or "any number",
            f"over: {self.quota.over}",
        )
        said = zip(texts, self.sources.values(), strict=True)
        return ", ".join(f"{text} ({who})" for text, who in said)


#: The column heads for ``EffectiveQuota.cells``.
HEADS = ("QUOTA", "OVER", "FROM")


def limits(quota: Quota) -> str:
    """Return the limits for a table's cell."""
    return ", ".join(text for text in (_octets(quota), _messages(quota)) if text) or "any"


async def over_quota(
    plugins: Plugins, drop: OwnedMaildrop, messages: int = 0, octets: int = 0
) -> list[str]:
    """Return a warning if a maildrop, with so much more in it, is over its quota."""
    if drop.quota is None:
        return []
    has_messages, has_octets = await plugins.store.count(drop.name)
    if drop.quota.holds(has_octets + octets, has_messages + messages):
        return []
    return [
        f"the maildrop is over its quota of {limits(drop.quota)}: it gets no new mail until there "
        "is room (account set --quota)"
    ]


def _octets(quota: Quota) -> str:
    return sized(quota.octets) if quota.octets else ""


def _messages(quota: Quota) -> str:
    return counted(quota.messages, "message") if quota.messages else ""


def _effective(**layers: Quota) -> EffectiveQuota:
    return EffectiveQuota(*effective(VALUES, **layers))


async def quota_of_domain(
    register: IAccountRegister, settings: Settings, name: str
) -> EffectiveQuota:
    """Return the quota for accounts of a domain that do not set their own."""
    return _effective(
        domain=await register.domain_quota(name) or Quota(), default=settings.default_quota
    )


def _quota_of(settings: Settings, name: str, **layers: Quota) -> EffectiveQuota:
    if name == settings.postmaster.normal:
        return _effective(postmaster=settings.postmaster_quota)
    return _effective(**layers, default=settings.default_quota)


async def quota_of_account(
    register: IAccountRegister, settings: Settings, name: str
) -> EffectiveQuota:
    """Return the quota of this account."""
    return _quota_of(
        settings,
        name,
        account=await register.account_quota(name) or Quota(),
        domain=await register.domain_quota(name.rpartition("@")[2]) or Quota(),
    )


async def own_settings(
    register: IAccountRegister, names: Sequence[str]
) -> Mapping[str, tuple[Quota, MailPolicy]]:
    """Return what each of these accounts sets itself."""
    if IBulkRegister.providedBy(register):
        return await cast(IBulkRegister, register).own_settings(names)
    return {
        name: (
            await register.account_quota(name) or Quota(),
            await register.account_mail_policy(name) or UNSPECIFIED,
        )
        for name in names
    }


async def quotas_of_accounts(
    directory: IAccountDirectory,
    settings: Settings,
    accounts: Sequence[Account],
    domains: dict[str, Quota],
) -> dict[str, EffectiveQuota]:
    """
    Return the quota of each of these accounts, of a directory of any kind.

    ``domains`` caches the quotas of their domains.
    """
    names = [one.address for one in accounts]
    if not IAccountRegister.providedBy(directory):
        return {
            one.address: _quota_of(settings, one.address, account=one.quota) for one in accounts
        }
    register: IAccountRegister = directory
    for domain in {name.rpartition("@")[2] for name in names} - set(domains):
        domains[domain] = await register.domain_quota(domain) or Quota()
    return {
        name: _quota_of(settings, name, account=own, domain=domains[name.rpartition("@")[2]])
        for name, (own, _) in (await own_settings(register, names)).items()
    }


async def quota_of(
    directory: IAccountDirectory, settings: Settings, name: str, account: Account
) -> EffectiveQuota:
    """Return the quota of this account, in a directory of any kind."""
    if IAccountRegister.providedBy(directory):
        return await quota_of_account(directory, settings, name)
    return _quota_of(settings, name, account=account.quota)
