"""
Loads modules before root changes to a user that may not be able to read them.

If Python lies in a folder of root's (pyenv or uv, for example), the user can use only
modules that are already in memory: ``load`` imports modules that are otherwise imported
late, and ``unreadable`` lists what the user cannot read.

The functions block.
"""

from __future__ import annotations

import codecs
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import suppress

from postoffice.util.file_modes import may

#: Packages to load with all their modules.
_WHOLE = ("email", "dns.rdtypes", "postoffice")
#: Modules of these packages that are not loaded: the command line, and modules for Windows.
_NOT = ("postoffice.cli", "email.mime", "email.__main__")
#: The codecs that mail may name; aliases need no files of their own.
_CODECS = (
    "ascii", "latin_1", "utf_7", "utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le", "idna",
    "punycode", "unicode_escape", "raw_unicode_escape", "base64_codec", "quopri_codec", "big5",
    "big5hkscs", "cp437", "cp866", "cp874", "cp932", "cp936" , "cp949", "cp950", "euc_jp", "euc_kr",
    "gb2312", "gb18030", "gbk", "hz", "iso2022_jp", "iso2022_jp_2", "iso2022_kr", "koi8_r",
    "koi8_u", "mac_roman", "shift_jis", "tis_620",
    *(f"cp{number}" for number in range(1250, 1259)),
    *(f"iso8859_{number}" for number in range(1, 17)),
)  # fmt: skip
#: Modules that the standard library and Twisted load when they are first needed.
_MODULES = (
    "concurrent.futures.thread",
    "getpass",
    "json",
    "linecache",
    "quopri",
    "stringprep",
    "subprocess",
    "tempfile",
    "traceback",
    "twisted.internet.process",
    "twisted.internet.threads",
    "twisted.internet.unix",
    "twisted.protocols.tls",
    "twisted.python.threadpool",
)


def load() -> None:
    """Load all of it, except what this system does not have."""
    for codec in _CODECS:
        with suppress(LookupError):
            codecs.lookup(codec)
    for name in (*_all(), *_MODULES):
        if name not in sys.modules:
            with suppress(ImportError):
                importlib.import_module(name)


def _all() -> Iterator[str]:
    for package in _WHOLE:
        yield package
        found = importlib.import_module(package)
        for one in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not one.name.startswith(_NOT):
                yield one.name


def unreadable() -> list[str]:
    """
    Return the files of the interpreter and libraries that the current user cannot read.

    If the user cannot enter a folder, the topmost such folder is listed instead.
    """
    modules = list(sys.modules.values())
    paths = [sys.executable]
    paths += [file for module in modules if (file := getattr(module, "__file__", None))]
    closed = dict.fromkeys(_closed(os.path.realpath(path)) for path in paths if path)
    return [path for path in closed if path]


def _closed(path: str) -> str:
    """Return the path, or its topmost folder, that cannot be read; "" if it can be read."""
    needed = os.R_OK | os.X_OK if path == os.path.realpath(sys.executable) else os.R_OK
    if may(path, needed):
        return ""
    above = path
    while (folder := os.path.dirname(above)) != above and not may(folder, os.X_OK):
        above = folder
    return above if os.path.lexists(path) or above != path else ""


def complaint(user: str) -> str:
    """Return the warning about a Python that this user cannot read; "" if the user can."""
    found = unreadable()
    if not found:
        return ""
    return (
        f"this Python lies where user {user} cannot read it: {', '.join(found[:3])}"
        f"{' and more' if found[3:] else ''}; modules that are loaded later may fail: "
        "make the environment with a Python that every user can run, such as /usr/bin/python3"
    )
