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
from postoffice.pop3 import texts
from postoffice.pop3.languages import DEFAULT, Text
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.protocol.auth_exchange import LINE_MAXIMUM
from postoffice.protocol.line_session import LineSession
from postoffice.protocol.refusals import Refusals
from postoffice.protocol.wire import BareLineEnd, LineTooLong, is_request

#: Octets of a command line, CRLF included: 255 by RFC 2449 §4, and more for long passwords.
COMMAND_MAXIMUM = 1024

#: The verb and one space behind it; people and old programs also send TABs and more spaces.
_WORD = re.compile(rb"[ \t]*([^ \t]*)(?:[ \t]|\Z)")

AUTHORIZATION = frozenset({"authorization"})
TRANSACTION = frozenset({"transaction"})
ANYWHERE = AUTHORIZATION | TRANSACTION


class CommandFailed(Exception):
    """A command failed, with this text and response code; ``_step`` sends the ``-ERR``."""

    def __init__(self, text: Text, code: str = "") -> None:
        super().__init__(text.en)
        self.text = text
        self.code = code


class TooManyCommands(Exception):
    """The client has sent too many commands without a login."""


class POP3LineSession(LineSession):
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

    def dismiss(self, why: Text | None, code: str = "") -> None:
        """End the session from our side, with ``-ERR`` or silently; no message is removed."""
        if not self.closed:
            if why is not None:
                self._no(why, code)
            self._close()

    def _step(self) -> bool:
        if self._lines.foreign:
            self.refusals.hear(b"")
            self.dismiss(texts.OTHER_PROTOCOL)  # ignore the rest of the input
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
            self.dismiss(texts.TOO_MANY_COMMANDS)
        except CommandFailed as no:
            self._refuse(no.text, no.code)
        except LineTooLong:
            self.refusals.hear(b"")
            self._refuse(texts.LINE_TOO_LONG)
        except BareLineEnd:
            self.refusals.hear(b"")
            self._refuse(texts.BARE_LINE_END)
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
            return self.dismiss(texts.OTHER_PROTOCOL)
        if command is None:
            raise CommandFailed(texts.UNKNOWN_COMMAND)
        states, obey = command
        if self.state not in states:
            raise CommandFailed(texts.NOT_IN_THIS_STATE)
        return obey(self, argument)

    def _say(self, line: bytes) -> None:
        self._send(line + b"\r\n")

    def _ok(self, text: Text, **facts: int | str) -> None:
        self._say(b"+OK " + text.said(self.language, **facts).encode())

    def _no(self, text: Text, code: str = "", **facts: int | str) -> None:
        self._deny(code, text.said(self.language, **facts), text.said(DEFAULT, **facts))

    def _deny(self, code: str, said: str, in_english: str) -> None:
        self.refusals.add(_err(code, in_english))
        self._say(_err(code, said).encode())

    def _fail(self, failure: PostOfficeError) -> None:
        """Send ``-ERR`` for a failure, with its response code (RFC 2449 §8, RFC 3206)."""
        for kind, code, text in _FAILURES:
            if isinstance(failure, kind):
                return self._no(text, code)
        never = isinstance(failure, PermanentFailure)
        text = texts.NEVER if never else texts.LATER
        said = text.like(failure.reply.text, self.language)
        return self._deny("SYS/PERM" if never else "SYS/TEMP", said, failure.reply.text)

    def _refuse(self, why: Text, code: str = "") -> None:
        """Refuse a command; after too many refusals, close."""
        self._errors += 1
        if self._errors > self._limits.errors:
            self.dismiss(texts.TOO_MANY_ERRORS)
        else:
            self._no(why, code)


#: The failures of a login, with their response codes and texts.
_FAILURES: tuple[tuple[type[PostOfficeError], str, Text], ...] = (
    (MaildropLocked, "IN-USE", texts.IN_USE),
    (LoginTooSoon, "LOGIN-DELAY", texts.TOO_SOON),
    (LoginRefused, "AUTH", texts.WRONG_LOGIN),
    (AccountDisabled, "AUTH", texts.DISABLED),
    (TooManyTries, "SYS/TEMP", texts.TOO_MANY_TRIES),
)


def _err(code: str, said: str) -> str:
    return f"-ERR {f'[{code}] ' if code else ''}{said}"


def no_argument(argument: bytes) -> None:
    """Raises CommandFailed if there is an argument."""
    if argument.strip():
        raise CommandFailed(texts.NO_ARGUMENT)


def whole_number(argument: bytes) -> int:
    """Parse a number.  Raises CommandFailed."""
    argument = argument.strip()
    if not argument.isdigit() or len(argument) > 10:
        raise CommandFailed(texts.NUMBER_NEEDED)
    return int(argument)
