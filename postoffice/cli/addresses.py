"""What the commands on aliases, forwards and domains share: the register, checks, and words."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Iterator
from typing import TypeVar, cast

import idna

from postoffice.accounts import account_changes, forward_changes
from postoffice.accounts.address_resolution import Asking
from postoffice.accounts.alias_changes import find_alias
from postoffice.accounts.directories import Directories
from postoffice.accounts.forward_changes import ask
from postoffice.cli.command import Refused
from postoffice.cli.confirmation import confirm_or_warn
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Account, Address
from postoffice.model.alias import Alias, Domain

T = TypeVar("T")


def address_register(plugins: Plugins) -> IAddressRegister:
    """Return the directory that the command writes aliases to.  Raises Refused."""
    if not IAddressRegister.providedBy(plugins.register):
        raise Refused("the directory of accounts that this command edits has no aliases")
    return cast(IAddressRegister, plugins.register)


async def asked(plugins: Plugins, asking: Asking[T]) -> T:
    """Let a generator of ``accounts.address_resolution`` ask all directories; return its result."""
    return await ask(Directories(plugins.directories), asking)


async def check_above(plugins: Plugins, changed: Alias | Account, postmaster: str) -> None:
    """Check that what leads to a changed entry can still be followed.  Raises AddressRefused."""
    directories = Directories(plugins.directories)
    await forward_changes.check_above(address_register(plugins), directories, changed, postmaster)


async def alias_of(plugins: Plugins, name: str) -> Alias:
    """Return the alias of that name.  Raises Refused."""
    found = await find_alias(address_register(plugins), name)
    if found is None:
        raise Refused(f"there is no alias {name} here")
    return found


async def domain_of(plugins: Plugins, name: str) -> Domain | None:
    """Return the domain of that name, from the directory that the command writes to."""
    answer = address_register(plugins).look_up(f"@{name}")
    return (await answer if isinstance(answer, Awaitable) else answer).domain


async def check_no_aliases_of(plugins: Plugins, name: str) -> None:
    """Raises Refused if other domains are the same as this one: it cannot be an alias itself."""
    pointing = await address_register(plugins).pointing_to(f"@{name}")
    if others := [one[1:] for one in pointing if one[0] == "@"]:
        raise Refused(f"{', '.join(others)} is an alias of {name}, which cannot be one itself")


async def check_free(plugins: Plugins, name: str) -> None:
    """Raises ChangeRefused if no account can have this name: taken, or its domain is not ours."""
    await account_changes.check_free(plugins.directories, plugins.register, name)


async def check_maildrop_empty(plugins: Plugins, name: str) -> None:
    """Raises ChangeRefused if a new account of this name would get the mail of an earlier one."""
    await account_changes.check_maildrop_empty(plugins.register, plugins.store.count, name)


async def still_pointing(plugins: Plugins, name: str) -> list[str]:
    """Return what has this address (or "@DOMAIN") as a target, if the directory knows that."""
    if not IAddressRegister.providedBy(plugins.register):
        return []
    return await address_register(plugins).pointing_to(name)


def alias_data(alias: Alias) -> dict[str, object]:
    """Return an alias as an object for --json."""
    return {
        "address": alias.address,
        "kind": alias.kind,
        "targets": [str(one) for one in alias.targets],
        "words": alias.words,
        "send": alias.send,
    }


def confirm_look_alike(name: Address | str) -> None:
    """Ask or warn if a new address, or domain, may look like another one."""
    for why in look_alikes(name):
        confirm_or_warn(why)


def look_alikes(name: Address | str) -> Iterator[str]:
    """
    Yield why an address, or a domain, may look like another one.

    It may if it mixes scripts, or has variants of other letters, such as full-width ones.
    """
    if isinstance(name, Address):
        shown, parts = str(name), [name.local, *name.domain.split(".")]
    else:
        shown = readable(name)
        parts = shown.split(".")
    if shown.isascii():
        return
    for text in parts:
        if len(found := scripts(text)) > 1:
            yield f"{shown} mixes {' and '.join(found)} letters"
    plain = unicodedata.normalize("NFKC", shown)
    if plain != unicodedata.normalize("NFC", shown):
        yield f"{shown} looks like {plain}, and is another name"


def readable(domain: str) -> str:
    """Return a domain in normal form in its own script."""
    try:
        return idna.decode(domain) if "xn--" in domain else domain
    except idna.IDNAError:  # an A-label of an older standard
        return domain


def scripts(text: str) -> list[str]:
    """Return the scripts of the letters in a text, such as Latin and Cyrillic; kana are one."""
    names = (unicodedata.name(one, "").split(" ")[0] for one in text if one.isalpha())
    found = {"CJK" if name in ("HIRAGANA", "KATAKANA") else name for name in names}
    return sorted(name.title() for name in found if name)
