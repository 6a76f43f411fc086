"""The base of the POP3 session: states, status lines, and the limit on errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from postoffice.model.errors import (
    AccountDisabled,
    LoginRefused,
    LoginTooSoon,
    MaildropLocked,
    PermanentFailure,
    PostOfficeError,
    TooManyTries,
)
from postoffice.model.listing import Listing
from postoffice.pop3.languages import DEFAULT, generalized, translated
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Answer, POP3Question
from postoffice.protocol.auth_exchange import LINE_MAXIMUM
from postoffice.protocol.line_session import LineSession
from postoffice.protocol.refusals import Refusals
from postoffice.protocol.scram import saslprep
from postoffice.protocol.wire import BareLineEnd, LineTooLong, is_request

#: Octets of a command line, CRLF included: 255 by RFC 2449 §4, and more for long passwords.
COMMAND_MAXIMUM = 1024

#: The verb and one space after it; people and old programs also send TABs and more spaces.
_WORD = re.compile(rb"[ \t]*([^ \t]*)(?:[ \t]|\Z)")

AUTHORIZATION = frozenset({"authorization"})
TRANSACTION = frozenset({"transaction"})
ANYWHERE = AUTHORIZATION | TRANSACTION


class CommandFailed(Exception):
    """A command failed, with this text and response code; ``_step`` sends the ``-ERR``."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class TooManyCommands(Exception):
    """The client has sent too many commands without a login."""


class POP3LineSession(LineSession[POP3Question, Answer]):
    """
    A session in one of three states that answers with ``+OK`` and ``-ERR``.

    ``broken`` means: abort the connection, so that the client does not take an
    incomplete message for complete.  ``language`` is that of the replies; ``utf8``
    whether the client takes messages in UTF-8 (RFC 6856).  ``refusals`` keeps
    refused commands for the log.
    """

    #: Every command, the states that allow it, and its method.
    COMMANDS: ClassVar[dict[bytes, tuple[frozenset[str], Callable[[Any, bytes], None]]]]

    def __init__(self, options: SessionOptions, limits: POP3Limits) -> None:
        # old clients end a line with LF alone
        super().__init__(LINE_MAXIMUM if options.mechanisms else COMMAND_MAXIMUM, lf=True)
        self.refusals = Refusals([verb.decode() for verb in self.COMMANDS])
        self.options = options
        self.broken = False
        self.state = "authorization"
        self.language = DEFAULT
        self.utf8 = False
        self._limits = limits
        self._errors = 0
        self._before_login = 0

    def _begin_transaction(self, listing: Listing) -> None:
        """The login is complete: enter the TRANSACTION state with this listing."""
        raise AssertionError("the subclass must have a TRANSACTION state")

    def dismiss(self, why: str | None, code: str = "") -> None:
        """End the session from our side, with ``-ERR`` or silently; no message is removed."""
        if not self.closed:
            if why is not None:
                self._no(why, code)
            self._close()

    def _step(self) -> bool:
        if self._lines.foreign:
            self.refusals.hear(b"")
            self.dismiss(
                "this is POP3, and nothing else; closing the connection"
            )  # ignore the rest of the input
            return False
        try:
            line = self._lines.next()
            if line is None:
                return False
            self.progress += 1
            self._count_command()
            self._obey(line)
        except TooManyCommands:
            self.refusals.hear(b"")  # otherwise the log would show the previous command
            self.dismiss("too many commands without a login")
        except CommandFailed as no:
            self._refuse(no.text, no.code)
        except LineTooLong:
            self.refusals.hear(b"")
            self._refuse("line too long")
        except BareLineEnd:
            self.refusals.hear(b"")
            self._refuse("a line may have a CR only at its end, before LF")
        return True

    def _count_command(self) -> None:
        """Count a command before the login.  Raises TooManyCommands."""
        if self.state == "authorization":
            self._before_login += 1
            if self._before_login > self._limits.commands:
                raise TooManyCommands

    def _obey(self, line: bytes) -> None:
        """Execute a command."""
        word = _WORD.match(line)
        verb, argument = (word[1], line[word.end() :]) if word else (line, b"")
        command = self.COMMANDS.get(verb.upper())
        if command is None and is_request(line):
            return self.dismiss("this is POP3, and nothing else; closing the connection")
        if command is None:
            raise CommandFailed("unknown command")
        states, obey = command
        if self.state not in states:
            raise CommandFailed("not in this state")
        return obey(self, argument)

    def _say(self, line: bytes) -> None:
        self._send(line + b"\r\n")

    def _ok(self, text: str, **facts: int | str) -> None:
        self._say(b"+OK " + translated(text, self.language, **facts).encode())

    def _no(self, text: str, code: str = "", **facts: int | str) -> None:
        self._deny(
            code, translated(text, self.language, **facts), translated(text, DEFAULT, **facts)
        )

    def _deny(self, code: str, said: str, in_english: str) -> None:
        self.refusals.add(_err(code, in_english))
        self._say(_err(code, said).encode())

    def _fail(self, failure: PostOfficeError) -> None:
        """Send ``-ERR`` for a failure, with its response code (RFC 2449 §8, RFC 3206)."""
        for kind, no in _FAILURES.items():
            if isinstance(failure, kind):
                return self._no(no.text, no.code)
        english = failure.reply.text
        if isinstance(failure, PermanentFailure):
            said = generalized("this cannot be done", english, self.language)
            return self._deny("SYS/PERM", said, english)
        said = generalized("a fault of ours; please try again later", english, self.language)
        return self._deny("SYS/TEMP", said, english)

    def _refuse(self, why: str, code: str = "") -> None:
        """Refuse a command; after too many refusals, close."""
        self._errors += 1
        if self._errors > self._limits.errors:
            self.dismiss("too many errors")
        else:
            self._no(why, code)


#: The failures of a login, with their response codes and texts.
_FAILURES: dict[type[PostOfficeError], CommandFailed] = {
    MaildropLocked: CommandFailed("another session holds this maildrop", "IN-USE"),
    LoginTooSoon: CommandFailed("the last login was not long enough ago", "LOGIN-DELAY"),
    LoginRefused: CommandFailed("wrong name or password", "AUTH"),
    AccountDisabled: CommandFailed("this account is disabled; ask your postmaster", "AUTH"),
    TooManyTries: CommandFailed(
        "too many wrong passwords lately; please try again later", "SYS/TEMP"
    ),
}


def _err(code: str, said: str) -> str:
    return f"-ERR {f'[{code}] ' if code else ''}{said}"


def no_argument(argument: bytes) -> None:
    """Raises CommandFailed if there is an argument."""
    if argument.strip():
        raise CommandFailed("this command takes no argument")


def whole_number(argument: bytes) -> int:
    """Parse a number.  Raises CommandFailed."""
    argument = argument.strip()
    if not argument.isdigit() or len(argument) > 10:
        raise CommandFailed("a number is needed")
    return int(argument)


def check_utf8(octets: bytes) -> None:
    """
    Raises CommandFailed for octets that cannot be a name or a password (RFC 6856 §2.2).

    SASLprep is applied as to a query, which allows unassigned characters (RFC 4013 §2.5).
    """
    if octets.isascii():
        return
    try:
        saslprep(octets.decode("utf-8"), query=True)
    except ValueError:
        raise CommandFailed("names and passwords must be in UTF-8", "AUTH") from None
