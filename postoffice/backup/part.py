"""Some maildrops of a backup come back into an office that may be running, with their accounts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from postoffice.accounts.sqlite import SQLiteDirectory
from postoffice.backup.checked import Source, extract
from postoffice.backup.contents import Which
from postoffice.backup.entries import BackupError, Index, Told
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister, IStoreBackup
from postoffice.model.address import Account, Quota
from postoffice.model.mail_policy import UNSPECIFIED


@dataclass
class PutBack:
    """What became of one maildrop."""

    maildrop: str
    messages: int  # that came back
    there: int  # that were there
    account: str  # "added", "there", or "" where the backup knows none


async def put_back(
    plugins: Plugins,
    source: Source,
    index: Index,
    told: Told,
    which: Which,
    step: Callable[[int], None],
) -> list[PutBack]:
    """
    Messages that are not there, and accounts that are not there.

    Raises BackupError where the backup knows nothing of one, MaildropLocked.
    """
    if not IStoreBackup.providedBy(plugins.store):
        raise BackupError("the store of this kind has no files that could be put back")
    store = cast(IStoreBackup, plugins.store)
    with tempfile.TemporaryDirectory(prefix="postoffice-") as scratch:
        accounts = await _accounts(plugins, source, index, told, scratch)
        try:
            return await _put_back(plugins, store, source, index, accounts, which, step)
        finally:
            if accounts is not None:
                await accounts.stop()


async def _accounts(
    plugins: Plugins, source: Source, index: Index, told: Told, scratch: str
) -> SQLiteDirectory | None:
    """The accounts in the backup, to be asked."""
    said = told.header.get("accounts") or {}
    places = {said[one]: f"{scratch}/accounts.{one}" for one in said}

    def goes(root: str, path: str) -> str | None:
        return places.get(f"{root}/{path}")

    if not extract(source, index, goes, lambda _: None):
        return None
    database, key = f"{scratch}/accounts.database", f"{scratch}/accounts.key"
    directory = SQLiteDirectory(database, plugins.executor, key)
    await directory.start()
    return directory


@dataclass
class _Goal:
    """Of one maildrop in the backup: whose it is, in which folder here, and where it is laid."""

    address: str
    saved: Account | None
    account: str = ""
    folder: str = ""
    staged: str = ""


async def _put_back(
    plugins: Plugins,
    store: IStoreBackup,
    source: Source,
    index: Index,
    accounts: SQLiteDirectory | None,
    which: Which,
    step: Callable[[int], None],
) -> list[PutBack]:
    goals = await _goals(plugins, store, index, accounts, which)
    done = []
    try:
        for goal in goals.values():
            goal.account = await _see_to_account(plugins, accounts, goal)
            account = await plugins.find(goal.address)
            goal.folder = store.folder_of(account.maildrop if account else goal.address)
            goal.staged = await store.staging(goal.folder)

        def goes(root: str, path: str) -> str | None:
            above, _, name = path.rpartition("/")
            folder, _, box = above.rpartition("/")
            if root != "mail" or box not in ("new", "cur") or folder not in goals:
                return None
            return f"{goals[folder].staged}/{box}/{name}"

        extract(source, index, goes, step)
        for goal in goals.values():
            back, there = await store.put_back(goal.folder, goal.staged)
            done.append(PutBack(goal.address, back, there, goal.account))
    finally:
        for goal in goals.values():
            if goal.staged:
                shutil.rmtree(goal.staged, ignore_errors=True)
    return done


async def _goals(
    plugins: Plugins,
    store: IStoreBackup,
    index: Index,
    accounts: SQLiteDirectory | None,
    which: Which,
) -> dict[str, _Goal]:
    """By the folder in the backup.  Raises BackupError where there is nothing of somebody."""
    known = {store.folder_of(name): name for name in index.maildrops()}
    owners = await _owners(plugins)
    names = list(which.addresses)
    for domain in which.domains:
        names += await _names(store, known, owners, accounts, domain)
    goals: dict[str, _Goal] = {}
    for name in dict.fromkeys(names):
        saved = await accounts.find(name) if accounts is not None else None
        maildrop = await _maildrop(plugins, owners, name, saved)
        folder = store.folder_of(maildrop)
        if saved is None and folder not in known:
            raise BackupError(f"it has neither an account {name} nor its maildrop")
        goals.setdefault(folder, _Goal(name, saved))
    if not goals:
        raise BackupError(f"it has nothing of {', '.join(which.domains)}")
    return goals


async def _owners(plugins: Plugins) -> dict[str, str]:
    """Which account here has a maildrop: an account that was renamed has kept its own."""
    found: dict[str, str] = {}
    for directory in plugins.directories:
        if IAccountRegister.providedBy(directory):
            found |= {one.maildrop: one.address for one in await directory.accounts()}
    return found


async def _names(
    store: IStoreBackup,
    known: dict[str, str],
    owners: dict[str, str],
    accounts: SQLiteDirectory | None,
    domain: str,
) -> list[str]:
    """Whose mail of a domain is in the backup; an account by the name that it has here."""
    rows = await accounts.accounts(domain) if accounts is not None else []
    saved = [one for one in rows if one.address.endswith(f"@{domain}")]  # whatever else it says
    names = [owners.get(one.maildrop, one.address) for one in saved]
    here = [(owner, maildrop) for maildrop, owner in owners.items()]
    names += [
        owner
        for owner, maildrop in here
        if owner.endswith(f"@{domain}") and store.folder_of(maildrop) in known
    ]
    theirs = {store.folder_of(one.maildrop) for one in saved}
    orphans = [name for folder, name in known.items() if folder not in theirs]
    return names + [owners.get(name, name) for name in orphans if name.endswith(f"@{domain}")]


async def _maildrop(
    plugins: Plugins, owners: dict[str, str], name: str, saved: Account | None
) -> str:
    """
    Which maildrop of the backup is that of the account that has this name here.

    Raises BackupError where mail would come to somebody else: the name was given to
    another account since.
    """
    here = await plugins.find(name)
    if here is None:
        maildrop = saved.maildrop if saved is not None else name
        if maildrop in owners:
            raise BackupError(
                f"{name} was renamed, its maildrop belongs to {owners[maildrop]} now: "
                f"restore it with --maildrop {owners[maildrop]}"
            )
        return maildrop
    if saved is not None and saved.maildrop != here.maildrop:
        owner = owners.get(saved.maildrop)
        instead = f": restore it with --maildrop {owner}" if owner else ""
        raise BackupError(
            f"{name} was another account then, with the maildrop {saved.maildrop}, and the mail "
            f"of that account is not for {name}, whose maildrop is {here.maildrop}{instead}"
        )
    return here.maildrop


async def _see_to_account(plugins: Plugins, accounts: SQLiteDirectory | None, goal: _Goal) -> str:
    """Make it as it was in the backup, where there is none of that name; what became of it."""
    if await plugins.find(goal.address) is not None:
        return "there"
    if goal.saved is None or accounts is None:
        return ""
    await _add(plugins, accounts, goal.saved)
    return "added"


async def _add(plugins: Plugins, accounts: SQLiteDirectory, saved: Account) -> None:
    register, name = plugins.register, saved.address
    domain = name.rpartition("@")[2]
    if await register.add_domain(domain):
        await register.set_domain_quota(domain, await accounts.domain_quota(domain) or Quota())
        await register.set_domain_serving(
            domain, await accounts.domain_serving(domain) or UNSPECIFIED
        )
    taken = {one.maildrop for one in await register.accounts()}
    maildrop = None if saved.maildrop in taken else saved.maildrop
    await register.add(name, saved.secret, saved.scram, maildrop)
    if saved.shared is not None:
        await register.set_shared(name, saved.shared)
    await register.set_state(name, saved.state)
    await register.set_quota(name, await accounts.account_quota(name) or Quota())
    await register.set_serving(name, await accounts.account_serving(name) or UNSPECIFIED)
    for device in await accounts.devices(name):
        await register.add_device(name, device)
