"""
Letters to a sender about a message: failed, delayed, relayed, delivered (RFC 3461 §6, RFC 3464).

A letter has three parts (RFC 6522): a text for people, the same facts for programs, and the header
of the message or all of it.  Replies of other servers are quoted as one line of bounded length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import format_datetime
from hashlib import sha256
from textwrap import wrap

from postoffice.model.hop import CHECK, PeerReply
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.protocol import xtext

#: Octets of a message that is returned whole (RET=FULL), and of a header that is returned.
WHOLE, HEADER = 65_536, 32_768
#: Octets of a line at most (RFC 5322 §2.1.1), without CRLF.
LINE = 998
#: Characters that are quoted of another server's words, and of a field of the message.
QUOTED, FIELD = 500, 200
#: Recipients that the words name; the part for programs has all.
NAMED = 50
#: Phases of replies that no other server gave.
_OURS = (CHECK, "dns", "route", "connect", "tls")
#: Status codes that stay although a message has expired, as they say more: no TLS, TLS failed.
TLS_FAILURES = ("4.7.4", "4.7.5")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>\Z")

Replies = Mapping[int, PeerReply]


@dataclass(frozen=True, slots=True)
class LetterKind:
    """A kind of letter: its Action, its NOTIFY, the first digit of its status codes, its texts."""

    action: str
    notify: str
    status: str
    subject: str
    before: str
    after: str


FAILED = LetterKind(
    "failed",
    "FAILURE",
    "5",
    "Your message was not delivered",
    "Your message could not be delivered to:",
    "It will not be tried again.  Please check the address, or reach the recipient another way.",
)
NOT_FORWARDED = LetterKind(
    "failed",
    "FAILURE",
    "5",
    "A message was not forwarded",
    "A message that your address forwards could not be delivered to:",
    "Its sender is not told.  Please check where you forward to.",
)
DELAYED = LetterKind(
    "delayed",
    "DELAY",
    "4",
    "Your message is delayed",
    "Your message has not been delivered yet to:",
    "You need not send it again.",
)
RELAYED = LetterKind(
    "relayed",
    "SUCCESS",
    "2",
    "Your message was passed on",
    "Your message was passed on to the mail servers of:",
    "These servers do not report what becomes of it; you hear no more unless they refuse it.",
)
DELIVERED = LetterKind(
    "delivered",
    "SUCCESS",
    "2",
    "Your message was delivered",
    "Your message was delivered to:",
    "This does not say that it was read.",
)
EXPANDED = LetterKind(
    "expanded",
    "SUCCESS",
    "2",
    "Your message was delivered",
    "Your message was delivered to everybody who gets the mail for:",
    "You hear no more about single ones of them.",
)


@dataclass(frozen=True, slots=True)
class Occasion:
    """
    Where and when a letter is written, and about what.

    ``via`` is the other server, as the log names it, or "".  ``until`` is when the message is
    given up (Unix time).  ``original`` is the message's text, or its beginning.
    """

    hostname: str
    when: datetime
    via: str = ""
    until: float | None = None
    original: bytes = b""


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter: its text, and whether its own header or addresses need SMTPUTF8."""

    octets: bytes
    utf8: bool

    @property
    def eight_bit(self) -> bool:
        """Whether it has octets that are not ASCII."""
        return not self.octets.isascii()


def wanted(kind: LetterKind, message: QueuedMessage, replies: Replies) -> dict[int, PeerReply]:
    """
    Return the replies of those recipients about whom the sender wants such a letter.

    Without NOTIFY, letters about failures and delays are wanted (RFC 3461 §4.1).  Nobody gets a
    letter about a letter.
    """
    if not message.sender:
        return {}
    return {
        index: reply
        for index, reply in replies.items()
        if _wants(message.recipients[index].notify, kind.notify)
    }


def _wants(notify: str, kind: str) -> bool:
    return kind in notify.upper().split(",") if notify else kind != "SUCCESS"


def returns_whole(kind: LetterKind, message: QueuedMessage) -> bool:
    """Return whether a letter contains the whole message (RFC 3461 §4.3)."""
    full = kind is NOT_FORWARDED or (kind is FAILED and message.ret.upper() == "FULL")
    return full and message.octets < WHOLE and not message.requiretls  # RFC 8689 §5


