"""What is checked of ``outbound`` when all of its keys were read, and the files that it names."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace

from postoffice.config.outbound import OutboundSettings, SmarthostSettings
from postoffice.config.outbound_values import DIRECT, NAME, REFUSE
from postoffice.config.source import Source
from postoffice.model.hop import ENCRYPT, VERIFY
from postoffice.model.route import Refuse

#: Octets of a password file at most.
PASSWORD_MAXIMUM = 4096
#: Hosts to which a password may be sent without TLS.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def complete(outbound: OutboundSettings, source: Source) -> OutboundSettings:
    """Check the routes and smarthosts, and read the passwords; what is wrong goes to ``source``."""
    _check_routes(outbound, source)
    smarthosts = {name: _complete(name, one, source) for name, one in outbound.smarthosts.items()}
    ca = outbound.tls.ca
    if ca is not None and not os.path.isfile(ca):
        source.complain("outbound.tls.ca", f"there is no file {ca}")
    return replace(outbound, smarthosts=smarthosts)


def _check_routes(outbound: OutboundSettings, source: Source) -> None:
    ended = ""
    for number, one in enumerate(outbound.routes):
        where = f"outbound.routes[{number}]"
        if ended:
            source.complain(where, f"never asked: {ended} fits all mail")
        if one.from_ is None and one.to is None:
            ended = ended or where
        if isinstance(one.via, str) and one.via not in outbound.smarthosts:
            close = difflib.get_close_matches(one.via, outbound.smarthosts, 1)
            known = ", ".join(outbound.smarthosts) or "none at all"
            hint = f"did you mean {close[0]}?" if close else f"known under smarthosts: {known}"
            source.complain(f"{where}.via", f"there is no smarthost {one.via!r}; {hint}")
        if one.words is not None and not isinstance(one.via, Refuse):
            source.complain(f"{where}.words", "has words, which only `via: refuse` says")


def _complete(name: str, one: SmarthostSettings, source: Source) -> SmarthostSettings:
    """The smarthost, with its password."""
    where = f"outbound.smarthosts.{name}"
    if name in (DIRECT, REFUSE):
        source.complain(where, f"{name} is a route already; choose another name")
    elif not NAME.match(name):
        source.complain(where, "a name has letters, digits and - _ . only")
    if one.login is None and one.password_file is None:
        return one
    if one.login is None or one.password_file is None:
        missing = "login" if one.login is None else "password_file"
        source.complain(where, f"{missing} is missing: a login needs both a name and a password")
        return one
    if one.tls not in (ENCRYPT, VERIFY) and one.host not in LOOPBACK:
        why = f"with {one.tls} the password could be sent in clear; use {ENCRYPT} or {VERIFY}"
        source.complain(f"{where}.tls", why)
    try:
        return replace(one, password=_password(one.password_file))
    except ValueError as error:
        source.complain(f"{where}.password_file", f"{one.password_file} {error}")
        return one


def _password(path: str) -> str:
    """Read the first line of a file.  Raises ValueError, whose text says what is wrong."""
    try:
        with open(path, "rb") as file:
            octets = file.read(PASSWORD_MAXIMUM + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(octets) > PASSWORD_MAXIMUM:
        raise ValueError(f"has over {PASSWORD_MAXIMUM} octets: it is no password file")
    try:
        password = octets.decode().partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if not password or not password.isprintable():
        raise ValueError("has no password in its first line")
    return password


def warnings(outbound: OutboundSettings) -> Iterator[tuple[str, str]]:
    """What is probably a mistake: keys, and what is odd about each."""
    last = outbound.routes[-1] if outbound.routes else None
    if last is None or last.from_ is not None or last.to is not None:
        yield (
            "outbound.routes",
            "mail that fits no route is refused; end with {via: direct} or {via: refuse}",
        )
    for name, one in outbound.smarthosts.items():
        path = one.password_file
        if path is not None and os.stat(path).st_mode & stat.S_IROTH:
            why = f"{path} can be read by every user of this machine: chmod o= {path}"
            yield f"outbound.smarthosts.{name}.password_file", why
