"""Restores some maildrops of a backup, with their accounts, also while the daemon runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.backup.contents import BackupSelection
from postoffice.backup.manifest import BackupError
from postoffice.backup.reader import Checked, extract
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountListing, IAddressRegister, IStoreBackup
from postoffice.model.address import Account, Quota
from postoffice.model.mail_policy import UNSPECIFIED
from postoffice.store.transfer import import_record


@dataclass
class RestoredMaildrop:
    """What became of one maildrop."""

    maildrop: str
    messages: int  # that were restored
    there: int  # that already existed
    account: str  # "added", "there", or "" if the backup has none


async def restore(
    plugins: Plugins, checked: Checked, which: BackupSelection, step: Callable[[int], None]
) -> list[RestoredMaildrop]:
    """
    Restore the messages and accounts that are missing.

    Raises BackupError if the backup has nothing of an account or domain, MaildropLocked.
    """
    if not IStoreBackup.providedBy(plugins.store):
        raise BackupError("the store of this kind has no files that could be put back")
    with tempfile.TemporaryDirectory(prefix="postoffice-") as scratch:
        saved = await _saved_accounts(plugins, checked, scratch)
        try:
            return await _Restoration(plugins, checked, saved).run(which, step)
        finally:
            if saved is not None:
                await saved.stop()


async def _saved_accounts(
    plugins: Plugins, checked: Checked, scratch: str
) -> SQLiteDirectory | None:
    """Return the accounts in the backup, as a directory."""
    names = checked.summary.header.get("accounts") or {}
    paths = {str(name): f"{scratch}/accounts.{what}" for what, name in names.items()}
    if not extract(checked, lambda root, path: paths.get(f"{root}/{path}"), lambda _: None):
        return None
    directory = SQLiteDirectory(
        f"{scratch}/accounts.database", plugins.executor, f"{scratch}/accounts.key"
    )
    await directory.start()
    return directory


@dataclass
class _Goal:
    """
    A maildrop to restore: the account's address, and the account in the backup.

    ``account`` is what became of the account; ``folder`` is the maildrop's folder in the
    store, and ``staged`` the folder for its messages until all are extracted.
    """

    address: str
    saved: Account | None
    account: str = ""
    folder: str = ""
    staged: str = ""


class _Restoration:
    """Restores maildrops; ``saved`` is the directory of the accounts in the backup."""

    def __init__(self, plugins: Plugins, checked: Checked, saved: SQLiteDirectory | None) -> None:
        self._plugins = plugins
        self._store = cast(IStoreBackup, plugins.store)
        self._checked = checked
        self._saved = saved
        #: The account here of each maildrop: a renamed account has kept its maildrop.
        self._owners: dict[str, str] = {}

    async def run(
        self, which: BackupSelection, step: Callable[[int], None]
    ) -> list[RestoredMaildrop]:
        """Restore these maildrops."""
        for directory in self._plugins.directories:
            if IAccountListing.providedBy(directory):
                async for one in directory.each_account():
                    self._owners[one.maildrop] = one.address
        goals = await self._goals(which)
        try:
            for goal in goals.values():
                await self._prepare(goal)
            self._extract(goals, step)
            return [await self._put_back(goal) for goal in goals.values()]
        finally:
            for goal in goals.values():
                if goal.staged:
                    shutil.rmtree(goal.staged, ignore_errors=True)

    async def _prepare(self, goal: _Goal) -> None:
        goal.account = await self._restore_account(goal)
        account = await self._plugins.find(goal.address)
        goal.folder = self._store.folder_of(account.maildrop if account else goal.address)
        goal.staged = await self._store.staging(goal.folder)

    def _extract(self, goals: dict[str, _Goal], step: Callable[[int], None]) -> None:
        """Extract messages and records of imports; ``goals`` are by the folder in the backup."""

        def destination(root: str, path: str) -> str | None:
            above, _, name = path.rpartition("/")
            if root == "mail" and name == import_record.FILE and above in goals:
                return f"{goals[above].staged}/{name}"
            folder, _, box = above.rpartition("/")
            if root != "mail" or box not in ("new", "cur") or folder not in goals:
                return None
            return f"{goals[folder].staged}/{box}/{name}"

        extract(self._checked, destination, step)

    async def _put_back(self, goal: _Goal) -> RestoredMaildrop:
        restored, there = await self._store.put_back(goal.folder, goal.staged)
        return RestoredMaildrop(goal.address, restored, there, goal.account)

    # -- which maildrops -------------------------------------------------------------

    async def _goals(self, which: BackupSelection) -> dict[str, _Goal]:
        """Return the maildrops to restore, by their folders in the backup."""
        known = {self._store.folder_of(name): name for name in self._checked.index.maildrops()}
        names = list(which.addresses)
        for domain in which.domains:
            names += await self._names(known, domain)
        goals: dict[str, _Goal] = {}
        for name in dict.fromkeys(names):
            saved = await self._saved.find(name) if self._saved is not None else None
            folder = self._store.folder_of(await self._maildrop(name, saved))
            if saved is None and folder not in known:
                raise BackupError(f"it has neither an account {name} nor its maildrop")
            goals.setdefault(folder, _Goal(name, saved))
        if not goals:
            raise BackupError(f"it has nothing of {', '.join(which.domains)}")
        return goals

    async def _names(self, known: dict[str, str], domain: str) -> list[str]:
        """
        Return the addresses of a domain whose mail is in the backup.

        An account that was renamed since has the address that it has here.
        """
        saved = []
        if self._saved is not None:
            rows = self._saved.each_account(domain)
            saved = [one async for one in rows if one.address.endswith(f"@{domain}")]
        names = [self._owners.get(one.maildrop, one.address) for one in saved]
        names += [
            owner
            for maildrop, owner in self._owners.items()
            if owner.endswith(f"@{domain}") and self._store.folder_of(maildrop) in known
        ]
        theirs = {self._store.folder_of(one.maildrop) for one in saved}
        orphans = [name for folder, name in known.items() if folder not in theirs]
        return names + [
            self._owners.get(name, name) for name in orphans if name.endswith(f"@{domain}")
        ]

    async def _maildrop(self, name: str, saved: Account | None) -> str:
        """
        Return the maildrop in the backup that belongs to the account of this name here.

        Raises BackupError if the mail would go to the wrong account, because the name was
        given to another one since.
        """
        here = await self._plugins.find(name)
        if here is None:
            maildrop = saved.maildrop if saved is not None else name
            if maildrop in self._owners:
                owner = self._owners[maildrop]
                raise BackupError(
                    f"{name} was renamed, its maildrop belongs to {owner} now: "
                    f"restore it with --maildrop {owner}"
                )
            return maildrop
        if saved is not None and saved.maildrop != here.maildrop:
            another = self._owners.get(saved.maildrop)
            instead = f": restore it with --maildrop {another}" if another else ""
            raise BackupError(
                f"{name} was another account then, with the maildrop {saved.maildrop}, and the "
                f"mail of that account is not for {name}, whose maildrop is "
                f"{here.maildrop}{instead}"
            )
        return here.maildrop

    # -- accounts --------------------------------------------------------------------

    async def _restore_account(self, goal: _Goal) -> str:
        """Add the account as it is in the backup, if it is missing; return what was done."""
        if await self._plugins.find(goal.address) is not None:
            return "there"
        if goal.saved is None or self._saved is None:
            return ""
        await self._add(self._saved, goal.saved)
        return "added"

    async def _add(self, accounts: SQLiteDirectory, saved: Account) -> None:
        register, name = self._plugins.register, saved.address
        domain = name.rpartition("@")[2]
        if await register.add_domain(domain):
            await register.set_domain_quota(domain, await accounts.domain_quota(domain) or Quota())
            await register.set_domain_mail_policy(
                domain, await accounts.domain_mail_policy(domain) or UNSPECIFIED
            )
        free = await register.maildrop_for(saved.maildrop) == saved.maildrop
        maildrop = saved.maildrop if free else None
        await register.add(name, saved.secret, saved.scram, maildrop)
        if saved.shared is not None:
            await register.set_shared(name, saved.shared)
        await register.set_state(name, saved.state, saved.state_note)
        if saved.forward and IAddressRegister.providedBy(register):
            await cast(IAddressRegister, register).set_forward(name, saved.forward, saved.keep_copy)
        await register.set_quota(name, await accounts.account_quota(name) or Quota())
        await register.set_mail_policy(
            name, await accounts.account_mail_policy(name) or UNSPECIFIED
        )
        for device in await accounts.app_passwords(name):
            await register.add_app_password(name, device)
