"""``postoffice account list``: all accounts, their last logins, and their usage."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import click

from postoffice.accounts import password_schemes
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.login_history import LoginMethod
from postoffice.cli.app_passwords import login_data
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.list_output import ListOutput, paged
from postoffice.cli.options import with_options
from postoffice.cli.output import lasting, sized
from postoffice.cli.parameters import DOMAIN, TIME
from postoffice.cli.progress import Progress
from postoffice.cli.quotas import HEADS, EffectiveQuota, quotas_of_accounts
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountDirectory, IAccountListing, IPasswordVerifier
from postoffice.model.address import STATES, Account, Quota
from postoffice.model.errors import PostOfficeError

T = TypeVar("T")
#: How an account logged in, and when.
Login = tuple[LoginMethod, float]

#: With up to this many accounts the command reads the maildrops without --use.
LOOKED_AT = 500


@dataclass(frozen=True)
class Usage:
    """How much a maildrop holds, compared with its quota."""

    messages: int
    octets: int
    quota: Quota

    @property
    def share(self) -> float | None:
        """The usage of octets or of messages, the greater one; None without a quota."""
        return self.quota.share(self.octets, self.messages)

    @property
    def percent(self) -> float | None:
        """The share in percent."""
        return None if self.share is None else round(100 * self.share, 1)

    @property
    def cell(self) -> str:
        """The usage as a table's cell."""
        return sized(self.octets) + ("" if self.share is None else f", {int(100 * self.share)}%")

    @property
    def data(self) -> dict[str, object]:
        """The usage as an object for --json."""
        return {"messages": self.messages, "octets": self.octets, "percent": self.percent}


#: The usage of a maildrop that was not read, or cannot be read.
NO_USE = {"messages": None, "octets": None, "percent": None}


@dataclass(frozen=True)
class AccountLine:
    """One account in the list."""

    account: Account
    quota: EffectiveQuota
    last: Login | None
    use: Usage | None
    verified: bool = False  # the directory verifies its password itself

    @property
    def has_password(self) -> bool:
        """Whether it has a hash, or a password that the directory verifies itself."""
        return self.verified or self.account.secret is not None

    def cells(self, now: float) -> tuple[str, ...]:
        """Return the account as a row of the table."""
        one, login = self.account, ("never", "")
        if self.last is not None:
            login_method, when = self.last
            login = (f"{lasting(max(1.0, now - when))} ago", login_method.service)
        has = "yes" if self.has_password else "no"
        use = "?" if self.use is None else self.use.cell
        return (one.address, one.state, has, *login, use, *self.quota.cells)

    @property
    def data(self) -> dict[str, object]:
        """The account as an object for --json."""
        login = login_data(self.last)
        if login is not None and self.last is not None:
            login["device"] = self.last[0].device
        return {
            "address": self.account.address,
            "state": self.account.state,
            "password": self.has_password,
            "scheme": scheme_of(self.account),
            "last_login": login,
            **(NO_USE if self.use is None else self.use.data),
            **self.quota.data,
        }


@dataclass(frozen=True)
class Filters:
    """Which accounts are listed; None for each option that was not given."""

    state: str | None
    scheme: str | None
    login_before: float | None
    over: float | None

    def admits(self, account: Account, last: Login | None) -> bool:
        """Whether all conditions but those on its usage admit an account; see ``admits_use``."""
        if self.state not in (None, account.state):
            return False
        if self.scheme is not None and self.scheme.upper() != scheme_of(account):
            return False
        return self.login_before is None or last is None or last[1] < self.login_before

    def admits_use(self, use: Usage | None) -> bool:
        """Whether an account with this usage is listed."""
        share = None if use is None else use.share
        return self.over is None or (share is not None and 100 * share > self.over)


def scheme_of(account: Account) -> str:
    """Return the scheme of the account's password hash, NONE, or UNUSABLE."""
    if account.secret is None:
        return "NONE"
    try:
        return password_schemes.read(account.secret).scheme
    except password_schemes.UnusableHash:
        return "UNUSABLE"


