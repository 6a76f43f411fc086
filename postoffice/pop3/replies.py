"""The replies of POP3, ``+OK`` and ``-ERR``, in the language of the client."""

from __future__ import annotations

from collections.abc import Callable

from postoffice.model.errors import (
    AccountDisabled,
    LoginRefused,
    LoginTooSoon,
    MaildropLocked,
    PermanentFailure,
    PostOfficeError,
    TooManyTries,
)
from postoffice.pop3.arguments import CommandFailed
from postoffice.pop3.languages import DEFAULT, generalized, translated
from postoffice.protocol.refusals import Refusals

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


class Replies:
    """
    Sends the replies of one session, in its ``language``.

    ``refusals`` gets what was refused, in English, for the log; ``replied`` counts them.
    """

    def __init__(
        self, send: Callable[[bytes], None], refusals: Refusals, replied: list[int]
    ) -> None:
        self.language = DEFAULT
        self._send = send
        self._refusals = refusals
        self._replied = replied

    def say(self, line: bytes) -> None:
        """Send a line."""
        if line.startswith(b"+OK"):
            self._replied[2] += 1
        self._send(line + b"\r\n")

    def say_all(self, *lines: str) -> None:
        """Send the lines of a long reply, and the dot that ends it."""
        self.say("\r\n".join((*lines, ".")).encode())

    def ok(self, text: str, **facts: int | str) -> None:
        """Send ``+OK`` with this text."""
        self.say(b"+OK " + translated(text, self.language, **facts).encode())

    def text_follows(self, octets: int) -> None:
        """Send ``+OK`` before a message's text of so many octets."""
        if self.language == DEFAULT:  # at once: most replies of a session are these
            self.say(b"+OK %d octets" % octets)
        else:
            self.ok("{octets} octets", octets=octets)

    def no(self, text: str, code: str = "", **facts: int | str) -> None:
        """Send ``-ERR`` with this text and response code (RFC 2449 §8, RFC 3206)."""
        said = translated(text, self.language, **facts)
        self._deny(code, said, translated(text, DEFAULT, **facts))

    def fail(self, failure: PostOfficeError) -> None:
        """Send ``-ERR`` for a failure."""
        for kind, no in _FAILURES.items():
            if isinstance(failure, kind):
                return self.no(no.text, no.code)
        english = failure.reply.text
        if isinstance(failure, PermanentFailure):
            said = generalized("this cannot be done", english, self.language)
            return self._deny("SYS/PERM", said, english)
        said = generalized("a fault of ours; please try again later", english, self.language)
        return self._deny("SYS/TEMP", said, english)

    def _deny(self, code: str, said: str, in_english: str) -> None:
        err = f"-ERR [{code}] " if code else "-ERR "
        self._replied[5] += 1
        self._refusals.add(err + in_english)
        self.say((err + said).encode())
