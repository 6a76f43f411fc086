"""
Dovecot's passwd-file: ``user:password:uid:gid:gecos:home:shell:extra fields``.

Only the user, the password and the extra fields count here.  Fields for Dovecot's storage are
ignored; any other extra field that is not known here is an error, because it may decide who can
log in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from postoffice.accounts import password_schemes
from postoffice.accounts.file_directory import FileContents
from postoffice.model.address import ENABLED, RECEIVE_ONLY, Account, Address, NotAnAddress, Quota
from postoffice.model.alias import Domain
from postoffice.model.app_password import networks_of
from postoffice.model.errors import StartupError

#: Problems that are reported, and octets of a line, at most.
PROBLEMS = 20
LINE = 8192
#: Octets in the units of a quota rule; storage is in KiB where it has none.
_UNITS = {"": 1 << 10, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LIMIT = re.compile(r"(storage|bytes|messages)=([0-9]{1,15})([BKMGT]?)B?", re.I | re.ASCII)


@dataclass(frozen=True)
class PasswdFile:
    """
    How files are read: a password without ``{SCHEME}`` has this ``scheme``.

    A user without a domain is in ``domain`` (in normal form), which is local even if nobody is.
    """

    scheme: str = "CRYPT"
    domain: str = ""

    def parse(self, path: str, octets: bytes) -> FileContents:
        """Read a file.  Raises StartupError, with all that is wrong."""
        problems: list[str] = []
        lines: dict[str, int] = {}
        accounts: dict[str, Account] = {}
        for number, line in _lines(octets):
            try:
                account = self._account(line)
                if account is not None:
                    if account.address in lines:
                        first = lines[account.address]
                        raise _BadLine(f"{account.address} stands in line {first} already")
                    lines[account.address] = number
                    accounts[account.address] = account
            except (_BadLine, NotAnAddress, password_schemes.UnusableHash) as why:
                problems.append(f"{path}:{number}: {why}")
        if problems:
            more = len(problems) - PROBLEMS
            problems[PROBLEMS:] = [f"{path}: {more} more lines are wrong"] if more > 0 else []
            raise StartupError("\n".join(problems))
        domains = {name.rpartition("@")[2] for name in accounts} | {self.domain} - {""}
        return FileContents({name: Domain(name) for name in domains}, accounts)

    def _account(self, octets: bytes) -> Account | None:
        """Return the account in a line; None for a comment, or an empty line."""
        line = _text(octets)
        if not line.strip() or line.startswith("#"):
            return None
        user, colon, rest = line.partition(":")
        if not colon:
            raise _BadLine("there is no colon: is it half a line?")
        fields = rest.split(":", 6)
        if len(fields) not in (1, 5, 6, 7) and any(fields[1:]):
            raise _BadLine(
                f"it has {len(fields) + 1} fields; expected user:password, or "
                "user:password:uid:gid:gecos:home:shell:extra fields"
            )
        extra = _ExtraFields()
        for word in fields[6].split() if len(fields) == 7 else ():
            extra.take(word)
        return Account(
            name := self._name(user),
            name,
            **self._password(fields[0]),
            quota=Quota(extra.octets, extra.messages),
            state=RECEIVE_ONLY if extra.nologin else ENABLED,
            networks=extra.networks,
        )

    def _name(self, user: str) -> str:
        if not user:
            raise _BadLine("the user is missing before the first colon")
        if "@" in user:
            return Address.parse(user).normal
        if not self.domain:
            raise _BadLine(
                f"{user} has no domain; write {user}@DOMAIN, or set domain: for the file"
            )
        return Address.parse(f"{user}@{self.domain}").normal

    def _password(self, text: str) -> password_schemes.PasswordFields:
        """
        Return what an account gets from a password field; nothing if there is no password.
        """
        if password_schemes.is_none(text):
            return {}
        return password_schemes.password_fields(
            text if text.startswith("{") else f"{{{self.scheme}}}{text}"
        )


class _BadLine(ValueError):
    """What is wrong with a line."""


def _lines(octets: bytes) -> Iterator[tuple[int, bytes]]:
    if not octets:
        return
    lines = octets.removesuffix(b"\n").split(b"\n")
    yield from enumerate(lines, 1)


def _text(octets: bytes) -> str:
    """Decode a line.  Raises _BadLine for a BOM, CRLF, control characters, and bad UTF-8."""
    if octets.startswith(b"\xef\xbb\xbf"):
        raise _BadLine("it begins with a byte order mark (BOM); save the file without it")
    if octets.endswith(b"\r"):
        raise _BadLine("it ends in CRLF; save the file with the line ends of UNIX")
    if len(octets) > LINE:
        raise _BadLine(f"the line has over {LINE} octets")
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise _BadLine(f"not UTF-8: the octet 0x{octets[error.start]:02X}") from None
    if not text.replace("\t", " ").isprintable():
        raise _BadLine("control characters")
    return text


@dataclass
class _ExtraFields:
    """The extra fields of one line."""

    octets: int | None = None
    messages: int | None = None
    networks: tuple[str, ...] = field(default=())
    nologin: bool = False

    def take(self, word: str) -> None:
        """Take one of the words.  Raises _BadLine."""
        name, _, value = word.partition("=")
        if re.fullmatch(r"userdb_quota_rule[0-9]*", name):
            self._quota_rule(value)
        elif name in ("userdb_quota_storage_size", "userdb_quota_message_count"):
            self._limit(f"{'bytes' if name.endswith('size') else 'messages'}={value}")
        elif name == "allow_nets":
            try:
                self.networks += networks_of(value)
            except ValueError as error:
                raise _BadLine(f"allow_nets: {error}") from None
        elif name == "nologin":
            self.nologin = self.nologin or value.lower() not in ("n", "no", "0")
        elif not name.startswith("userdb_") and name not in ("nodelay", "reason"):
            raise _BadLine(f"the extra field {name} is not supported")

    def _quota_rule(self, rule: str) -> None:
        """``*:storage=1G:messages=1000``; rules for single folders do not concern POP3."""
        root, _, limits = rule.partition(":")
        if root not in ("*", "?"):
            return
        if limits == "ignore":
            self.octets = self.messages = 0
            return
        for limit in limits.split(":"):
            self._limit(limit)

    def _limit(self, text: str) -> None:
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise _BadLine(
                f"{text!r} is not a limit of a quota, such as storage=1G or messages=1000"
            )
        kind, number, unit = found[1].lower(), int(found[2]), found[3].upper()
        if kind == "messages":
            self.messages = number
        else:
            self.octets = number * (1 if kind == "bytes" and not unit else _UNITS[unit])