def filter_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --state, --scheme, --last-login-before and --over: the function gets ``filters``."""

    @functools.wraps(function)
    def run(
        *args: object,
        state: str | None,
        scheme: str | None,
        last_login_before: float | None,
        over: float | None,
        **rest: object,
    ) -> T:
        filters = Filters(state, scheme, last_login_before, over)
        return function(*args, filters=filters, **rest)

    return with_options(
        run,
        click.option(
            "--state", type=click.Choice(STATES), help="Only accounts in this state.",
        ),
        click.option(
            "--scheme", metavar="NAME",
            help="Only accounts with a password hash of this scheme, such as ARGON2ID, or none.",
        ),
        click.option(
            "--last-login-before", type=TIME,
            help="Only accounts without a login since this time, or since so long ago.",
        ),
        click.option(
            "--over", metavar="PERCENT", type=click.FloatRange(0),
            help="Only accounts that use more than PERCENT of their quota.",
        ),
    )  # fmt: skip


@command("list")
@click.argument("domain", type=DOMAIN, required=False)
@filter_options
@click.option(
    "--use/--no-use", "looks", default=None,
    help=f"Read each maildrop, or none; default: only with up to {LOOKED_AT} accounts.",
)  # fmt: skip
def list_accounts(
    context: CommandContext, domain: str | None, filters: Filters, looks: bool | None
) -> Answer:
    """
    List all accounts, or those of DOMAIN.

    They are those of all directories that can list them.  The table shows each account's
    last login, usage and quota.  The last login is one with the account's own password or
    with a device's.  USED is the size of the maildrop, and its share of the quota.  FROM is
    where the quota is set: in the account, its domain, or the configuration (default); the
    postmaster has a quota of its own (quota.postmaster).  With several options, an account
    must fit all of them.

    With --json: accounts, each with address, state, password (true or false), scheme (of
    the password hash; NONE without a password), last_login
    (time, service, mechanism, tls, network, device; or null), messages, octets, percent
    (of the quota; each null if the maildrop was not read), quota (octets, messages, over)
    and quota_from (where each is set).
    """
    settings = context.settings()
    heads = ("ACCOUNT", "STATE", "PASSWORD", "LAST LOGIN", "SERVICE", "USED", *HEADS)
    output = ListOutput(context, heads, "accounts", "no accounts")

    unlisted: list[str] = []

    async def work(plugins: Plugins) -> bool:
        for chosen, directory in zip(settings.accounts, plugins.directories, strict=True):
            if not IAccountListing.providedBy(directory):
                kind = chosen.maker.kind
                unlisted.append(f"{chosen.key} of kind {kind} cannot list its accounts")
        if domain is not None and domain not in await _domains(plugins):
            raise Refused(f"there is no domain {domain} here")
        async with context.logins(plugins, settings) as logins:
            lines = _admitted(plugins, settings, logins, domain, filters)
            return await _add_all(plugins, lines, filters, looks, output)

    looked = context.ask(work, settings)
    said = [] if looked else ["the maildrops were not read; --use reads them"]
    output.end(*said, *unlisted)


async def _admitted(
    plugins: Plugins,
    settings: Settings,
    logins: LoginRecords,
    domain: str | None,
    filters: Filters,
) -> AsyncIterator[AccountLine]:
    """Yield the accounts that are listed, apart from their usage."""
    domains: dict[str, Quota] = {}
    earlier: list[IAccountDirectory] = []
    for directory in plugins.directories:
        verifies = IPasswordVerifier.providedBy(directory)
        async for accounts in _pages(directory, domain):
            names = [one.address for one in accounts]
            quotas = await quotas_of_accounts(directory, settings, accounts, domains)
            last = await plugins.executor.run(logins.login_history.latest, names)
            for one in accounts:
                name = one.address
                if not filters.admits(one, last.get(name)) or name not in quotas:
                    continue
                if not any([await other.find(name) for other in earlier]):
                    yield AccountLine(one, quotas[name], last.get(name), None, verifies)
        earlier.append(directory)


async def _pages(directory: IAccountDirectory, domain: str | None) -> AsyncIterator[list[Account]]:
    """Yield the accounts of a directory, if it can list them."""
    if IAccountListing.providedBy(directory):
        async for accounts in paged(directory.each_account(domain)):
            yield accounts


async def _domains(plugins: Plugins) -> set[str]:
    """Return the domains of all directories that can list them."""
    listing = [one for one in plugins.directories if IAccountListing.providedBy(one)]
    return {domain for one in listing for domain in await one.domains()}


async def _add_all(
    plugins: Plugins,
    lines: AsyncIterator[AccountLine],
    filters: Filters,
    looks: bool | None,
    output: ListOutput,
) -> bool:
    """Add the accounts to the output; return False if their maildrops were not read."""
    now = time.time()
    looks = True if filters.over is not None else looks
    with Progress("reading the maildrops") as progress:
        async for page in paged(lines, LOOKED_AT + 1):
            if looks is None:
                looks = len(page) <= LOOKED_AT
            for line in page:
                if looks:
                    line = replace(line, use=await _use(plugins, line))
                    progress.step()
                if filters.admits_use(line.use):
                    output.add(line.cells(now), line.data)
    return looks is not False


async def _use(plugins: Plugins, line: AccountLine) -> Usage | None:
    """Return the usage of a maildrop; None if it cannot be read."""
    try:
        held = await plugins.store.count(line.account.maildrop)
    except PostOfficeError:
        return None  # `maildrop verify` reports it
    return Usage(*held, line.quota.quota)
