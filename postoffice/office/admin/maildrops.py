"""``postoffice maildrop``: who keeps how much, what can go, what can come back, and is it whole."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

import click

from postoffice.address import Address, Quota
from postoffice.errors import MaildropLocked
from postoffice.interfaces import (
    Finding,
    Holding,
    IAccountRegister,
    IMaildropCare,
    Kept,
    Old,
)
from postoffice.office.admin.desk import (
    ADDRESS,
    REFUSED,
    Answer,
    Desk,
    Refused,
    command,
    counted,
    iso,
    moment,
    sized,
    table,
)
from postoffice.office.admin.quotas import SIZE_TYPE, Told, told_of
from postoffice.office.admin.servings import DURATION_TYPE
from postoffice.office.config import Settings
from postoffice.office.rooms import Rooms
from postoffice.settings import read_duration


class SinceType(click.ParamType):  # type: ignore[type-arg]
    """A moment: a date, with a time or without, or how long ago it was."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            return time.time() - read_duration(int(value) if str(value).isdecimal() else value)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a time, such as '2026-01-31 14:00', nor how long ago it "
                "was, such as 2h",
                param,
                ctx,
            )


SINCE = SinceType()


@dataclass(frozen=True)
class Drop:
    """A maildrop, and whose it is: None for an account that is gone."""

    name: str
    account: str | None = None
    told: Told | None = None


@click.group()
def maildrop() -> None:
    """The maildrops: what lies in them, also in those of accounts that are gone."""


@command("list", maildrop)
def list_(desk: Desk) -> Answer:
    """
    All maildrops, those that use most first: whose each is, and what is in it.

    VAULT is what was deleted and can be brought back; it counts as used, but
    not against the quota.  ACCOUNT is empty where there is none any more.

    Folders that no account can have, for their names, are told behind them.

    With --json: maildrops, each with maildrop, account (or null), messages,
    octets, quota (or null), oldest and last_login (or null), vault_messages,
    vault_octets; strays, where there are any, each with path and what.
    """
    settings = desk.settings()

    async def work(rooms: Rooms) -> tuple[list[tuple[Holding, Drop]], list[Finding]]:
        holdings = await _care(rooms).holdings()
        owners = await _owners(rooms)
        drops = [(one, await _drop(rooms, settings, one.name, owners)) for one in holdings]
        return drops, list(await _care(rooms).strays())

    found, strays = desk.ask(work, settings)
    found.sort(key=lambda one: (-one[0].octets - one[0].vault_octets, one[0].name))
    rows = [("MAILDROP", "ACCOUNT", "MESSAGES", "SIZE", "QUOTA", "OLDEST", "LAST LOGIN", "VAULT")]
    rows += [
        (
            one.name,
            drop.account or "",
            str(one.messages),
            sized(one.octets),
            "" if drop.told is None else drop.told.cells[0],
            "" if one.oldest is None else moment(one.oldest),
            "never" if one.login is None else moment(one.login),
            sized(one.vault_octets) if one.vault_messages else "",
        )
        for one, drop in found
    ]
    data = [
        {
            "maildrop": one.name,
            "account": drop.account,
            "messages": one.messages,
            "octets": one.octets,
            "quota": None if drop.told is None else asdict(drop.told.quota),
            "oldest": iso(one.oldest),
            "last_login": iso(one.login),
            "vault_messages": one.vault_messages,
            "vault_octets": one.vault_octets,
        }
        for one, drop in found
    ]
    lines = table(rows) if found else ["no maildrops"]
    lines += [f"{one.path}: {one.what}" for one in strays]
    told: dict[str, Any] = {"maildrops": data}
    if strays:
        told["strays"] = [{"path": one.path, "what": one.what} for one in strays]
    return Answer(told, lines)


