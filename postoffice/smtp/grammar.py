"""Parse SMTP command lines: the grammar of RFC 5321 §4.1, with the UTF-8 of RFC 6531."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace

from postoffice.model.address import Address
from postoffice.model.envelope import DeliveryStatus, Notify
from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import NEED_SMTPUTF8, PARAMETERS_NEED_EHLO, UNKNOWN_PARAMETER, Reply
from postoffice.protocol import xtext
from postoffice.smtp import paths
from postoffice.smtp.questions import Mail, Recipient
from postoffice.util.networks import in_plain_form

#: Octets of a command line, CRLF included: 512 by §4.5.3.1.4, and more for the extensions.
COMMAND_MAXIMUM = 2048
#: Octets of the values of ENVID and ORCPT (RFC 3461 §4.4, §4.2).
ENVID_MAXIMUM = 100
ORCPT_MAXIMUM = 500

BAD_COMMAND = Reply(501, "5.5.4", "Syntax error in the argument")
BAD_HELLO = Reply(501, "5.5.4", "A name is missing; say EHLO and your host name")
BAD_CHARACTERS = Reply(500, "5.5.2", "Control characters, or octets that are not UTF-8")

_BEHIND = {
    "FROM": re.compile(r"FROM *:(.*)\Z", re.IGNORECASE),
    "TO": re.compile(r"TO *:(.*)\Z", re.IGNORECASE),
}
_SENDER = Reply(501, "5.1.7", "Bad sender address")
_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address")
_PARAMETER = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\x00-\x20=\x7f]+))?\Z")
_SIZE = re.compile(r"[0-9]{1,20}\Z")
_EVENTS = frozenset(("SUCCESS", "FAILURE", "DELAY"))
_CHUNK = re.compile(r"([0-9]{1,20})(?: +(LAST))?\Z", re.IGNORECASE | re.ASCII)
_HELLO_FIRST = frozenset((b" ", b"E", b"H", b"L", b"X", b"e", b"h", b"l", b"x"))
_HELLO = re.compile(rb" *(?:EHLO|HELO|LHLO|XCLIENT) ", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
#: Characters that can falsify a display: control characters, line ends, bidirectional marks.
_ACTIVE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]"
)

#: Commands that advance a message, which all options allow.
ADVANCING = frozenset(("MAIL", "RCPT", "DATA", "BDAT"))
#: Commands that do not advance a message: their number between two messages is limited.
IDLE = frozenset(("EHLO", "HELO", "LHLO", "RSET", "NOOP", "VRFY", "HELP", "AUTH", "XCLIENT"))
#: Commands that cannot be given within a message.
OUTSIDE = frozenset(("MAIL", "AUTH", "XCLIENT"))
#: Commands that have no argument.
ALONE = frozenset(("STARTTLS", "DATA", "RSET", "QUIT"))
#: Known commands of SMTP and its extensions that are not implemented (§4.2.4: 502).
NOT_IMPLEMENTED = frozenset(("EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BURL", "ATRN"))
#: The attributes of XCLIENT that are used; all others are ignored.
_USED = ("ADDR", "PORT")
UNKNOWN = "[UNAVAILABLE]"


def decode(line: bytes) -> str:
    """
    The text of a command line, with TABs as spaces.  Raises PermanentFailure.

    The name in EHLO and HELO may have any octets except control characters; those
    that are not printable are escaped.
    """
    if b"\t" in line:
        line = line.replace(b"\t", b" ")
    if line[:1] in _HELLO_FIRST and _HELLO.match(line):
        if _CONTROL.search(line):
            raise PermanentFailure("control characters", BAD_CHARACTERS)
        text = line.decode("utf-8", "backslashreplace")
        if not text.isprintable():
            text = "".join(one if one.isprintable() else _escaped(one) for one in text)
        return text
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise PermanentFailure("not UTF-8", BAD_CHARACTERS) from None
    if not (text.isascii() and text.isprintable()) and _ACTIVE.search(text):
        raise PermanentFailure("control characters", BAD_CHARACTERS)
    return text


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def hello(argument: str) -> str:
    """
    The name after EHLO or HELO; any text is accepted.  Raises PermanentFailure if it is empty.

    A Received field shows a name that is no valid domain in a comment.
    """
    if not argument:
        raise PermanentFailure("no name", BAD_HELLO)
    return argument


def behind(word: str, argument: str) -> str:
    """Return the text after ``FROM:`` or ``TO:``.  Raises PermanentFailure."""
    found = _BEHIND[word].match(argument)
    if found is None:
        wrong = _SENDER if word == "FROM" else _RECIPIENT
        said = f"{word}: is missing; say {word}:<address>"
        raise PermanentFailure("no path", replace(wrong, text=said))
    return found[1]


def mail(argument: str, parameters: tuple[str, ...]) -> Mail:
    """
    Parse the text after ``MAIL FROM:`` (§4.1.1.2); ``parameters`` are those that are allowed.

    ``hello`` and ``protocol`` are left to the caller.  Raises PermanentFailure.
    """
    sender, rest = _path(argument, _SENDER)
    if rest and not parameters:
        raise PermanentFailure("parameters after HELO", PARAMETERS_NEED_EHLO)
    given = _parameters(rest, parameters)
    utf8 = "SMTPUTF8" in given
    if sender is not None and not sender.ascii and not utf8:
        raise PermanentFailure("SMTPUTF8 missing", NEED_SMTPUTF8)
    status = _status(given) if "RET" in given or "ENVID" in given else None
    return Mail(
        sender,
        _declared_size(given),
        utf8,
        status=status,
        eight_bit=(given.get("BODY") or "").upper() == "8BITMIME",
        requiretls="REQUIRETLS" in given,
    )


def rcpt(argument: str, parameters: tuple[str, ...] = (), *, utf8: bool) -> Recipient:
    """
    Parse the text after ``RCPT TO:`` (§4.1.1.3); ``parameters`` are those that are allowed.

    Raises PermanentFailure.
    """
    address, rest = _path(argument, _RECIPIENT)
    if address is None or not address.local:
        where = "between < and >" if address is None else "before the @"
        refusal = replace(_RECIPIENT, text=f"{_RECIPIENT.text}: nothing {where}")
        raise PermanentFailure("no recipient", refusal)
    notify = _notify(_parameters(rest, parameters), utf8=utf8) if rest else None
    if not address.domain and address.local.lower() == "postmaster":
        return Recipient(None, notify)
    if not address.ascii and not utf8:
        raise PermanentFailure("SMTPUTF8 missing", NEED_SMTPUTF8)
    return Recipient(address, notify)


def _path(argument: str, wrong: Reply) -> tuple[Address | None, str]:
    try:
        return paths.read(argument)
    except paths.NotAPath as why:
        raise PermanentFailure("no path", replace(wrong, text=f"{wrong.text}: {why}")) from None


def _parameters(rest: str, known: tuple[str, ...]) -> dict[str, str | None]:
    """Parse ESMTP parameters; unknown ones are refused, not ignored (§4.1.1.11)."""
    given: dict[str, str | None] = {}
    if not rest:
        return given
    for word in rest.split():
        found = _PARAMETER.match(word)
        if found is None:
            raise _bad(f"{word[:40]} is no parameter")
        name = found["name"].upper()
        if name in given:
            raise _bad(f"{name[:40]} is given twice")
        if name not in known:
            raise _unknown(name)
        given[name] = found["value"]
    for name in ("SMTPUTF8", "REQUIRETLS"):
        if given.get(name) is not None:
            raise _bad(f"{name} has no value")
    if "BODY" in given and (given["BODY"] or "").upper() not in ("7BIT", "8BITMIME"):
        if (given["BODY"] or "").upper() == "BINARYMIME":  # RFC 3030 §3; not offered
            raise _unknown("BODY=BINARYMIME")
        raise _bad("BODY is 7BIT or 8BITMIME")
    if "AUTH" in given and _decoded(given["AUTH"]) is None:  # RFC 4954 §5; "<>" is xtext, too
        raise _bad("AUTH has an address in xtext, or <>")
    return given


def _decoded(text: str | None) -> str | None:
    """Decode xtext (RFC 3461 §4); None if it is none."""
    try:
        return xtext.decoded(text or "")
    except ValueError:
        return None


def _status(given: dict[str, str | None]) -> DeliveryStatus:
    """The values of RET and ENVID (RFC 3461 §4.3, §4.4)."""
    ret, envid = (given.get("RET") or "").upper(), given.get("ENVID") or ""
    if "RET" in given and ret not in ("FULL", "HDRS"):
        raise _bad("RET is FULL or HDRS")
    if "ENVID" in given:
        meant = _decoded(envid)
        if len(envid) > ENVID_MAXIMUM or not (meant and meant.isascii() and meant.isprintable()):
            raise _bad(f"ENVID has printable ASCII in xtext, {ENVID_MAXIMUM} octets at most")
    return DeliveryStatus(ret, envid)


def _notify(given: dict[str, str | None], *, utf8: bool) -> Notify:
    """The values of NOTIFY and ORCPT (RFC 3461 §4.1, §4.2; RFC 6533 §3)."""
    flags = list(dict.fromkeys((given.get("NOTIFY") or "").upper().split(",")))
    if "NOTIFY" in given and flags != ["NEVER"] and not _EVENTS.issuperset(flags):
        raise _bad("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY")
    orcpt = given.get("ORCPT") or ""
    if "ORCPT" in given:
        try:
            xtext.original_recipient(orcpt)
        except ValueError:
            raise _bad("ORCPT has a type, a semicolon, and an address in xtext") from None
        if len(orcpt.encode()) > ORCPT_MAXIMUM:
            raise _bad(f"ORCPT has {ORCPT_MAXIMUM} octets at most")
        if not (utf8 or orcpt.isascii()):
            raise PermanentFailure("SMTPUTF8 missing", NEED_SMTPUTF8)
    return Notify(",".join(flags), orcpt)


def no_argument(verb: str) -> Reply:
    """The reply to a command that must not have an argument, but has one."""
    return replace(BAD_COMMAND, text=f"{verb} has no argument")


def _bad(what: str) -> PermanentFailure:
    return PermanentFailure(what, replace(BAD_COMMAND, text=f"{BAD_COMMAND.text}: {what}"))


def _unknown(name: str) -> PermanentFailure:
    text = f"Parameter {name[:40]} not recognized or not implemented"
    return PermanentFailure("unknown parameter", replace(UNKNOWN_PARAMETER, text=text))


def _declared_size(given: dict[str, str | None]) -> int:
    """The value of SIZE (RFC 1870 §4); 0 if it is not given."""
    if "SIZE" not in given:
        return 0
    value = given["SIZE"] or ""
    if not _SIZE.match(value):
        raise _bad("SIZE has a number of octets")
    return int(value)


def chunk(argument: str) -> tuple[int, bool] | None:
    """Parse BDAT (RFC 3030 §2): octets of the chunk, and whether it is the last; None if wrong."""
    found = _CHUNK.match(argument)
    return None if found is None else (int(found[1]), found[2] is not None)


def xclient(argument: str) -> tuple[str | None, int]:
    """
    Parse XCLIENT (Postfix): the client's address and port, as a trusted relay knows them.

    The address is None if the relay does not know it.  Raises PermanentFailure.
    """
    given: dict[str, str] = {}
    words = argument.split()
    for word in words:
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or not name:
            raise _bad(f"{word[:40]} is no attribute")
        if name not in _USED:  # LOGIN, HELO, and attributes of the future
            continue
        meant = _decoded(value)
        if name in given or meant is None:
            raise _bad(f"{name} is given twice, or has no value in xtext")
        given[name] = meant
    if not words:
        raise _bad("XCLIENT has attributes")
    try:
        return _client(given.get("ADDR", UNKNOWN)), _port(given.get("PORT", UNKNOWN))
    except ValueError:
        raise _bad("XCLIENT has no such ADDR or PORT") from None


def _client(text: str) -> str | None:
    if text.upper() in (UNKNOWN, "[TEMPUNAVAIL]"):
        return None
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    if "%" in bare:  # an IPv6 zone: it has no meaning on this host
        raise ValueError(text)
    return in_plain_form(ipaddress.ip_address(bare))


def _port(text: str) -> int:
    if text.upper() in (UNKNOWN, "[TEMPUNAVAIL]"):
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ValueError(text)
    return int(text)
