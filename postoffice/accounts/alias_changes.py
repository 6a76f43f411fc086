"""Changes of aliases, checked before they are saved: for the command and the web page."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from postoffice.accounts.account_changes import ChangeRefused
from postoffice.accounts.address_checks import check_alias
from postoffice.accounts.directories import Directories
from postoffice.accounts.forward_changes import ask, check_above
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Address
from postoffice.model.alias import DISCARD, REFUSE, Alias

#: Targets that a text shows at most.
SHOWN = 3


async def find_alias(register: IAddressRegister, name: str) -> Alias | None:
    """Return the alias of that name (in normal form) in this directory, or None."""
    answer = register.look_up(name)
    found = await answer if isinstance(answer, Awaitable) else answer
    return found.entry if isinstance(found.entry, Alias) else None


async def add_alias(
    register: IAddressRegister,
    directories: Directories,
    made: Alias,
    postmaster: str,
    *,
    way_out: bool,
) -> None:
    """
    Check and add an alias.

    ``postmaster`` is the account that gets the postmaster's mail; ``way_out`` says whether mail
    can be sent to other domains.  Raises AddressRefused, ChangeRefused.
    """
    await _check(register, directories, made, postmaster, way_out)
    try:
        added = await register.add_alias(made)
    except LookupError:  # another directory serves the domain
        where = made.address.rpartition("@")[2]
        raise ChangeRefused(
            f"the aliases of {where} are in a directory that is only read"
        ) from None
    if not added:
        raise ChangeRefused(f"{made.address} is here already")


async def set_alias(
    register: IAddressRegister,
    directories: Directories,
    now: Alias,
    postmaster: str,
    *,
    way_out: bool,
) -> None:
    """Check and replace an alias; as ``add_alias``."""
    await _check(register, directories, now, postmaster, way_out)
    if not await register.set_alias(now):
        raise ChangeRefused(f"there is no alias {now.address} here")


async def remove_alias(register: IAddressRegister, name: str) -> list[str]:
    """Remove an alias; return what still leads to it.  Raises ChangeRefused."""
    if not await register.remove_alias(name):
        raise ChangeRefused(f"there is no alias {name} here")
    return await register.pointing_to(name)


async def _check(
    register: IAddressRegister,
    directories: Directories,
    changed: Alias,
    postmaster: str,
    way_out: bool,
) -> None:
    await ask(directories, check_alias(changed, postmaster, way_out=way_out))
    await check_above(register, directories, changed, postmaster)


def once_each(targets: Iterable[Address]) -> tuple[Address, ...]:
    """Return the targets in their order, each once."""
    found: dict[str, Address] = {}
    for one in targets:
        found.setdefault(one.normal, one)
    return tuple(found.values())


def goes_to(alias: Alias, shown: int = SHOWN) -> str:
    """Return what happens to mail for an alias, for people."""
    if alias.kind == REFUSE:
        return f"refused: {alias.words}"
    if alias.kind == DISCARD:
        return "discarded"
    more = len(alias.targets) - shown
    return ", ".join(map(str, alias.targets[:shown])) + (f" and {more} more" if more > 0 else "")


def pointing_lines(name: str, pointing: Iterable[str]) -> list[str]:
    """Return lines about what still has a removed address as a target."""
    return [f"{one} still leads to {name}" for one in pointing]
