"""The plumbing of the rules of POP3: status lines, and the budget of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from postoffice.dialogue import Dialogue
from postoffice.errors import (
    LoginRefused,
    LoginTooSoon,
    MaildropLocked,
    PermanentFailure,
    PostOfficeError,
)
from postoffice.listing import Listing
from postoffice.pop3.terms import POP3Limits, Terms
from postoffice.wire import BareLineEnd, LineTooLong

#: Octets of a command line, CRLF included: 255 by RFC 2449 §4, and room for long passwords.
COMMAND_MAXIMUM = 1024

AUTHORIZATION = frozenset({"authorization"})
TRANSACTION = frozenset({"transaction"})
ANYWHERE = AUTHORIZATION | TRANSACTION


class No(Exception):
    """What goes wrong with a command; one place says ``-ERR``."""


class POP3Dialogue(Dialogue):
    """
    A dialogue in one of three states, whose answers are ``+OK`` and ``-ERR``.

    ``broken`` means: hang up at once, what is unsent must not look whole.
    """

    #: Every command, where it may be given, and who answers it.
    COMMANDS: ClassVar[dict[bytes, tuple[frozenset[str], Callable[[Any, bytes], None]]]]

    def __init__(self, terms: Terms, limits: POP3Limits) -> None:
        super().__init__(COMMAND_MAXIMUM)
        self.terms = terms
        self.broken = False
        self.state = "authorization"
        self._limits = limits
        self._errors = 0

    def _begin(self, listing: Listing) -> None:
        """The client is in, and this is its mail."""
        raise AssertionError("behind the login there is a state")

    def dismiss(self, why: bytes | None) -> None:
        """End the dialogue from our side: say why, if anything, and close; nothing is removed."""
        if not self.closed:
            if why is not None:
                self._say(b"-ERR " + why)
            self._close()

    def _step(self) -> bool:
        try:
            line = self._lines.next()
            if line is None:
                return False
            self.progress += 1
            self._hear(line)
        except No as no:
            self._refuse(str(no))
        except LineTooLong:
            self._refuse("line too long")
        except BareLineEnd:
            self._refuse("a line ends with CR LF, both, and has neither inside")
        return True

    def _hear(self, line: bytes) -> None:
        """Obey a command."""
        verb, _, argument = line.partition(b" ")
        command = self.COMMANDS.get(verb.upper())
        if command is None:
            raise No("unknown command")
        states, obey = command
        if self.state not in states:
            raise No("not in this state")
        obey(self, argument)

    def _say(self, line: bytes) -> None:
        self._send(line + b"\r\n")

    def _refuse(self, why: str) -> None:
        """Say no; to one too many, goodbye."""
        self._errors += 1
        if self._errors > self._limits.errors:
            self.dismiss(b"too many errors")
        else:
            self._say(b"-ERR " + why.encode("ascii", "replace"))


def nothing(argument: bytes) -> None:
    """Raises No where a command has an argument that takes none."""
    if argument.strip():
        raise No("this command takes no argument")


def whole(argument: bytes) -> int:
    """A number.  Raises No."""
    argument = argument.strip()
    if not argument.isdigit() or len(argument) > 10:
        raise No("a number is needed")
    return int(argument)


def why(failure: PostOfficeError) -> bytes:
    """A failure with its response code (RFC 2449 §8, RFC 3206)."""
    if isinstance(failure, MaildropLocked):
        return b"[IN-USE] another session holds this maildrop"
    if isinstance(failure, LoginTooSoon):
        return b"[LOGIN-DELAY] the last login was not long enough ago"
    if isinstance(failure, LoginRefused):
        return b"[AUTH] wrong name or password"
    code = b"[SYS/PERM] " if isinstance(failure, PermanentFailure) else b"[SYS/TEMP] "
    return code + failure.reply.text.encode("ascii", "replace")
