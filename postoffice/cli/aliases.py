"""``postoffice alias``: addresses that lead to other addresses, are refused, or discard mail."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import click

from postoffice.accounts import alias_changes
from postoffice.accounts.address_resolution import resolve
from postoffice.accounts.alias_changes import goes_to, once_each, pointing_lines
from postoffice.accounts.directories import Directories, all_aliases
from postoffice.cli.addresses import (
    address_register,
    alias_data,
    alias_of,
    asked,
    confirm_look_alike,
    still_pointing,
)
from postoffice.cli.command import Answer, CommandContext, Refused, check_domain_exists, command
from postoffice.cli.completion import nothing
from postoffice.cli.list_output import ListOutput
from postoffice.cli.options import with_options
from postoffice.cli.output import table
from postoffice.cli.parameters import ADDRESS, DOMAIN, Parameter
from postoffice.interfaces import IAccountRegister, IAddressRegister
from postoffice.model.address import Address
from postoffice.model.alias import DISCARD, FORWARD, REFUSE, Alias

T = TypeVar("T")


async def _names(register: IAccountRegister) -> AsyncIterator[str]:
    if IAddressRegister.providedBy(register):
        async for one in all_aliases(cast(IAddressRegister, register), None):
            yield one.address


ALIAS = Parameter("address", Address.parse, _names)


@click.group()
def alias() -> None:
    """Administer the aliases, which lead to other addresses."""


@dataclass(frozen=True)
class _Options:
    """The options that say what happens to the mail; None and False if they are not given."""

    refuse: str | None
    discard: bool
    send: bool | None

    @property
    def without_targets(self) -> int:
        """How many of these options exclude targets."""
        return (self.refuse is not None) + self.discard

    def applied(self, known: Alias, targets: Sequence[Address]) -> Alias:
        """Return an alias with these options, and with these targets, if there are any."""
        if self.without_targets + bool(targets) > 1:
            raise click.UsageError("targets, --refuse and --discard exclude one another")
        if self.refuse is not None:
            known = Alias(known.address, kind=REFUSE, words=self.refuse)
        elif self.discard:
            known = Alias(known.address, kind=DISCARD)
        elif targets:
            known = Alias(known.address, once_each(targets), FORWARD, send=known.send)
        return known if self.send is None else replace(known, send=self.send)


def _alias_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --refuse, --discard and --send: the function gets ``options``."""

    @functools.wraps(function)
    def run(
        *args: object, refuse: str | None, discard: bool, send: bool | None, **rest: object
    ) -> T:
        return function(*args, options=_Options(refuse, discard, send), **rest)

    return with_options(
        run,
        click.option(
            "--refuse", metavar="WORDS", help="Refuse mail with these words, in ASCII letters."
        ),
        click.option("--discard", is_flag=True, help="Accept mail, and discard it."),
        click.option(
            "--send/--no-send",
            default=None,
            help="Whether each account among several targets may send as this address.",
        ),
    )


@command("add", alias)
@click.argument("address", type=ADDRESS, shell_complete=nothing)
@click.argument("targets", metavar="[TARGET]...", type=ADDRESS, nargs=-1)
@_alias_options
async def add(
    context: CommandContext, address: Address, targets: tuple[Address, ...], options: _Options
) -> Answer:
    """
    Add an alias: mail for ADDRESS goes to each TARGET.

    A target is an account or another alias; 100 are the most.  Without a target, say
    what happens to the mail with --refuse or --discard.  An account that is the only
    target may send as ADDRESS.

    With --json: address, kind (forward, refuse or discard), targets, words, send, added.
    """
    if not targets and not options.without_targets:
        raise click.UsageError("name the targets, or give --refuse or --discard")
    confirm_look_alike(address)
    made = options.applied(Alias(address.normal), targets)
    settings = context.settings()
    async with context.open(settings) as plugins:
        register = address_register(plugins)
        await alias_changes.add_alias(
            register, Directories(plugins.directories), made, settings.postmaster.normal,
            way_out=settings.way_out,
        )  # fmt: skip
    data = {**alias_data(made), "added": True}
    return Answer(data, [f"{made.address} is added: {goes_to(made)}"])


@command("list", alias)
@click.argument("domain", type=DOMAIN, required=False)
async def list_(context: CommandContext, domain: str | None) -> Answer:
    """
    List all aliases, or those of DOMAIN.

    With --json: aliases, each with address, kind, targets, words, send (as in add).
    """
    output = ListOutput(context, ("ALIAS", "GOES TO"), "aliases", "no aliases")
    async with context.open() as plugins:
        if domain is not None:
            await check_domain_exists(plugins, domain)
        async for one in all_aliases(address_register(plugins), domain):
            output.add((one.address, goes_to(one)), alias_data(one))
    output.end()


