"""Reads the arguments of POP3 commands.  Each function raises CommandFailed for a wrong one."""

from __future__ import annotations

import re

from postoffice.protocol.sasl import APOPClaim
from postoffice.protocol.scram import saslprep

_DIGEST = re.compile(rb"[0-9a-fA-F]{32}")


class CommandFailed(Exception):
    """A command failed, with this text and response code; the session sends the ``-ERR``."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def no_argument(argument: bytes) -> None:
    """Check that there is no argument."""
    if argument.strip():
        raise CommandFailed("this command takes no argument")


def whole_number(argument: bytes) -> int:
    """Read a number."""
    argument = argument.strip()
    if not argument.isdigit() or len(argument) > 10:
        raise CommandFailed("a number is needed")
    return int(argument)


def user_name(argument: bytes) -> bytes:
    """Read the name of USER."""
    name = argument.strip(b" \t")
    if not name:
        raise CommandFailed("USER needs a name")
    return in_utf8(name)


def in_utf8(octets: bytes) -> bytes:
    """
    Check that a name or a password is in UTF-8 (RFC 6856 §2.2); return it.

    SASLprep is applied as to a query, which allows unassigned characters (RFC 4013 §2.5).
    """
    if not octets.isascii():
        try:
            saslprep(octets.decode("utf-8"), query=True)
        except ValueError:
            raise CommandFailed("names and passwords must be in UTF-8", "AUTH") from None
    return octets


def apop_claim(argument: bytes, stamp: str) -> APOPClaim:
    """Read a name, and a digest of the greeting's timestamp and a secret (RFC 1939 §7)."""
    if not stamp:
        raise CommandFailed("there is no APOP here: the greeting has no timestamp")
    user, _, digest = argument.strip(b" \t").rpartition(b" ")
    user = user.rstrip(b" \t")
    if not user or not _DIGEST.fullmatch(digest):
        raise CommandFailed("APOP has a name and a digest")
    return APOPClaim(in_utf8(user), stamp.encode("ascii"), digest.lower())
