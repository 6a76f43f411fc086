"""Dovecot's variables in queries and filters: ``%{user}``, ``%{user|domain}``, ``%u``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from postoffice.model.errors import SettingError

#: The regular expression of a variable.
VARIABLE = r"%\{(?P<long>[^}]*)\}|%(?P<short>[a-zA-Z])"
#: The part of an address that each variable stands for.
_VALUES: dict[str, Callable[[str], str]] = {
    "user": lambda name: name,
    "user|username": lambda name: name.rpartition("@")[0],
    "user|domain": lambda name: name.rpartition("@")[2],
}
_SHORT = {"u": "user", "n": "user|username", "d": "user|domain"}


def variable(key: str, found: re.Match[str], more: Sequence[str] = ()) -> str:
    """
    Return the name of a variable that VARIABLE found; ``more`` are known besides those above.

    Raises SettingError for ``key`` if the variable does not exist.
    """
    long = found["long"]
    name = _SHORT.get(found["short"], "") if long is None else long.replace(" ", "")
    if name not in _VALUES and name not in more:
        known = ", ".join(f"%{{{one}}}" for one in (*_VALUES, *more))
        raise SettingError(
            key, f"the variable {found[0].strip(chr(39))} is not known, only {known}"
        )
    return name


def value(variable: str, address: str) -> str:
    """Return what a variable stands for in an address."""
    return _VALUES[variable](address)