@command("purge", maildrop)
@click.argument("address", type=ADDRESS)
@click.option(
    "--over-quota", is_flag=True, help="The oldest messages, until it is within its quota."
)
@click.option("--older-than", type=DURATION_TYPE, help="What came before that, such as 90days.")
@click.option("--larger-than", type=SIZE_TYPE, help="What is larger, such as 20MiB.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def purge(
    desk: Desk,
    address: Address,
    over_quota: bool,
    older_than: float | None,
    larger_than: int | None,
    dry_run: bool,
) -> Answer:
    """
    Remove messages from the maildrop of ADDRESS, whether or not it has an account.

    With several options goes what any of them names.  It is refused while
    somebody collects.  What goes can be brought back (maildrop undelete), as
    long as store.undelete says.

    With --json: maildrop, messages and octets (what went, or would go), dry_run.
    """
    if not over_quota and older_than is None and larger_than is None:
        raise click.UsageError("say what shall go: --over-quota, --older-than, --larger-than")
    settings = desk.settings()

    async def work(rooms: Rooms) -> tuple[str, int, int]:
        drop = await _named(rooms, settings, address)
        which = Old(older_than, larger_than, _quota(drop) if over_quota else None)
        return drop.name, *await _care(rooms).purge(drop.name, which, dry_run)

    name, messages, octets = _at_rest(desk, work, settings, address)
    data = {"maildrop": name, "messages": messages, "octets": octets, "dry_run": dry_run}
    done = "would go" if dry_run else "removed"
    return Answer(data, [f"{name}: {counted(messages, 'message')}, {sized(octets)}, {done}"])


def _quota(drop: Drop) -> Quota:
    if drop.told is None:
        raise Refused(
            f"there is no account {drop.name} here, and so no quota; give --older-than or "
            "--larger-than"
        )
    return drop.told.quota


@command("undelete", maildrop)
@click.argument("address", type=ADDRESS)
@click.option("--session", metavar="ID", help="What this session took out.")
@click.option("--since", type=SINCE, help="All that was taken out since this time, or so long ago.")
def undelete(desk: Desk, address: Address, session: str | None, since: float | None) -> Answer:
    """
    Bring back what was deleted from the maildrop of ADDRESS; or tell what can be.

    Without an option it tells which sessions took something out that is still
    kept.  Their ids stand in the log, too; purge, make-room and expire are the
    post office itself.  What comes back has its old date and UIDL: a program
    that collected it before may not do so again.  It is refused while somebody
    collects.

    With --json: maildrop and messages (how many came back); or maildrop and
    sessions, each with session, time, messages, octets.
    """
    if session is not None and since is not None:
        raise click.UsageError("--session and --since exclude one another")
    settings = desk.settings()

    async def work(rooms: Rooms) -> tuple[str, int, list[Kept]]:
        drop = await _named(rooms, settings, address)
        care, back = _care(rooms), 0
        kept = list(await care.kept(drop.name))
        if session is not None or since is not None:
            wanted = (session or "", since or 0.0)
            if any(wanted[0] in ("", one.session) and one.time >= wanted[1] for one in kept):
                back = await care.undelete(drop.name, *wanted)
        return drop.name, back, kept

    name, back, kept = _at_rest(desk, work, settings, address)
    if session is None and since is None:
        return _kept(name, kept)
    if not back:
        what = f"of session {session}" if session is not None else f"since {moment(since or 0.0)}"
        raise Refused(f"{name}: nothing is kept {what}; postoffice maildrop undelete {name}")
    return Answer(
        {"maildrop": name, "messages": back}, [f"{name}: {counted(back, 'message')} brought back"]
    )


def _kept(name: str, kept: list[Kept]) -> Answer:
    rows = [("TIME", "SESSION", "MESSAGES", "SIZE")]
    rows += [(moment(one.time), one.session, str(one.messages), sized(one.octets)) for one in kept]
    sessions = [{**asdict(one), "time": iso(one.time)} for one in kept]
    lines = table(rows) if kept else [f"{name}: nothing is kept"]
    return Answer({"maildrop": name, "sessions": sessions}, lines)