def write(kind: LetterKind, message: QueuedMessage, replies: Replies, occasion: Occasion) -> Letter:
    """Write a letter about the recipients that have a reply."""
    status = _status_part(kind, message, replies, occasion)
    parts = [
        _part("text/plain; charset=utf-8", _words(kind, message, replies, occasion)),
        _part(_named(status, "delivery-status"), status),
        _original(occasion.original, whole=returns_whole(kind, message)),
    ]
    digest = sha256(b"".join(parts)).hexdigest()[:32]
    body = b"".join(b"--=_%s\r\n%s\r\n" % (digest.encode(), part) for part in parts)
    body += b"--=_%s--\r\n" % digest.encode()
    header = _header(kind, message, occasion, digest, eight_bit=not body.isascii())
    utf8 = not (header.isascii() and status.isascii())
    return Letter(header + b"\r\n" + body, utf8)


def _header(
    kind: LetterKind, message: QueuedMessage, occasion: Occasion, digest: str, *, eight_bit: bool
) -> bytes:
    host = occasion.hostname
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{host}>",
        f"To: <{_clean(message.sender, FIELD * 2)}>",
        f"Subject: {kind.subject}",
        f"Date: {format_datetime(occasion.when)}",
        f"Message-ID: <{digest}.{int(occasion.when.timestamp())}@{host}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="=_{digest}"',
    ]
    if eight_bit:
        lines.append("Content-Transfer-Encoding: 8bit")
    about = _field(occasion.original, "message-id")
    if _MESSAGE_ID.match(about):
        lines += [f"In-Reply-To: {about}", f"References: {about}"]
    return _lines(lines)


def _part(kind: str, text: bytes) -> bytes:
    """One part; the CRLF before the next boundary does not belong to it."""
    encoding = b"" if text.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return b"Content-Type: %s\r\n%s\r\n%s" % (kind.encode(), encoding, text)


def _named(text: bytes, name: str) -> str:
    return f"message/{name}" if text.isascii() else f"message/global-{name}"


# -- for people ------------------------------------------------------------------------


def _words(kind: LetterKind, message: QueuedMessage, replies: Replies, occasion: Occasion) -> bytes:
    lines = [f"This is the mail server {occasion.hostname}.", "", kind.before, ""]
    for index in list(replies)[:NAMED]:
        recipient, reply = message.recipients[index], replies[index]
        lines.append(f"  <{_clean(recipient.shown, FIELD * 2)}>")
        if kind in (FAILED, NOT_FORWARDED, DELAYED):
            for said in _reason(recipient, reply, occasion.via):
                lines += wrap(said, 70, initial_indent="    ", subsequent_indent="    ")
        lines.append("")
    if len(replies) > NAMED:
        lines += [f"  and {len(replies) - NAMED} more, whom the next part names", ""]
    if kind is DELAYED and occasion.until is not None:
        lines.append(f"It is tried again until {_date(occasion.until, occasion.when)}.")
    lines += [*wrap(kind.after, 72), "", "The message:", ""]
    for name in ("Subject", "To", "Date"):
        if value := _decoded(_field(occasion.original, name.lower())):
            lines.append(f"  {name}: {value}")
    return _lines(lines)


def _reason(recipient: QueuedRecipient, reply: PeerReply, via: str) -> list[str]:
    """Why a recipient has not got the message, in lines."""
    code = _code(reply)
    expired = [] if reply.permanent else ["It could not be delivered so far.  The last attempt:"]
    if _hidden(recipient):
        return [*expired, f"Mail to this address goes on to another server: {code or 'no answer'}"]
    said = _clean(reply.text, QUOTED)
    if reply.phase in _OURS or not reply.code:
        return [*expired, f"{code} {said}".strip()]
    return [*expired, f"The server {_host(via) or 'there'} answered:", f"{code} {said}"]


def _hidden(recipient: QueuedRecipient) -> bool:
    """Whether the sender may learn neither this address nor what its server says."""
    return recipient.shown != recipient.address


# -- for programs ----------------------------------------------------------------------


def _status_part(
    kind: LetterKind, message: QueuedMessage, replies: Replies, occasion: Occasion
) -> bytes:
    """The delivery-status part (RFC 3464 §2)."""
    lines = [f"Reporting-MTA: dns; {occasion.hostname}"]
    if envid := _envid(message.envid):
        lines.append(f"Original-Envelope-Id: {envid}")
    lines.append(f"Arrival-Date: {_date(message.came, occasion.when)}")
    for index, reply in replies.items():
        lines += ["", *_recipient_fields(kind, message.recipients[index], reply, occasion)]
    return _lines(lines)


