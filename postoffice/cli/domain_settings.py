"""The options of ``postoffice domain set`` about addresses: separators, and the catch-all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import click

from postoffice.accounts.alias_changes import once_each
from postoffice.cli.options import with_options
from postoffice.cli.parameters import ADDRESS, Parameter
from postoffice.model.address import Address
from postoffice.model.alias import SEPARATORS, Domain

T = TypeVar("T")

#: The names of these options, for error texts.
CHANGES = "--separators, --catch-all, --no-catch-all, --except"


@dataclass(frozen=True)
class DomainChange:
    """Changes of a domain's settings about addresses; None leaves a setting as it is."""

    separators: str | None = None
    catch_all: tuple[Address, ...] | None = None
    uncaught: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return self != DomainChange()

    def applied(self, known: Domain) -> Domain:
        """Return the domain with these changes."""
        changes = {name: value for name, value in vars(self).items() if value is not None}
        return replace(known, **changes)


def local_part(text: str) -> str:
    """Return a local part in normal form."""
    return Address.parse(f"{text}@localhost").normal.rpartition("@")[0]


def _change_of(
    separators: str | None,
    catch_all: tuple[Address, ...],
    no_catch_all: bool,
    uncaught: tuple[str, ...],
) -> DomainChange:
    """Return the change that these options ask for.  Raises UsageError."""
    if no_catch_all and (catch_all or uncaught):
        raise click.UsageError("--no-catch-all excludes --catch-all and --except")
    return DomainChange(
        separators,
        () if no_catch_all else once_each(catch_all) or None,
        frozenset(uncaught) or (frozenset() if catch_all or no_catch_all else None),
    )


def address_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add CHANGES: the function gets ``change``."""

    @functools.wraps(function)
    def run(
        *args: object,
        separators: str | None,
        catch_all: tuple[Address, ...],
        no_catch_all: bool,
        uncaught: tuple[str, ...],
        **rest: object,
    ) -> T:
        change = _change_of(separators, catch_all, no_catch_all, uncaught)
        return function(*args, change=change, **rest)

    return with_options(
        run,
        click.option(
            "--separators",
            metavar="CHARACTERS",
            help="The characters that separate a name from its tag, such as +-; empty: none.",
        ),
        click.option(
            "--catch-all",
            metavar="TARGET",
            type=ADDRESS,
            multiple=True,
            help="Where mail for addresses that do not exist goes; may be given several times.",
        ),
        click.option("--no-catch-all", is_flag=True, help="Refuse addresses that do not exist."),
        click.option(
            "--except",
            "uncaught",
            metavar="NAME",
            type=Parameter("name", local_part),
            multiple=True,
            help="A local part that the catch-all does not catch; may be given several times.",
        ),
    )


def domain_rows(domain: Domain) -> list[tuple[str, str]]:
    """Return the settings about addresses that are not the default, for people."""
    separators = domain.separators if domain.separators != SEPARATORS else ""
    rows = [
        ("alias of", domain.same_as),
        ("separators", separators if domain.separators else "none: names have no tags"),
        ("catch-all", ", ".join(map(str, domain.catch_all))),
        ("except", ", ".join(sorted(domain.uncaught))),
    ]
    return [row for row in rows if row[1]]
