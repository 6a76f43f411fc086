"""Accounts page by page, of all directories together: each page costs the same."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.interfaces import IAccountDirectory, IAccountListing, IAccountPages
from postoffice.model.address import Account


async def accounts_after(
    directories: Sequence[IAccountDirectory], after: str, most: int, match: str = ""
) -> list[Account]:
    """
    Return at most so many accounts with addresses after ``after``, sorted by address.

    ``match`` is a part of their addresses.  Of two accounts with one address the earlier
    directory's counts.  Directories that cannot list their accounts are left out.
    """
    found: dict[str, Account] = {}
    for directory in directories:
        for account in await _page(directory, after, most, match):
            found.setdefault(account.address, account)
    return [found[address] for address in sorted(found)[:most]]


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
