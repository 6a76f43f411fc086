"""What can go wrong, by what the client should do next: try again later, or never."""

from __future__ import annotations

from typing import Any

from postoffice.model.reply import (
    ACCOUNT_DISABLED,
    LOGIN_REFUSED,
    MAILBOX_FULL,
    MAILBOX_FULL_NOW,
    NO_SPACE,
    TOO_MANY_TRIES,
    TRY_LATER,
    Reply,
)


class PostOfficeError(Exception):
    """
    An answer that is a failure: ``reply`` is what an SMTP client hears.

    The exception's own text is for the log; it may hold names and paths.
    """

    reply: Reply = TRY_LATER

    def __init__(self, reason: str = "", reply: Reply | None = None) -> None:
        super().__init__(reason)
        if reply is not None:
            self.reply = reply

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, and sent between processes, without the constructor: each class has its own."""
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[PostOfficeError], args: tuple[Any, ...]) -> PostOfficeError:
    return kind.__new__(kind, *args)


class TemporaryFailure(PostOfficeError):
    """Later: 4yz, or ``-ERR [SYS/TEMP]``."""


class NoSpace(TemporaryFailure):
    """The disk is full: 452."""

    reply = NO_SPACE


class MaildropLocked(TemporaryFailure):
    """Another session holds the maildrop: ``-ERR [IN-USE]`` (RFC 2449 §8.1.2)."""


class MaildropChanging(MaildropLocked):
    """What the last session has deleted is just going: a moment later it is free."""


class LoginTooSoon(TemporaryFailure):
    """The last login was not long enough ago: ``-ERR [LOGIN-DELAY]`` (RFC 2449 §8.1.1)."""


class NotAllRemoved(TemporaryFailure):
    """Of the messages that were to go, only ``removed`` are gone, or none for certain (0)."""

    def __init__(self, reason: str = "", removed: int = 0) -> None:
        super().__init__(reason)
        self.removed = removed


class MessageGone(TemporaryFailure):
    """A message that was listed is no longer there, or is not what was listed."""


class PermanentFailure(PostOfficeError):
    """Never: 5yz, or ``-ERR [SYS/PERM]``."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason, reply)


class MaildropFull(PermanentFailure):
    """A message does not fit into what its recipient may keep: 552 5.2.2."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, MAILBOX_FULL)


class MaildropFullNow(NoSpace):
    """The same, where its sender shall try again: 452 4.2.2."""

    reply = MAILBOX_FULL_NOW


class LoginRefused(PostOfficeError):
    """Unknown user or wrong password; nobody is told which: 535, ``-ERR [AUTH]`` (RFC 3206)."""

    reply = LOGIN_REFUSED


class AccountDisabled(PostOfficeError):
    """The password is right, but the account is disabled: 525, ``-ERR [AUTH]``."""

    reply = ACCOUNT_DISABLED


class TooManyTries(TemporaryFailure):
    """Too many wrong passwords lately; this one was not looked at: 454, ``-ERR [SYS/TEMP]``."""

    reply = TOO_MANY_TRIES


class NotEmpty(PostOfficeError):
    """What was to be removed still holds something; the text says what."""


class SettingError(Exception):
    """
    A setting cannot be used: ``key`` (dotted, or empty for the whole), and why.

    Raised by makers and readers of settings; the front door adds file and line.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


class StartupError(Exception):
    """The post office cannot open; the text says what, where, and how to mend it."""
