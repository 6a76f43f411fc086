"""Quotas on the command line: the options that set them, and how the command shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from postoffice.cli.common import counted, sized
from postoffice.cli.doubts import doubt, smallness
from postoffice.config.settings import OVER, Settings
from postoffice.interfaces import IAccountDirectory, IAccountRegister
from postoffice.model.address import Account, Quota
from postoffice.model.config_values import SIZE, read_size

#: The largest number that an account directory can store.
MOST = (1 << 63) - 1


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """Octets, with a unit or without."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            octets = read_size(int(value) if str(value).isdecimal() else value)
        except ValueError:
            self.fail(f"{value!r} is not {SIZE.expects}", param, ctx)
        if octets > MOST:
            self.fail(f"{value!r} is more than there can be", param, ctx)
        return octets


class NumberType(click.ParamType):  # type: ignore[type-arg]
    """A number of messages."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return click.IntRange(0, MOST).convert(value, param, ctx)


SIZE_TYPE = SizeType()


def quota_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Add --quota, --quota-messages and --over: the function gets ``quota``, None for each not given.
    """

    @functools.wraps(function)
    def run(
        *args: Any, octets: int | None, messages: int | None, over: str | None, **rest: Any
    ) -> Any:
        if why := smallness(octets):
            doubt(why)
        return function(*args, quota=Quota(octets, messages, over), **rest)

    for name, place, kind, text in (
        ("--over", "over", click.Choice(OVER), "What happens to a message that does not fit."),
        (
            "--quota-messages",
            "messages",
            NumberType(),
            "Most messages in the maildrop; 0: no limit.",
        ),
        ("--quota", "octets", SIZE_TYPE, "Most octets in the maildrop, such as 1GiB; 0: no limit."),
    ):
        run = click.option(name, place, type=kind, help=text)(run)
    return run


def default_option(text: str) -> Callable[..., Any]:
    """Add --default-quota."""
    return click.option("--default-quota", is_flag=True, help=text)


def asks_for_change(quota: Quota, default: bool) -> bool:
    """Whether the options ask for a change.  Raises UsageError if they conflict."""
    if default and quota != Quota():
        raise click.UsageError(
            "--default-quota takes away what --quota, --quota-messages and --over set; give either"
        )
    return default or quota != Quota()


def changed(known: Quota, quota: Quota) -> Quota:
    """Return the quota with these changes; an empty change removes all of it."""
    return quota if quota == Quota() else quota.or_else(known)


VALUES = ("octets", "messages", "over")


@dataclass(frozen=True)
class Told:
    """The quota that applies, and where each of its values is set."""

    quota: Quota
    sources: Mapping[str, str]

    @property
    def data(self) -> dict[str, Any]:
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


#: The column heads for ``Told.cells``.
HEADS = ("QUOTA", "OVER", "FROM")


def limits(quota: Quota) -> str:
    """Return the limits for a table's cell."""
    return ", ".join(text for text in (_octets(quota), _messages(quota)) if text) or "any"


def _octets(quota: Quota) -> str:
    return sized(quota.octets) if quota.octets else ""


def _messages(quota: Quota) -> str:
    return counted(quota.messages, "message") if quota.messages else ""


def tell(**sayings: Quota) -> Told:
    """Take each value from the first quota that sets it; the last quota sets all."""
    sources = {
        value: next(who for who, quota in sayings.items() if getattr(quota, value) is not None)
        for value in VALUES
    }
    return Told(functools.reduce(Quota.or_else, sayings.values()), sources)


async def told_of_domain(register: IAccountRegister, settings: Settings, domain: str) -> Told:
    """Return the quota for accounts of a domain that do not set their own."""
    quota = await register.domain_quota(domain) or Quota()
    return tell(domain=quota, default=settings.default_quota)


async def told_of_account(register: IAccountRegister, settings: Settings, name: str) -> Told:
    """Return the quota of this account."""
    if name == settings.postmaster.normal:
        return tell(postmaster=settings.postmaster_quota)
    return tell(
        account=await register.account_quota(name) or Quota(),
        domain=await register.domain_quota(name.rpartition("@")[2]) or Quota(),
        default=settings.default_quota,
    )


async def told_of_accounts(
    register: IAccountRegister, settings: Settings, accounts: Iterable[Account], domain: str | None
) -> dict[str, Told]:
    """Return the quota of each of these accounts, of a domain or of all."""
    own = await register.account_quotas(domain)
    domains = await register.domains() if domain is None else [domain]
    theirs = {name: await register.domain_quota(name) or Quota() for name in domains}
    told = {}
    for one in accounts:
        name = one.address
        if name == settings.postmaster.normal:
            told[name] = tell(postmaster=settings.postmaster_quota)
        else:
            told[name] = tell(
                account=own.get(name, Quota()),
                domain=theirs.get(name.rpartition("@")[2], Quota()),
                default=settings.default_quota,
            )
    return told


async def told_of(
    directory: IAccountDirectory, settings: Settings, name: str, account: Account
) -> Told:
    """Return the quota of this account, in a directory of any kind."""
    if IAccountRegister.providedBy(directory):
        return await told_of_account(directory, settings, name)
    if name == settings.postmaster.normal:
        return tell(postmaster=settings.postmaster_quota)
    return tell(account=account.quota, default=settings.default_quota)
