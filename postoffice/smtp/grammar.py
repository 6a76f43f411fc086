"""From a command line to its value: the grammar of RFC 5321 §4.1, with RFC 6531's letters."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from postoffice.address import ATEXT, LOCAL_MAXIMUM, Address, normal_domain
from postoffice.errors import PermanentFailure
from postoffice.reply import NEED_SMTPUTF8, UNKNOWN_PARAMETER, Reply

BAD_COMMAND = Reply(501, "5.5.4", "Syntax error in the argument")
BAD_SENDER = Reply(501, "5.1.7", "That is no sender's address; say MAIL FROM:<address>")
BAD_RECIPIENT = Reply(501, "5.1.3", "That is no recipient's address; say RCPT TO:<address>")
BAD_HELLO = Reply(501, "5.5.4", "That is no host name, and no address literal")
BAD_CHARACTERS = Reply(500, "5.5.2", "Control characters, or octets that are not UTF-8")

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NAME = r"[^\[\]<>@\",: ]+"
_MAILBOX = rf"(?P<local>{ATEXT}+(?:\.{ATEXT}+)*|{_QUOTED})@(?P<domain>\[[^\[\]\\<> ]+\]|{_NAME})"
_ROUTE = rf"(?:@{_NAME}(?:,@{_NAME})*:)?"
_PATH = re.compile(rf" *<(?:{_ROUTE}{_MAILBOX}|(?P<bare>[A-Za-z]*))>(?: +(?P<rest>.*))?\Z")
_PARAMETER = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~\x80-\U0010ffff]+))?\Z"
)
_SIZE = re.compile(r"[0-9]{1,20}\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+\Z")  # RFC 3461 §4; "<>" is one, too
_CHUNK = re.compile(r"([0-9]{1,20})(?: +(LAST))?\Z", re.IGNORECASE)
_HELLO = re.compile(r"[A-Za-z0-9_.:\[\]\x80-\U0010ffff-]{1,255}\Z")

#: What a trusted relay may tell by XCLIENT; only its address and port are made use of.
XCLIENT = frozenset(("NAME", "ADDR", "PORT", "PROTO", "HELO"))
UNKNOWN = "[UNAVAILABLE]"


@dataclass(frozen=True)
class MailCommand:
    """MAIL FROM: ``sender`` None is the null reverse-path; ``size`` 0 is none declared."""

    sender: Address | None
    size: int = 0
    utf8: bool = False


def decode(line: bytes) -> str:
    """The text of a command line.  Raises PermanentFailure."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise PermanentFailure("not UTF-8", BAD_CHARACTERS) from None
    if not text.isprintable():
        raise PermanentFailure("control characters", BAD_CHARACTERS)
    return text


def hello(argument: str) -> str:
    """
    The name behind EHLO or HELO.  Raises PermanentFailure.

    What real clients send is taken, underscores too; a Received field shows
    it only where it is a name by the book.
    """
    if not _HELLO.match(argument):
        raise PermanentFailure("bad name", BAD_HELLO)
    return argument


def mail(argument: str, parameters: tuple[str, ...]) -> MailCommand:
    """
    What stands behind ``MAIL FROM:`` (§4.1.1.2), with these ESMTP ``parameters`` at most.

    Raises PermanentFailure.
    """
    found = _path(argument, BAD_SENDER)
    if found["bare"]:
        raise PermanentFailure("no domain", BAD_SENDER)
    given = _parameters(found["rest"], parameters)
    sender = None if found["bare"] == "" else _address(found, BAD_SENDER)
    utf8 = "SMTPUTF8" in given
    if sender is not None and not sender.ascii and not utf8:
        raise PermanentFailure("SMTPUTF8 missing", NEED_SMTPUTF8)
    return MailCommand(sender, _declared_size(given), utf8)


def rcpt(argument: str, *, utf8: bool) -> Address | None:
    """
    What stands behind ``RCPT TO:`` (§4.1.1.3); None is ``<Postmaster>`` without a domain.

    Raises PermanentFailure.
    """
    found = _path(argument, BAD_RECIPIENT)
    _parameters(found["rest"], ())
    if found["bare"] is not None:
        if found["bare"].lower() != "postmaster":
            raise PermanentFailure("no domain", BAD_RECIPIENT)
        return None
    address = _address(found, BAD_RECIPIENT)
    if not address.ascii and not utf8:
        raise PermanentFailure("SMTPUTF8 missing", NEED_SMTPUTF8)
    return address


