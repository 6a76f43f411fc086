"""
Checks an alias, a forward or a domain before it is saved; a refusal says why, for people.

These are generators that ask a directory; see ``address_resolution.run``.
"""

from __future__ import annotations

from dataclasses import replace
from string import ascii_letters, digits

from postoffice.accounts.address_resolution import (
    AliasLoop,
    Asking,
    catch_all_name,
    resolve,
    with_changes,
)
from postoffice.model.address import ENABLED, Account, Address
from postoffice.model.alias import FORWARD, KINDS, REFUSE, Alias, Domain
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import UNKNOWN_RECIPIENT

#: Targets of one alias, and characters of the words of a refusal, at most.
TARGETS = 100
WORDS = 200
#: Characters that cannot separate a name from its tag.
NO_SEPARATORS = f'{ascii_letters}{digits}.@"\\*'


class AddressRefused(PostOfficeError):
    """An alias, a forward or a domain that cannot be saved; the text says why."""


def check_alias(alias: Alias, postmaster: str, *, way_out: bool = False) -> Asking[None]:
    """
    Check an alias that is to be saved.  Raises AddressRefused.

    ``way_out`` says whether mail can be sent to other domains.
    """
    if alias.kind not in KINDS:
        raise AddressRefused(f"{alias.kind!r} is not a kind of alias: {', '.join(KINDS)}")
    if alias.address.startswith("*@"):
        raise AddressRefused(f"{alias.address} is the name of a catch-all, which a domain sets")
    if alias.kind != FORWARD and (alias.targets or alias.send):
        raise AddressRefused(f"{alias.address} has no targets: its kind is {alias.kind}")
    if alias.kind == REFUSE:
        _check_words(alias)
    found = yield alias.address
    if found.domain is None:
        raise AddressRefused(f"{_domain(alias.address)} is not a domain of ours")
    if isinstance(found.entry, Account):
        raise AddressRefused(
            f"{alias.address} is an account; an account forwards its mail with --forward"
        )
    if alias.kind == FORWARD:
        _count(alias.address, alias.targets)
        yield from _check_targets(alias.address, alias.targets, alias, postmaster, way_out)


def check_forward(account: Account, postmaster: str, *, way_out: bool = False) -> Asking[None]:
    """Check an account with a new ``forward``; as ``check_alias``."""
    if account.forward:
        _count(account.address, account.forward)
        taking = replace(account, state=ENABLED)
        yield from _check_targets(account.address, account.forward, taking, postmaster, way_out)


def check_domain(domain: Domain, postmaster: str, *, way_out: bool = False) -> Asking[None]:
    """Check a domain with new settings; as ``check_alias``."""
    if not all("!" <= one <= "~" and one not in NO_SEPARATORS for one in domain.separators):
        raise AddressRefused(
            f"{domain.separators!r} cannot be separators: they are characters such as + and -"
        )
    if domain.same_as:
        yield from _check_same_as(domain)
    if domain.catch_all:
        name = catch_all_name(domain.name)
        _count(name, domain.catch_all)
        alone = replace(domain, same_as="")  # the other domain's catch-all would come first
        yield from _check_targets(name, domain.catch_all, alone, postmaster, way_out)


def _check_same_as(domain: Domain) -> Asking[None]:
    if domain.same_as == domain.name:
        raise AddressRefused(f"{domain.name} cannot be an alias of itself")
    (other, _) = yield f"@{domain.same_as}"
    if other is None:
        raise AddressRefused(f"{domain.same_as} is not a domain of ours")
    if other.same_as:
        raise AddressRefused(
            f"{domain.same_as} is itself an alias, of {other.same_as}: name that domain"
        )


def _check_words(alias: Alias) -> None:
    words = alias.words
    if not words:
        raise AddressRefused(f"{alias.address} needs words that its refusal says")
    if not words.isascii() or not words.isprintable():
        raise AddressRefused(
            f"{words!r} cannot be in a reply: SMTP replies are one line of ASCII characters"
        )
    if len(words) > WORDS:
        raise AddressRefused(f"a refusal has at most {WORDS} characters, not {len(words)}")


def _count(name: str, targets: tuple[Address, ...]) -> None:
    if not targets:
        raise AddressRefused(f"{name} has no targets: it needs one at least")
    if len(targets) > TARGETS:
        raise AddressRefused(f"{name} has {len(targets)} targets; {TARGETS} are the most")


def _check_targets(
    name: str,
    targets: tuple[Address, ...],
    changed: Alias | Account | Domain,
    postmaster: str,
    way_out: bool,
) -> Asking[None]:
    """Check where the targets lead once the change is saved."""
    try:
        found = yield from with_changes(resolve(name, postmaster), changed)
    except AliasLoop as loop:
        if isinstance(changed, Domain):
            yield from _check_caught(name, targets, changed, postmaster)
        raise AddressRefused(f"{name} cannot have these targets: {loop}") from loop
    unknown = {one.address for one in found.refused if one.reply is UNKNOWN_RECIPIENT}
    remote = {one.normal for one in found.remote}
    for target in targets:
        if target.normal in unknown:
            raise _no_such(name, target)
        if target.normal in remote and not way_out:
            raise AddressRefused(
                f"{name} cannot have the target {target}: {_domain(target.normal)} is another "
                "domain, and this post office cannot send mail to other domains"
            )


def _check_caught(
    name: str, targets: tuple[Address, ...], changed: Domain, postmaster: str
) -> Asking[None]:
    """Refuse a target of a catch-all that does not exist: the catch-all would catch it itself."""
    without = replace(changed, catch_all=())
    for target in targets:
        found = yield from with_changes(resolve(target.normal, postmaster), without)
        if found.refusal is UNKNOWN_RECIPIENT:
            raise _no_such(name, target)


def _no_such(name: str, target: Address) -> AddressRefused:
    return AddressRefused(f"{name} cannot have the target {target}: there is no such address")


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
