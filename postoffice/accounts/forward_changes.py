"""Changes of where mail goes, checked before they are saved: for the command and the web page."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from postoffice.accounts.address_checks import AddressRefused, check_forward
from postoffice.accounts.address_resolution import (
    DEPTH,
    NAMES,
    AliasLoop,
    Asking,
    resolve,
    run,
    with_changes,
)
from postoffice.accounts.directories import Directories
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Account, Address
from postoffice.model.alias import Alias

T = TypeVar("T")


async def save_forward(
    register: IAddressRegister,
    directories: Directories,
    account: Account,
    targets: Sequence[Address],
    keep_copy: bool,
    postmaster: str,
    *,
    way_out: bool,
) -> Account:
    """
    Check and save where an account's mail goes; return the account as it is now.

    ``postmaster`` is the account that gets the postmaster's mail; ``way_out`` says whether mail
    can be sent to other domains.  Without targets the own maildrop gets the mail.  Raises
    AddressRefused.
    """
    now = replace(account, forward=tuple(targets), keep_copy=keep_copy or not targets)
    await ask(directories, check_forward(now, postmaster, way_out=way_out))
    await check_above(register, directories, now, postmaster)
    await register.set_forward(now.address, now.forward, now.keep_copy)
    return now


async def check_above(
    register: IAddressRegister, directories: Directories, changed: Alias | Account, postmaster: str
) -> None:
    """Check that what leads to a changed entry can still be followed.  Raises AddressRefused."""
    above: dict[str, None] = {}
    names = [changed.address]
    for _ in range(DEPTH):
        pointing = [one for name in names for one in await register.pointing_to(name)]
        names = [one for one in dict.fromkeys(pointing) if one not in above]
        above.update(dict.fromkeys(names[: NAMES - len(above)]))
    for name in above:
        try:
            await ask(directories, with_changes(resolve(name, postmaster), changed))
        except AliasLoop as loop:
            raise AddressRefused(
                f"{changed.address} cannot have these targets: {name} leads to it: {loop}"
            ) from loop


async def ask(directories: Directories, asking: Asking[T]) -> T:
    """Let a generator of ``accounts.address_resolution`` ask directories; return its result."""
    result = run(asking, directories.look_up)
    return await result if isinstance(result, Awaitable) else result
