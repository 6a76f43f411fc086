"""``postoffice maildrop list``: the usage of all maildrops, and the owner of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, iso, sized, table
from postoffice.cli.progress import Progress
from postoffice.cli.quotas import limits
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.maildrop_owners import OwnedMaildrop, maildrop_of, owners_of
from postoffice.interfaces import IMaildropMaintenance, MaildropUsage
from postoffice.model.address import Address

HEADS = (
    "MAILDROP", "ACCOUNT", "MESSAGES", "SIZE", "USED", "QUOTA", "OLDEST", "LAST LOGIN", "VAULT",
)  # fmt: skip


@command("list")
async def list_(context: CommandContext) -> Answer:
    """
    List all maildrops, the largest first.

    USED is the share of the quota.  VAULT is deleted mail that can be restored; it does
    not count against the quota.  ACCOUNT is shown if its name differs from the
    maildrop's; "none" means that no account has it.

    After the table come folders whose names no account can have.

    With --json: maildrops, each with maildrop, account (or null), messages, octets, quota
    (or null), percent (of the quota, or null), oldest and last_login (or null),
    vault_messages, vault_octets; total, with maildrops, messages, octets, vault_messages,
    vault_octets; strays, if there are any, each with path and what.
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        with Progress("looking at maildrops") as progress:
            holdings = await maintenance_of(plugins).holdings(progress.at)
        drops = await owners_of(plugins.directories, settings, [one.name for one in holdings])
        found = list(zip(holdings, drops, strict=True))
        strays = await maintenance_of(plugins).strays()
    found.sort(key=lambda one: (-one[0].octets - one[0].vault_octets, one[0].name))
    total = _total([holding for holding, _ in found])
    lines = [*_table(found), "", _line(total)] if found else ["no maildrops"]
    lines += [f"{one.path}: {one.what}" for one in strays]
    told: dict[str, object] = {"maildrops": [_data(*one) for one in found], "total": total}
    if strays:
        told["strays"] = [{"path": one.path, "what": one.what} for one in strays]
    return Answer(told, lines)


def _table(found: Sequence[tuple[MaildropUsage, OwnedMaildrop]]) -> list[str]:
    """Return one line for each maildrop; empty columns are left out."""
    rows = [
        (
            drop.name,
            "none" if drop.account is None else drop.account if drop.account != drop.name else "",
            str(one.messages),
            sized(one.octets),
            _percent(one, drop),
            "" if drop.quota is None else limits(drop.quota),
            _day(one.oldest),
            _day(one.login) or "never",
            sized(one.vault_octets) if one.vault_messages else "",
        )
        for one, drop in found
    ]
    shown = [column for column in zip(HEADS, *rows, strict=True) if any(column[1:])]
    return table(list(zip(*shown, strict=True)))


def _data(one: MaildropUsage, drop: OwnedMaildrop) -> dict[str, object]:
    share = _share(one, drop)
    return {
        "maildrop": one.name,
        "account": drop.account,
        "messages": one.messages,
        "octets": one.octets,
        "quota": None if drop.quota is None else asdict(drop.quota),
        "percent": None if share is None else round(100 * share, 1),
        "oldest": iso(one.oldest),
        "last_login": iso(one.login),
        "vault_messages": one.vault_messages,
        "vault_octets": one.vault_octets,
    }


def _total(holdings: Sequence[MaildropUsage]) -> dict[str, int]:
    values = ("messages", "octets", "vault_messages", "vault_octets")
    sums = {value: sum(getattr(one, value) for one in holdings) for value in values}
    return {"maildrops": len(holdings), **sums}


def _line(total: dict[str, int]) -> str:
    line = (
        f"{counted(total['maildrops'], 'maildrop')}: {counted(total['messages'], 'message')}, "
        f"{sized(total['octets'])}"
    )
    if not total["vault_messages"]:
        return line
    kept = counted(total["vault_messages"], "message")
    return f"{line}; in the vault: {kept}, {sized(total['vault_octets'])}"


def _share(one: MaildropUsage, drop: OwnedMaildrop) -> float | None:
    return None if drop.quota is None else drop.quota.share(one.octets, one.messages)


def _percent(one: MaildropUsage, drop: OwnedMaildrop) -> str:
    """Return the share of the quota, rounded down: only a full maildrop shows 100%."""
    share = _share(one, drop)
    return "" if share is None else f"{int(100 * share)}%"


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d}"


# -- which account owns a maildrop ----------------------------------------------------------


def maintenance_of(plugins: Plugins) -> IMaildropMaintenance:
    """Return the store, if it supports maintenance.  Raises Refused."""
    if not IMaildropMaintenance.providedBy(plugins.store):
        raise Refused("a store of this kind does not support this command")
    return cast(IMaildropMaintenance, plugins.store)


async def named(plugins: Plugins, settings: Settings, address: Address) -> OwnedMaildrop:
    """Return the maildrop of an account, or of a removed account.  Raises Refused."""
    name = address.normal
    account = await plugins.find(name)
    if account is not None:
        return maildrop_of(settings, account)
    if any(one.name == name for one in await maintenance_of(plugins).holdings()):
        return (await owners_of(plugins.directories, settings, [name]))[0]
    raise Refused(f"there is neither an account {name} here nor a maildrop of that name")