def _recipient_fields(
    kind: LetterKind, recipient: QueuedRecipient, reply: PeerReply, occasion: Occasion
) -> list[str]:
    """The fields about one recipient (RFC 3464 §2.3)."""
    lines = []
    if original := _original_recipient(recipient.orcpt):
        lines.append(f"Original-Recipient: {original}")
    lines += [
        f"Final-Recipient: {_typed(recipient.shown)}",
        f"Action: {kind.action}",
        f"Status: {_status(kind, reply)}",
    ]
    if kind in (DELIVERED, EXPANDED):
        return lines
    asked = reply.code and reply.phase not in _OURS
    if asked and not _hidden(recipient) and (host := _host(occasion.via)):
        lines.append(f"Remote-MTA: dns; {host}")
    words = f" {_clean(reply.text, QUOTED)}" if not _hidden(recipient) else ""
    said = f"{_code(reply)}{words}".strip()
    if said and kind is not RELAYED:
        lines.append(f"Diagnostic-Code: {'smtp' if asked else 'x-postoffice'}; {_ascii(said)}")
    lines.append(f"Last-Attempt-Date: {format_datetime(occasion.when)}")
    if kind is DELAYED and occasion.until is not None:
        lines.append(f"Will-Retry-Until: {_date(occasion.until, occasion.when)}")
    return lines


def _code(reply: PeerReply) -> str:
    status = reply.status if _STATUS.match(reply.status) else ""
    return f"{reply.code or ''} {status}".strip()


def _status(kind: LetterKind, reply: PeerReply) -> str:
    """
    The status code; of a message that expired, 4.4.7, as no server has refused it.

    If TLS was what failed last, that says more (RFC 3463 §3.8).
    """
    if kind in (FAILED, NOT_FORWARDED) and not reply.permanent:
        return reply.status if reply.status in TLS_FAILURES else "4.4.7"
    if not _STATUS.match(reply.status):
        return f"{kind.status}.0.0"
    return kind.status + reply.status[1:]


def _envid(envid: str) -> str:
    try:
        return _ascii(_clean(xtext.decoded(envid), FIELD)) if envid else ""
    except ValueError:
        return ""


def _original_recipient(orcpt: str) -> str:
    """The address that the sender named to the first server (RFC 3464 §2.3.1)."""
    try:
        kind, address = xtext.original_recipient(orcpt)
    except ValueError:
        return ""
    return f"{kind}; {_clean(address, FIELD * 2)}"


def _typed(address: str) -> str:
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {_clean(address, FIELD * 2)}"


def _host(via: str) -> str:
    """The name of a server that the log writes as ``name[address]:port``; "" for a socket."""
    host = via.partition("[")[0]
    return "" if host.startswith("/") else _ascii(_clean(host, FIELD))


# -- the message -----------------------------------------------------------------------


def _original(text: bytes, *, whole: bool) -> bytes:
    """The third part: the message or its header."""
    header = text.partition(b"\r\n\r\n")[0]
    unicode = not header.isascii() and _is_utf8(header)
    if whole and all(len(line) <= LINE for line in text.split(b"\r\n")):
        return _part("message/global" if unicode else "message/rfc822", text)
    lines = header[:HEADER].split(b"\r\n")
    if len(header) > HEADER:
        lines.pop()
    kept = b"\r\n".join(line[:LINE] for line in lines) + b"\r\n"
    return _part("message/global-headers" if unicode else "text/rfc822-headers", kept)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _field(text: bytes, name: str) -> str:
    """The value of the first header field of that name, unfolded, or ""."""
    header = b"\r\n" + text[:HEADER].partition(b"\r\n\r\n")[0]
    pattern = rb"(?i)\r\n%s[ \t]*:((?:[^\r\n]|\r\n(?=[ \t]))*)" % re.escape(name.encode())
    found = re.search(pattern, header)
    return found[1].replace(b"\r\n", b"").decode(errors="replace").strip() if found else ""


def _decoded(value: str) -> str:
    """A header field for people: its encoded words (RFC 2047) are decoded."""
    value = value[: FIELD * 4]
    with suppress(HeaderParseError, LookupError, ValueError):
        value = str(make_header(decode_header(value)))
    return _clean(value, FIELD)


# -- text ------------------------------------------------------------------------------


def _clean(text: str, most: int) -> str:
    """One printable line of bounded length, whatever came."""
    text = "".join(one if one.isprintable() else "?" for one in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _lines(lines: list[str]) -> bytes:
    """Lines with their ends; each is of bounded length already, or is cut."""
    cut = (line.encode(errors="replace")[:LINE].decode(errors="ignore") for line in lines)
    return "".join(f"{line}\r\n" for line in cut).encode()


def _date(seconds: float, when: datetime) -> str:
    return format_datetime(datetime.fromtimestamp(int(seconds), when.tzinfo or UTC))