def _path(argument: str, wrong: Reply) -> re.Match[str]:
    found = _PATH.match(argument)
    if found is None:
        raise PermanentFailure("no path", wrong)
    return found


def _address(found: re.Match[str], wrong: Reply) -> Address:
    local, domain = found["local"], found["domain"]
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if not local or len(local.encode()) > LOCAL_MAXIMUM:
        raise PermanentFailure("bad local part", wrong)
    try:
        if domain.startswith("["):
            _literal(domain[1:-1])
        normal_domain(domain)
    except ValueError:
        raise PermanentFailure("bad domain", wrong) from None
    return Address(local, domain)


def _literal(text: str) -> None:
    """Check an address literal (§4.1.3).  Raises ValueError."""
    if text[:5].lower() == "ipv6:":
        ipaddress.IPv6Address(text[5:])
    else:
        ipaddress.IPv4Address(text)


def _parameters(rest: str | None, known: tuple[str, ...]) -> dict[str, str | None]:
    """Judge the ESMTP parameters: what is not known is refused, not ignored (§4.1.1.11)."""
    given: dict[str, str | None] = {}
    for word in (rest or "").split():
        found = _PARAMETER.match(word)
        if found is None or found["name"].upper() in given:
            raise PermanentFailure("bad parameter", BAD_COMMAND)
        name = found["name"].upper()
        if name not in known:
            raise PermanentFailure("unknown parameter", UNKNOWN_PARAMETER)
        given[name] = found["value"]
    for name in ("SMTPUTF8", "REQUIRETLS"):
        if given.get(name) is not None:
            raise PermanentFailure(f"{name} has no value", BAD_COMMAND)
    if "BODY" in given and (given["BODY"] or "").upper() not in ("7BIT", "8BITMIME"):
        wrong = (given["BODY"] or "").upper() == "BINARYMIME"  # RFC 3030 §3; not offered
        raise PermanentFailure("unknown BODY", UNKNOWN_PARAMETER if wrong else BAD_COMMAND)
    if "AUTH" in given and not _XTEXT.match(given["AUTH"] or ""):  # RFC 4954 §5
        raise PermanentFailure("bad AUTH", BAD_COMMAND)
    return given


def _declared_size(given: dict[str, str | None]) -> int:
    """SIZE (RFC 1870 §4); 0 where it is not given."""
    if "SIZE" not in given:
        return 0
    value = given["SIZE"] or ""
    if not _SIZE.match(value):
        raise PermanentFailure("bad SIZE", BAD_COMMAND)
    return int(value)


def chunk(argument: str) -> tuple[int, bool] | None:
    """The octets of a chunk, and whether it is the last (RFC 3030 §2); None where it says none."""
    found = _CHUNK.match(argument)
    return None if found is None else (int(found[1]), found[2] is not None)


def xclient(argument: str) -> tuple[str | None, int]:
    """
    The client's address and port that a trusted relay tells (Postfix's XCLIENT).

    The address is None where it is not known to it.  Raises PermanentFailure.
    """
    given: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in XCLIENT or name in given or not _XTEXT.match(value):
            raise PermanentFailure("bad attribute", BAD_COMMAND)
        given[name] = re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), value)
    if not given:
        raise PermanentFailure("no attribute", BAD_COMMAND)
    try:
        return _client(given.get("ADDR", UNKNOWN)), _port(given.get("PORT", UNKNOWN))
    except ValueError:
        raise PermanentFailure("bad address or port", BAD_COMMAND) from None


def _client(text: str) -> str | None:
    if text.upper() in (UNKNOWN, "[TEMPUNAVAIL]"):
        return None
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    if "%" in bare:  # a zone: it means nothing here, and may have any letters
        raise ValueError(text)
    address = ipaddress.ip_address(bare)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _port(text: str) -> int:
    if text.upper() in (UNKNOWN, "[TEMPUNAVAIL]"):
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ValueError(text)
    return int(text)
