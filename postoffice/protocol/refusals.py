"""What a session has refused, kept until it is logged; passwords are left out."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

from postoffice.protocol.sasl import MECHANISMS

#: Refusals of one session that are logged one by one; of more only the count is.
MOST = 200
#: Octets of a command that are logged.
COMMAND = 120
_LETTERS = re.compile(rb"[A-Za-z]{1,20}")
#: Commands whose arguments are a client's secrets, and that may be followed by lines of secrets.
_SECRET = ("AUTH", "PASS", "APOP")
_MECHANISMS = frozenset((*MECHANISMS, "SCRAM-SHA-256-PLUS"))


class Refusal(NamedTuple):
    """A command as it may be logged, and what was said; ``in_message``: it concerns a message."""

    verb: str
    argument: str
    reply: str
    in_message: bool

    @property
    def command(self) -> str:
        return f"{self.verb} {self.argument}".strip()


class Refusals:
    """
    Those of one session; ``known`` are the verbs that it knows.

    ``command`` is the line of the command that is being answered, "" for none.
    """

    def __init__(self, known: Container[str]) -> None:
        self.command = b""
        self.count = 0
        self.new: list[Refusal] = []
        self._known = known
        self._login = False  # unknown lines may be the rest of a login that failed

    def hear(self, line: bytes) -> None:
        """This command is answered next."""
        self.command = line
        if line[:4].upper() in (b"AUTH", b"PASS", b"USER", b"APOP"):
            self._login = True

    def add(self, reply: str, *, in_message: bool = False) -> None:
        """It was refused."""
        self.count += 1
        if self.count <= MOST:
            verb, argument = self._shown()
            in_message = in_message or verb in ("DATA", "BDAT")
            self.new.append(Refusal(verb, argument, reply, in_message))

    def take(self) -> list[Refusal]:
        """Those that were not taken yet."""
        new, self.new = self.new, []
        return new

    def _shown(self) -> tuple[str, str]:
        """The command, without secrets: of a line that is no command only its first letters."""
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
