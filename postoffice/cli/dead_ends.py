"""Aliases, forwards and catch-alls that lead nowhere, or in a circle."""

from __future__ import annotations

from collections.abc import AsyncIterator

from postoffice.accounts.address_resolution import AliasLoop, catch_all_name, resolve
from postoffice.cli.addresses import asked
from postoffice.cli.aliases import all_aliases
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountListing, IAddresses, IAliasListing
from postoffice.model.address import Address
from postoffice.model.alias import FORWARD
from postoffice.model.reply import UNKNOWN_RECIPIENT

#: Warnings that are shown.
SHOWN = 20


async def dead_ends(plugins: Plugins, postmaster: str) -> list[str]:
    """Return warnings about targets that are not there, and about loops."""
    good: set[str] = set()  # names that lead somewhere
    found: list[str] = []
    async for name, targets in _targets(plugins):
        if not targets:
            good.add(name)  # an account that forwards nothing
        for target in targets:
            if target.normal in good:
                continue
            why = await _dead(plugins, target, postmaster)
            if why:
                found.append(f"{name} has the target {target}: {why}")
            else:
                good.add(target.normal)
    if len(found) > SHOWN:
        return [*found[:SHOWN], f"{len(found) - SHOWN} more targets lead nowhere"]
    return found


async def _dead(plugins: Plugins, target: Address, postmaster: str) -> str:
    """Return why a target leads nowhere, or "".  A remote target is not looked at."""
    try:
        found = await asked(plugins, resolve(target.normal, postmaster))
    except AliasLoop as loop:
        return str(loop)
    unknown = any(one == (target.normal, UNKNOWN_RECIPIENT) for one in found.refused)
    return "there is no such address" if unknown else ""


async def _targets(plugins: Plugins) -> AsyncIterator[tuple[str, tuple[Address, ...]]]:
    """Yield everything that has targets, in all directories that can list it."""
    for directory in plugins.directories:
        if not IAddresses.providedBy(directory):
            continue
        if IAccountListing.providedBy(directory):
            async for account in directory.each_account():
                yield account.address, account.forward
            for domain in await directory.domains():
                answer = directory.look_up(f"@{domain}")
                record = (answer if isinstance(answer, tuple) else await answer).domain
                if record is not None and record.catch_all:
                    yield catch_all_name(domain), record.catch_all
        if IAliasListing.providedBy(directory):
            async for alias in all_aliases(directory, None):
                if alias.kind == FORWARD:
                    yield alias.address, alias.targets
