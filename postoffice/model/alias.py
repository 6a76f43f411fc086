"""Aliases and domains: what a directory has besides accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from postoffice.model.address import Account, Address

#: What happens to mail for an alias: it goes to the targets, is refused, or is discarded.
FORWARD, REFUSE, DISCARD = KINDS = ("forward", "refuse", "discard")
#: The separators between a local part and its tag, where a domain sets no others.
SEPARATORS = "+"


@dataclass(frozen=True)
class Alias:
    """
    An address that is not an account.

    ``address`` is its name, in normal form.  ``kind`` is one of KINDS.  ``targets`` are
    1 to 100 addresses, here or in other domains, for FORWARD.  ``words`` is the text of the
    reply, for REFUSE.  With ``send`` each account among the targets may send as this
    address; otherwise only an account that is the only target may.
    """

    address: str
    targets: tuple[Address, ...] = ()
    kind: str = FORWARD
    words: str = ""
    send: bool = False


@dataclass(frozen=True)
class Domain:
    """
    A local domain; ``name`` is in normal form.

    With ``same_as``, another domain, the accounts, aliases and catch-all of that domain also have
    addresses in this one.  Each character of ``separators`` separates a local part from its tag.
    Mail for an address that does not exist goes to ``catch_all``, unless its local part is among
    ``uncaught`` (in normal form).
    """

    name: str
    same_as: str = ""
    separators: str = SEPARATORS
    catch_all: tuple[Address, ...] = ()
    uncaught: frozenset[str] = frozenset()


class Found(NamedTuple):
    """
    The answer to a look-up of an address: the record of its domain, and its own entry.

    ``domain`` is None if the domain is not local, ``entry`` if there is neither an account
    nor an alias of exactly this name.
    """

    domain: Domain | None
    entry: Account | Alias | None = None
