"""The failures, by what the client should do next: try again later, or give up."""

from __future__ import annotations

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
    A question cannot be answered; ``reply`` is what an SMTP client is sent.

    The exception's own text is for the log; it may contain names and paths.
    """

    reply: Reply = TRY_LATER

    def __init__(self, reason: str = "", reply: Reply | None = None) -> None:
        super().__init__(reason)
        if reply is not None:
            self.reply = reply

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without calling the constructor, whose arguments differ between classes."""
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[PostOfficeError], args: tuple[object, ...]) -> PostOfficeError:
    return kind.__new__(kind, *args)


class TemporaryFailure(PostOfficeError):
    """Trying again later may help: 4yz, or ``-ERR [SYS/TEMP]``."""


class NoSpace(TemporaryFailure):
    """The disk is full: 452."""

    reply = NO_SPACE


class MaildropLocked(TemporaryFailure):
    """Another session holds the maildrop: ``-ERR [IN-USE]`` (RFC 2449 §8.1.2)."""


class MaildropChanging(MaildropLocked):
    """Messages that the last session deleted are being removed; the maildrop is free soon."""


class LoginTooSoon(TemporaryFailure):
    """The last login was not long enough ago: ``-ERR [LOGIN-DELAY]`` (RFC 2449 §8.1.1)."""


class CannotImport(PostOfficeError):
    """There is nothing that can be imported; the text says why, for the command."""


class CannotExport(PostOfficeError):
    """Mail cannot be exported to this place; the text says why, for the command."""


class NotAllRemoved(TemporaryFailure):
    """Some messages could not be removed; ``removed`` is how many were."""

    def __init__(self, reason: str = "", removed: int = 0) -> None:
        super().__init__(reason)
        self.removed = removed


class MessageGone(TemporaryFailure):
    """A listed message is no longer there, or has changed."""


class PermanentFailure(PostOfficeError):
    """Trying again does not help: 5yz, or ``-ERR [SYS/PERM]``."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason, reply)


class MaildropFull(PermanentFailure):
    """A message does not fit into its recipient's quota: 552 5.2.2."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, MAILBOX_FULL)


class MaildropFullNow(NoSpace):
    """As ``MaildropFull``, but the sender should try again: 452 4.2.2."""

    reply = MAILBOX_FULL_NOW


class LoginRefused(PostOfficeError):
    """Unknown user or wrong password; the client is not told which: 535, ``-ERR [AUTH]``."""

    reply = LOGIN_REFUSED


class AccountDisabled(PostOfficeError):
    """The password is right, but the account is disabled: 525, ``-ERR [AUTH]``."""

    reply = ACCOUNT_DISABLED


class TooManyTries(TemporaryFailure):
    """Too many wrong passwords lately; this one was not verified: 454, ``-ERR [SYS/TEMP]``."""

    reply = TOO_MANY_TRIES


class NotEmpty(PostOfficeError):
    """What was to be removed is not empty; the text says what it holds."""


class SettingError(Exception):
    """
    A setting cannot be used: ``key`` (dotted, or empty for the whole), and why.

    Makers and the readers of settings raise it; the configuration's reader adds file and line.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


class StartupError(Exception):
    """The daemon cannot start; the text says what is wrong, where, and how to fix it."""
