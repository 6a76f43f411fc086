"""All events of the log, with level and fields, and the formatting of an event as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Octets of a line at most, without the time and the level before it (about 50 octets).
LINE = 960
#: Octets of one value at most; and of each value if the line would otherwise be too long.
VALUE, SHORT = 300, 44
#: Octets of addresses or UIDLs in one line; the others follow in further lines.
LIST = 640

#: Every field and its meaning.  Fields have this order in every line.
FIELDS = {
    "id": "the session, or the message: the session's id, a dot, and a number",
    "service": "the service, as in the configuration: smtp, submission, lmtp, pop3, …",
    "client": "the client's IP address, or local for a UNIX socket",
    "tls": "version and cipher; left out on a connection without TLS",
    "account": "the account whose password was right, or whose mail it is",
    "device": "the device of that account whose password it was",
    "maildrop": "the maildrop, by its name",
    "mechanism": "how the client logged in: a SASL mechanism, USER or APOP",
    "user": "the name that a client tried to log in with; it is not verified",
    "policy": "the policy, as the configuration names it",
    "sender": "the reverse-path (MAIL FROM), in angle brackets",
    "author": "an address in the From field",
    "outcome": "taken (accepted) or refused",
    "recipient": "the address in RCPT TO",
    "recipients": "how many recipients the message has",
    "to": "their addresses; those that do not fit follow in further lines",
    "message_id": "the Message-ID in the message's header",
    "size": "octets of the message as the client sent it",
    "uidl": "the UIDL of the message in the maildrop of every recipient",
    "messages": "how many messages",
    "octets": "how many octets",
    "percent": "the usage that was reached, in per cent of the quota",
    "uidls": "UIDLs, separated by commas; those that do not fit follow in further lines",
    "helo": "the name that the client gave (HELO, EHLO, LHLO)",
    "command": "the command; never a password, never what follows AUTH, PASS or APOP",
    "reply": "the reply that the client got",
    "taken": "messages that were accepted",
    "retrieved": "messages that were sent completely (RETR)",
    "deleted": "messages that were deleted",
    "refused": "commands that were refused",
    "file": "a file in the maildrop",
    "opened": "listeners that were opened, with commas: service and address",
    "closed": "listeners that were closed, with commas; their sessions go on",
    "why": "the reason",
}


@dataclass(frozen=True)
class Event:
    """
    One kind of event; ``meaning`` is printed in the manual.

    ``level`` is the name of one of Twisted's levels.  A field without a value is omitted.
    """

    name: str
    level: str
    fields: tuple[str, ...]
    meaning: str

    def line(self, values: Mapping[str, object]) -> str:
        """The event as one line."""
        parts = [self.name]
        for field in self.fields:
            value = values.get(field)
            if value is not None and value != "":
                parts.append(f"{field}={value if type(value) is str else _text(value)}")
        line = " ".join(parts)
        if (  # the usual case: one check for all values
            len(line) <= LINE
            and line.count(" ") == len(parts) - 1
            and line.isascii()
            and line.isprintable()
            and '"' not in line
            and "\\" not in line
        ):
            return line
        line = self._line(values, VALUE)
        if len(line) > LINE // 4 and len(line.encode()) > LINE:
            line = self._line(values, SHORT)
        return line

    def _line(self, values: Mapping[str, object], most: int) -> str:
        parts = [self.name]
        for field in self.fields:
            value = values.get(field)
            if value is not None and value != "":
                parts.append(f"{field}={shown(value, LIST if field in _LISTS else most)}")
        return " ".join(parts)


#: Fields whose values ``portions`` has made: they are never cut.
_LISTS = frozenset(("to", "uidls"))
#: All events by name, in the order of the manual.
EVENTS: dict[str, Event] = {}


def _event(name: str, level: str, fields: str, meaning: str) -> Event:
    event = EVENTS[name] = Event(name, level, tuple(fields.split()), meaning)
    return event


def tell(log: Any, event: Event, /, **fields: object) -> None:
    """Log an event with a ``twisted.logger.Logger``; its observers also get the fields."""
    line = event.line(fields)
    fields["line"], fields["event"] = line, event.name
    getattr(log, event.level)("{line}", **fields)


def tell_failure(log: Any, event: Event, failure: Any = None, /, **fields: object) -> None:
    """Log an event for a fault of ours, with its traceback."""
    log.failure("{line}", failure, line=event.line(fields), event=event.name, **fields)


# -- values ------------------------------------------------------------------

#: Text that needs no quotes: visible ASCII without quotes and backslashes.
_PLAIN = re.compile(r"[!#-\[\]-~]+\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(value: object, most: int = VALUE) -> str:
    """Format a value for a log line: one word, or quoted, and at most ``most`` octets."""
    text = value if isinstance(value, str) else _text(value)
    if len(text) <= most and _PLAIN.match(text):
        return text
    whole, escaped = _escaped(text, most)
    plain = escaped == text and " " not in text and text != ""
    return escaped if plain and whole else f'"{escaped}"'


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escaped(text: str, most: int) -> tuple[bool, str]:
    """Escape a text; return also whether all of it fits into ``most`` octets."""
    out: list[str] = []
    for char in text[: most + 1]:
        said = _ESCAPES.get(char) or (char if char.isprintable() else _numbered(char))
        most -= 1 if char < "\x80" and len(said) == 1 else len(said.encode())
        if most < 0:
            return False, "".join([*out, "..."])
        out.append(said)
    return True, "".join(out)


def _numbered(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def portions(words: Iterable[str], first: int = LIST) -> Iterator[str]:
    """
    Join words with commas, in portions that fit into a line.

    ``first`` is how many octets fit into the first line; its portion may be empty.
    """
    held: list[str] = []
    room, size = first, 0
    for word in words:
        one = shown(word, VALUE)
        if size + len(one.encode()) + 3 > room:
            yield ",".join(held)
            room, held, size = LIST, [], 0
        held.append(word)
        size += len(one.encode()) + 1
    yield ",".join(held)


# -- the events --------------------------------------------------------------

LOGIN = _event(
    "login",
    "info",
    "id service client tls account device mechanism",
    "A client has logged in.",
)
LOGIN_REFUSED = _event(
    "login-refused",
    "info",
    "id service client tls mechanism user",
    "Unknown user or wrong password.  For the app password of a device that may not be used there, "
    "``device-refused`` says why.",
)
LOGIN_DISABLED = _event(
    "login-disabled",
    "info",
    "id service client tls mechanism user",
    "The password was right, but the account is disabled: the login was refused.",
)
LOGIN_TIMED_OUT = _event(
    "login-timed-out",
    "info",
    "id service client tls",
    "A client that has to log in had not done so ten minutes after the greeting, or was silent for "
    "too long; the session was ended.",
)
VOUCHER_FAILED = _event(
    "voucher-failed",
    "warn",
    "user why",
    "A plugin's checker accepted a user who has no account here; the login was refused.",
)
DEVICE_REFUSED = _event(
    "device-refused",
    "info",
    "service client account device why",
    "The app password of a device was right, but it may not be used there.",
)
NETWORK_REFUSED = _event(
    "network-refused",
    "info",
    "service client account why",
    "The password was right, but this account may not log in from there; the client is told that "
    "it was wrong.",
)
PASSWORD_REHASHED = _event(
    "password-rehashed",
    "info",
    "account why",
    "A password was right, and its stored hash (of the scheme that ``why`` names) was replaced by "
    "a new one that is harder to attack.",
)
LOGIN_SLOWED = _event(
    "login-slowed",
    "info",
    "client user",
    "Too many wrong passwords: this login was refused, and its password was not verified.  The "
    "client may try again later.  ``client`` is the client's network.",
)
REFUSED = _event(
    "refused",
    "info",
    "id service client tls account device sender recipient recipients to helo command reply",
    "A command, a login, a recipient or a message was refused: each reply 4yz, 5yz and "
    "``-ERR``.  Of one session, the first 200.",
)
RECIPIENT_FOLLOWED = _event(
    "recipient-followed",
    "info",
    "id recipient to",
    "An alias, a forward or a catch-all leads from a recipient to these accounts.",
)
TARGET_REFUSED = _event(
    "target-refused",
    "warn",
    "id user recipient why",
    "A target of an alias does not get the message, but others do.  ``user`` is the target.",
)
MESSAGE_DISCARDED = _event(
    "message-discarded",
    "info",
    "id sender recipient",
    "An alias discards the mail for this recipient, who is accepted.",
)
MESSAGE_TAKEN = _event(
    "message-taken",
    "info",
    "id service client tls account device sender recipients to message_id size uidl helo",
    "A message was accepted: it is on the disk, and the client got the reply 250.",
)
MESSAGE_TAKEN_FOR = _event(
    "message-taken-for",
    "info",
    "id to uidl",
    "Further recipients of the message with this id.",
)
FOREIGN_FROM = _event(
    "foreign-from",
    "info",
    "id account author outcome",
    "A user sends as somebody else: an address in the From field does not lead to the account.",
)
MESSAGE_DELETED = _event(
    "message-deleted",
    "info",
    "id service client account device uidl",
    "A session has deleted a message: by DELE and QUIT, or because all required devices have "
    "collected it.",
)
SESSION_ENDED = _event(
    "session-ended",
    "info",
    "id service client tls account device helo taken retrieved deleted refused",
    "A client has disconnected.",
)
TAKEN_OVER = _event(
    "session-taken-over",
    "info",
    "id service client account device",
    "Another login has taken over the maildrop of a silent session, which ends.",
)
INJECTED = _event(
    "injected",
    "warn",
    "id service client command",
    "Octets came together with the command that begins TLS: an attack, or a broken client.  "
    "The session was refused.",
)
TLS_FAILED = _event(
    "tls-failed",
    "info",
    "id service client why",
    "The TLS handshake with a client failed.",
)
PROXY_REFUSED = _event(
    "proxy-refused",
    "warn",
    "id service client why",
    "A trusted load balancer sent no valid PROXY header; the connection was refused.",
)
CONNECTION_REFUSED = _event(
    "connection-refused",
    "info",
    "id service client why",
    "A connection was refused before its session began.",
)
SESSION_FAILED = _event(
    "session-failed",
    "info",
    "id service client why",
    "A connection ended before its greeting: a balancer was silent or sent half a PROXY header, "
    "or the client went away or had to wait too long while the daemon started.",
)
POLICY_REFUSED = _event(
    "policy-refused",
    "info",
    "id service client policy reply",
    "A policy has refused; the line ``refused`` with this id says what.",
)
POLICY_FAILED = _event(
    "policy-failed",
    "warn",
    "id service client policy why",
    "A policy failed or timed out; its ``on_failure`` says what happened to the message.",
)
FAILED = _event(
    "failed",
    "warn",
    "id service client account why",
    "Something failed; the client got an error, mostly a temporary one.  The reply has the id.",
)
FAULT = _event(
    "fault",
    "critical",
    "id service client policy why",
    "A fault in the program; a traceback follows.  The client may try again.",
)
MAIL_REMOVED = _event(
    "mail-removed",
    "info",
    "maildrop messages octets uidls why",
    "The post office itself has removed messages from a maildrop: ``expired`` (retention) or "
    "``make-room`` (quota).  Where UIDLs go on in further lines, each line has the counts of all.",
)
VAULT_TRIMMED = _event(
    "undelete-trimmed",
    "info",
    "maildrop messages octets",
    "Deleted mail that is kept for undelete exceeded ``store.undelete_size``: so many of the "
    "oldest messages were removed for good.",
)
MAIL_EXPIRED = _event(
    "mail-expired",
    "info",
    "account messages octets",
    "The daily expiry removed mail: one line for each account, and at the end one for all.",
)
EXPIRY_FAILED = _event(
    "expiry-failed",
    "error",
    "account why",
    "Removing expired mail failed, for one account or for all; the next daily run tries again.",
)
NOT_REMEMBERED = _event(
    "collected-not-remembered",
    "warn",
    "account why",
    "Recording which messages were collected failed; these messages are kept longer.",
)
ODD_FILES = _event(
    "files-not-served",
    "warn",
    "maildrop messages file why",
    "Files of a maildrop cannot be served: how many, and the first of them; ``postoffice maildrop "
    "verify`` lists all.",
)
QUOTA_PASSED = _event(
    "quota-passed",
    "info",
    "maildrop percent",
    "The owner of a maildrop was sent a notice of how full the quota is.",
)
RELOADED = _event(
    "configuration-reloaded",
    "info",
    "opened closed",
    "A reload has succeeded: the new configuration holds for new sessions.",
)
RELOAD_FAILED = _event(
    "reload-failed",
    "error",
    "why",
    "A reload has failed: the old configuration stays. There is an event for each problem.",
)
