"""Tells an event of the log in a sentence."""

from __future__ import annotations

from collections.abc import Callable

from postoffice.logs.line import Line, addresses
from postoffice.model.log_event import shown


def sentence(line: Line) -> str:
    """
    Tell an event in one sentence, for people.

    Values are what strangers wrote: they are escaped as in the log, so that the sentence is
    printable and in one line.  A page of HTML still has to escape it.
    """
    telling = _TELLING.get(line.event)
    if telling is None:
        return f"{line.event}: {_all(line)}." if line.fields else f"{line.event}."
    return " ".join(telling(line).split()) + "."


def _all(line: Line) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in line.fields.items())


def _value(line: Line, name: str, before: str = "", after: str = "") -> str:
    """A value with words around it; nothing if the line has none."""
    value = line[name]
    return f"{before}{shown(value)}{after}" if value else ""


def _named(line: Line, name: str) -> str:
    """Addresses as people write them; the null reverse-path is the mail system."""
    value = line[name]
    if value == "<>":
        return "the mail system (<>)"
    return ", ".join(map(shown, addresses(value)))


def _client(line: Line) -> str:
    helo = _value(line, "helo", ", which calls itself ")
    where = "this machine" if line["client"] in ("local", "127.0.0.1", "::1") else line["client"]
    return f"{shown(where) if where else 'a client'}{helo}"


def _device(line: Line) -> str:
    return _value(line, "device", " with the app password of ")


def _login(line: Line) -> str:
    tls = "with TLS" if line["tls"] else "without TLS"
    return (
        f"{shown(line['account'])} logged in by {shown(line['service'])} from {_client(line)}"
        f"{_device(line)} ({_value(line, 'mechanism', '', ', ')}{tls})"
    )


def _login_refused(line: Line) -> str:
    return f"A login as {shown(line['user'])} from {_client(line)} was refused: wrong password"


def _login_disabled(line: Line) -> str:
    who = shown(line["user"])
    return f"A login as {who} from {_client(line)} was refused: the account is disabled"


def _refused(line: Line) -> str:
    if line["recipient"]:
        what = f"The recipient {_named(line, 'recipient')}"
    elif line["id"].count(".") and line["to"]:
        what = f"The message for {_named(line, 'to')}"
    elif line["sender"] and line["command"].upper().startswith("MAIL"):
        what = f"The sender {_named(line, 'sender')}"
    else:
        what = f"The command {shown(line['command'])}" if line["command"] else "Input"
    return f"{what} was refused: {_value(line, 'reply')}"


def _taken(line: Line) -> str:
    who = _value(line, "account", ", which had logged in as ")
    queued = _value(line, "queued", "; ", " of them wait in the queue to be sent")
    return (
        f"The message was accepted {_value(line, 'service', 'by ')} from {_client(line)}{who}"
        f"{_device(line)}: from {_named(line, 'sender')} to {_named(line, 'to')}"
        f"{_value(line, 'size', ', ', ' octets')}{_value(line, 'message_id', ', Message-ID ')}"
        f"{queued}"
    )


def _ended(line: Line) -> str:
    counts = {
        "taken": "accepted",
        "retrieved": "sent to the client",
        "deleted": "deleted",
    }
    done = [(shown(line[name]), words) for name, words in counts.items() if line[name]]
    said = [f"{number} {words}" for number, words in done if number != "0"]
    did = f"; messages: {', '.join(said)}" if said else ""
    return f"The session with {_client(line)} ended{did}"


def _attempt(what: str) -> Callable[[Line], str]:
    def told(line: Line) -> str:
        via = _value(line, "via", " by ") if "sent" in what else _value(line, "via", " at ")
        tls = " over TLS" if line["tls"] else ""
        phase = _value(line, "phase", " (in the phase ", ")")
        return f"For {_named(line, 'to')}: {what}{via}{tls}{phase}: {_value(line, 'reply')}"

    return told


def _letter(line: Line) -> str:
    about = _named(line, "to")
    lost = " cannot be told" if line.event == "letter-lost" else " got a letter"
    why = _value(line, "why", ": ")
    return f"{_named(line, 'sender')}{lost} about {about} ({_value(line, 'outcome')}){why}"


def _removed(line: Line) -> str:
    what = "has expired" if line["why"] == "expired" else "made room for others"
    return f"The message {what} and was removed from the maildrop {shown(line['maildrop'])}"


_TELLING: dict[str, Callable[[Line], str]] = {
    "login": _login,
    "login-refused": _login_refused,
    "login-disabled": _login_disabled,
    "login-timed-out": lambda line: f"{_client(line)} did not log in in time",
    "recipient-followed": lambda line: f"{_named(line, 'recipient')} leads to {_named(line, 'to')}",
    "target-refused": lambda line: (
        f"{_named(line, 'recipient')} leads to {_value(line, 'user')}, who does not get it:"
        f" {_value(line, 'why')}"
    ),
    "message-discarded": lambda line: f"The alias {_named(line, 'recipient')} discards its mail",
    "message-taken": _taken,
    "message-taken-for": lambda line: f"It was accepted for {_named(line, 'to')}, too",
    "message-deleted": lambda line: (
        f"{_value(line, 'account')} deleted the message by {_value(line, 'service')} from"
        f" {_client(line)}{_device(line)} (session {_value(line, 'id')})"
    ),
    "messages-collected": lambda line: (
        f"{_value(line, 'account')} collected the message by {_value(line, 'service')} from"
        f" {_client(line)}{_device(line)}, and left it on the server (session {_value(line, 'id')})"
    ),
    "mail-removed": _removed,
    "session-ended": _ended,
    "session-taken-over": lambda _: "Another login took over the maildrop; the session ended",
    "refused": _refused,
    "policy-refused": lambda line: (
        f"The policy {_value(line, 'policy')} refused: {_value(line, 'reply')}"
    ),
    "policy-failed": lambda line: (
        f"The policy {_value(line, 'policy')} failed: {_value(line, 'why')}"
    ),
    "failed": lambda line: f"Something failed: {_value(line, 'why')}",
    "fault": lambda line: (
        f"A fault in the program {_value(line, 'why', '(', ')')}; the log has its traceback"
    ),
    "sent": _attempt("sent"),
    "deferred": _attempt("an attempt failed"),
    "bounced": _attempt("refused for good"),
    "expired": _attempt("given up, it has waited too long; the last attempt"),
    "left-queue": lambda line: (
        f"No recipient is left to send to{_value(line, 'age', ' after ', ' s')}"
    ),
    "letter-written": _letter,
    "letter-lost": _letter,
    "removed-from-queue": lambda line: (
        f"An administrator removed {_named(line, 'to')} from the queue; nobody is told"
    ),
}