@command("verify", maildrop)
@click.argument("address", type=ADDRESS, required=False)
@click.option("--repair", is_flag=True, help="Mend what is safe to mend.")
def verify(desk: Desk, address: Address | None, repair: bool) -> Answer:
    """
    Read all messages, of ADDRESS or of all maildrops, and tell what is not as it should be.

    Sizes that names claim, files that cannot be read or are none, leftovers of
    deliveries that failed, and what is counted for the quota.  It takes as long
    as reading all of it does.  --repair corrects names and counts, makes
    missing folders and removes leftovers; no message goes.  The exit code is 1
    when something was found and not mended.

    Maildrops that no account has are named too, and are no fault.

    With --json: maildrops (how many were looked at), findings, each with path,
    what, mended.
    """
    settings = desk.settings()

    async def work(rooms: Rooms) -> tuple[list[Drop], list[Finding]]:
        care, found = _care(rooms), list[Finding]()
        if address is not None:
            drops = [await _named(rooms, settings, address)]
        else:
            owners = await _owners(rooms)
            names = [one.name for one in await care.holdings()]
            drops = [await _drop(rooms, settings, name, owners) for name in names]
            found += await care.strays()
        for drop in drops:
            quota = settings.quota if drop.told is None else drop.told.quota
            found += await care.verify(drop.name, quota, repair)
        return drops, found

    drops, found = desk.ask(work, settings)
    count, ownerless = len(drops), [drop.name for drop in drops if drop.account is None]
    left = sum(not one.mended for one in found)
    lines = [f"{one.path}: {one.what}{' (mended)' if one.mended else ''}" for one in found]
    lines += [f"{name}: no account has this maildrop; nobody can collect" for name in ownerless]
    told_of_all = (counted(count, "maildrop"), counted(len(found), "finding"))
    lines.append(f"{': '.join(told_of_all)}, {len(found) - left} mended")
    data = {"maildrops": count, "findings": [asdict(one) for one in found]}
    return Answer(data, lines, REFUSED if left else 0)


def _at_rest(desk: Desk, work: Any, settings: Settings, address: Address) -> Any:
    """What work brings, if nobody collects meanwhile."""
    try:
        return desk.ask(work, settings)
    except MaildropLocked:
        raise Refused(
            f"somebody is collecting from {address.normal}; try again when that is over"
        ) from None


def _care(rooms: Rooms) -> IMaildropCare:
    if not IMaildropCare.providedBy(rooms.store):
        raise Refused("the store of this kind cannot be looked after with this command")
    return cast(IMaildropCare, rooms.store)


async def _owners(rooms: Rooms) -> dict[str, str]:
    """Whose each maildrop is, by directories that can tell of all their accounts."""
    owners: dict[str, str] = {}
    for directory in rooms.directories:
        if IAccountRegister.providedBy(directory):
            for one in await directory.accounts():
                owners.setdefault(one.maildrop, one.address)
    return owners


async def _drop(rooms: Rooms, settings: Settings, name: str, owners: dict[str, str]) -> Drop:
    """A maildrop of this name."""
    address = owners.get(name, name)
    for directory in rooms.directories:
        account = await directory.find(address)
        if account is not None and account.maildrop == name:
            quota = await told_of(directory, settings, account.address, account)
            return Drop(name, account.address, quota)
    return Drop(name)


async def _named(rooms: Rooms, settings: Settings, address: Address) -> Drop:
    """The maildrop of an account, or of one that is gone.  Raises Refused."""
    name = address.normal
    account = await rooms.find(name)
    if account is not None:
        return await _drop(rooms, settings, account.maildrop, {account.maildrop: name})
    if any(one.name == name for one in await _care(rooms).holdings()):
        return await _drop(rooms, settings, name, await _owners(rooms))
    raise Refused(f"there is neither an account {name} here nor a maildrop of that name")
