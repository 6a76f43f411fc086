"""The commands that a session has refused, kept for the log without passwords."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

from postoffice.protocol.sasl import MECHANISMS

#: Refusals of one session that are logged; further ones are only counted.
MOST = 200
#: Octets of a command that are logged at most.
COMMAND = 120
_LETTERS = re.compile(rb"[A-Za-z]{1,20}")
#: Commands that have secrets in their arguments, or in the lines that follow.
_SECRET = ("AUTH", "PASS", "APOP")
_LOGIN_FIRST = frozenset((b"A", b"P", b"U", b"a", b"p", b"u"))
_MECHANISMS = frozenset((*MECHANISMS, "SCRAM-SHA-256-PLUS"))


class Refusal(NamedTuple):
    """A refused command as it is logged, and its reply; ``in_message``: within a transaction."""

    verb: str
    argument: str
    reply: str
    in_message: bool

    @property
    def command(self) -> str:
        return f"{self.verb} {self.argument}".strip()


class Refusals:
    """
    The refusals of one session; ``known`` are the verbs of its commands.

    ``command`` is the command line that is being answered; empty if there is none.
    """

    def __init__(self, known: Container[str]) -> None:
        self.command = b""
        self.count = 0
        self.new: list[Refusal] = []
        self._known = known
        self._login = False  # whether an unknown line may be a password after a failed login

    def hear(self, line: bytes) -> None:
        """Set the command line that is answered next."""
        self.command = line
        if line[:1] in _LOGIN_FIRST and line[:4].upper() in (b"AUTH", b"PASS", b"USER", b"APOP"):
            self._login = True

    def add(self, reply: str, *, in_message: bool = False) -> None:
        """The command was refused with this reply."""
        self.count += 1
        if self.count <= MOST:
            verb, argument = self._loggable()
            in_message = in_message or verb in ("DATA", "BDAT")
            self.new.append(Refusal(verb, argument, reply, in_message))

    def take(self) -> list[Refusal]:
        """The refusals since the last call."""
        new, self.new = self.new, []
        return new

    def _loggable(self) -> tuple[str, str]:
        """Return verb and argument without secrets; of an unknown command, its first letters."""
        if not self.command:
            return "", ""
        word, _, argument = self.command[: 4 * COMMAND].partition(b" ")
        verb = word.decode("latin-1").upper()
        said = argument.decode("utf-8", "backslashreplace").strip()[:COMMAND]
        if verb in _SECRET:
            name = said.partition(" ")[0].upper()
            return verb, name if verb == "AUTH" and name in _MECHANISMS else ""
        if verb in self._known:
            return verb, said
        letters = _LETTERS.match(self.command.lstrip())
        verb = "" if letters is None else letters[0].decode().upper()
        for secret in _SECRET:
            if verb.startswith(secret):
                return secret, ""
        return ("", f"({len(self.command)} octets)") if self._login or not verb else (verb, "")
