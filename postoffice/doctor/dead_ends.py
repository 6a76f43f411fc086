"""Finds aliases, forwards, catch-alls and a postmaster that lead nowhere, or in a circle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence

from postoffice.accounts.address_resolution import (
    AliasLoop,
    NoPostmaster,
    Resolution,
    catch_all_name,
    resolve,
    run,
)
from postoffice.accounts.directories import Directories, all_aliases
from postoffice.interfaces import IAccountDirectory, IAccountListing, IAddresses, IAliasListing
from postoffice.model.address import Address
from postoffice.model.alias import FORWARD
from postoffice.model.reply import NO_RELAY, UNKNOWN_RECIPIENT

#: Warnings that are shown.
SHOWN = 20


async def dead_ends(directories: Sequence[IAccountDirectory], postmaster: str) -> list[str]:
    """Return warnings about targets that are not there, and about loops."""
    good: set[str] = set()  # names that lead somewhere
    found: list[str] = []
    async for name, targets in _targets(directories):
        if not targets:
            good.add(name)  # an account that keeps its mail
        for target in targets:
            if target.normal in good:
                continue
            why = await _dead(directories, target, postmaster)
            if why:
                found.append(f"{name} has the target {target}: {why}")
            else:
                good.add(target.normal)
    if len(found) > SHOWN:
        return [*found[:SHOWN], f"{len(found) - SHOWN} more targets lead nowhere"]
    return found


async def _resolved(
    directories: Sequence[IAccountDirectory], name: str, postmaster: str
) -> Resolution:
    answer = run(resolve(name, postmaster), Directories(directories).look_up)
    return await answer if isinstance(answer, Awaitable) else answer


async def _dead(directories: Sequence[IAccountDirectory], target: Address, postmaster: str) -> str:
    """Return why a target leads nowhere, or "".  A remote target is not looked at."""
    try:
        found = await _resolved(directories, target.normal, postmaster)
    except AliasLoop as loop:
        return str(loop)
    unknown = any(one == (target.normal, UNKNOWN_RECIPIENT) for one in found.refused)
    return "there is no such address" if unknown else ""


async def _targets(
    directories: Sequence[IAccountDirectory],
) -> AsyncIterator[tuple[str, tuple[Address, ...]]]:
    """Yield everything that has targets, in all directories that can list it."""
    for directory in directories:
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


async def postmaster_trouble(directories: Sequence[IAccountDirectory], postmaster: Address) -> str:
    """Return why mail to the postmaster gets a temporary error; "" if it does not."""
    later = "mail to the postmaster gets a temporary error"
    try:
        found = await _resolved(directories, postmaster.normal, postmaster.normal)
        if found.refusal is not NO_RELAY:
            why = found.refusal
            return "" if why is None else f"mail to the postmaster is refused: {why.log_text}"
    except AliasLoop as loop:
        return f"{later}: {loop}"
    except NoPostmaster:
        pass
    for directory in directories:
        if await directory.serves(postmaster.domain):
            add = f"postoffice account add {postmaster}"
            return f"there is no account {postmaster}: {later}; {add}"
    return (
        f"there is no domain {postmaster.domain} here, so no account {postmaster}: {later}; "
        "look at postmaster: in the configuration (postoffice domain list)"
    )
