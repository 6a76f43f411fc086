"""Accounts and aliases page by page, of all directories together: each page costs the same."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.accounts.directories import all_aliases
from postoffice.interfaces import (
    IAccountDirectory,
    IAccountListing,
    IAccountPages,
    IAliasListing,
)
from postoffice.model.address import Account
from postoffice.model.alias import Alias


async def accounts_after(
    directories: Sequence[IAccountDirectory], after: str, most: int, match: str = ""
) -> list[Account]:
    """
    Return at most ``most`` accounts whose addresses come after ``after``, sorted by address.

    ``match`` is a part of their addresses.  If two directories have an account of one address,
    the first one's is returned.  Directories that cannot list their accounts are left out.
    """
    found: dict[str, Account] = {}
    for directory in directories:
        for account in await _page(directory, after, most, match):
            found.setdefault(account.address, account)
    return [found[address] for address in sorted(found)[:most]]


async def aliases_after(
    directories: Sequence[IAccountDirectory], after: str, most: int, match: str = ""
) -> list[Alias]:
    """Return aliases in the same way; ``match`` is a part of the address or of a target."""
    found: dict[str, Alias] = {}
    for directory in directories:
        for alias in await _aliases(directory, after, most, match):
            found.setdefault(alias.address, alias)
    return [found[address] for address in sorted(found)[:most]]


async def _aliases(
    directory: IAccountDirectory, after: str, most: int, match: str
) -> Sequence[Alias]:
    if IAccountPages.providedBy(directory):
        page: Sequence[Alias] = await directory.aliases_after(after, most, match)
        return page
    if not IAliasListing.providedBy(directory):
        return ()
    return [
        one
        async for one in all_aliases(directory, None)
        if one.address > after
        and any(match in text for text in (one.address, *(to.normal for to in one.targets)))
    ]


async def _page(
    directory: IAccountDirectory, after: str, most: int, match: str
) -> Sequence[Account]:
    if IAccountPages.providedBy(directory):
        page: Sequence[Account] = await directory.accounts_after(after, most, match)
        return page
    if not IAccountListing.providedBy(directory):
        return ()
    fits = []
    async for account in directory.each_account():
        if account.address > after and match in account.address:
            fits.append(account)
    return sorted(fits, key=lambda one: one.address)[:most]