@command("show", alias)
@click.argument("address", type=ALIAS)
async def show(context: CommandContext, address: Address) -> Answer:
    """
    Show the alias ADDRESS, and which accounts get its mail.

    With --json: address, kind, targets, words, send (as in add), accounts (that get the
    mail), remote (addresses in other domains), refused (targets that take no mail, each
    with address and reply), pointing (aliases, forwards and catch-alls with this target).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        found = await alias_of(plugins, address.normal)
        leads = await asked(plugins, resolve(found.address, settings.postmaster.normal))
        pointing = await still_pointing(plugins, found.address)
    accounts = [one.address for one in leads.accounts]
    remote = [str(one) for one in leads.remote]
    refused = [(one.address, one.reply.wire.decode().strip()) for one in leads.refused]
    rows = [
        ("alias", found.address),
        ("goes to", goes_to(found, len(found.targets))),
        *([("accounts", ", ".join(accounts))] if accounts else []),
        *([("remote", ", ".join(remote))] if remote else []),
        *(("refused", f"{one}: {why}") for one, why in refused),
        *([("send", "each account among the targets may send as it")] if found.send else []),
        *([("target of", ", ".join(pointing))] if pointing else []),
    ]
    data = {
        **alias_data(found),
        "accounts": accounts,
        "remote": remote,
        "refused": [{"address": one, "reply": why} for one, why in refused],
        "pointing": pointing,
    }
    return Answer(data, table(rows))


@command("set", alias)
@click.argument("address", type=ALIAS)
@click.argument("targets", metavar="[TARGET]...", type=ADDRESS, nargs=-1)
@click.option(
    "--add", "added", metavar="TARGET", type=ADDRESS, multiple=True,
    help="Add a target; may be given several times.",
)  # fmt: skip
@click.option(
    "--remove", "removed", metavar="TARGET", type=ADDRESS, multiple=True,
    help="Remove a target; may be given several times.",
)  # fmt: skip
@_alias_options
async def set_(
    context: CommandContext,
    address: Address,
    targets: tuple[Address, ...],
    added: tuple[Address, ...],
    removed: tuple[Address, ...],
    options: _Options,
) -> Answer:
    """
    Change the targets or the kind of the alias ADDRESS.

    Each TARGET replaces all targets that it has; --add and --remove leave the others.

    With --json: address, kind, targets, words, send (as in add), changed.
    """
    if not (targets or added or removed or options.without_targets or options.send is not None):
        raise click.UsageError("name the targets, or say what to change: --add, --remove, …")
    if (targets or options.without_targets) and (added or removed):
        raise click.UsageError("--add and --remove change the targets that the alias has")
    settings = context.settings()
    async with context.open(settings) as plugins:
        register, known = address_register(plugins), await alias_of(plugins, address.normal)
        now = _with_targets(known, added, removed) if added or removed else known
        now = options.applied(now, targets)
        await alias_changes.set_alias(
            register, Directories(plugins.directories), now, settings.postmaster.normal,
            way_out=settings.way_out,
        )  # fmt: skip
    return Answer({**alias_data(now), "changed": True}, [f"{now.address}: {goes_to(now)}"])


def _with_targets(known: Alias, added: Sequence[Address], removed: Sequence[Address]) -> Alias:
    """Return the alias with targets added and removed.  Raises Refused."""
    targets = {one.normal: one for one in known.targets}
    for one in removed:
        if targets.pop(one.normal, None) is None:
            raise Refused(f"{known.address} has no target {one}")
    if not targets and not added:
        raise Refused(
            f"{known.address} would have no target; postoffice alias remove {known.address}"
        )
    return replace(known, targets=once_each([*targets.values(), *added]), kind=FORWARD, words="")


@command("remove", alias)
@click.argument("address", type=ALIAS)
async def remove(context: CommandContext, address: Address) -> Answer:
    """
    Remove the alias ADDRESS, and report what still leads to it.

    With --json: address, removed, pointing (aliases, forwards and catch-alls with this
    target).
    """
    async with context.open() as plugins:
        name = address.normal
        pointing = await alias_changes.remove_alias(address_register(plugins), name)
    data = {"address": name, "removed": True, "pointing": pointing}
    return Answer(data, [f"{name} is removed", *pointing_lines(name, pointing)])
