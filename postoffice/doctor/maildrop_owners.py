"""Which account a maildrop belongs to, and its quota."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.config.settings import Settings
from postoffice.interfaces import IAccountDirectory, IAccountListing
from postoffice.model.address import Account, Quota


@dataclass(frozen=True)
class OwnedMaildrop:
    """A maildrop, its account and its quota; both are None if the account is gone."""

    name: str
    account: str | None = None
    quota: Quota | None = None


async def owners_of(
    directories: Sequence[IAccountDirectory], settings: Settings, names: Sequence[str]
) -> list[OwnedMaildrop]:
    """Return the maildrops of these names with their owners; reads each list of accounts once."""
    wanted, owners = set(names), dict[str, OwnedMaildrop]()
    others = []
    for directory in directories:
        if IAccountListing.providedBy(directory):
            async for account in directory.each_account():
                if account.maildrop in wanted:
                    owners.setdefault(account.maildrop, maildrop_of(settings, account))
        else:
            others.append(directory)
    for name in names:
        for directory in () if name in owners else others:
            found = await directory.find(name)
            if found is not None and found.maildrop == name:
                owners.setdefault(name, maildrop_of(settings, found))
    return [owners.get(name) or OwnedMaildrop(name) for name in names]


def maildrop_of(settings: Settings, account: Account) -> OwnedMaildrop:
    """Return the maildrop of an account, with the quota that applies to it."""
    if account.address == settings.postmaster.normal:
        return OwnedMaildrop(account.maildrop, account.address, settings.postmaster_quota)
    quota = account.quota.or_else(settings.default_quota)
    return OwnedMaildrop(account.maildrop, account.address, quota)
