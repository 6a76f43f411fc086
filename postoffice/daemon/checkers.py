"""The twisted.cred checkers of the configuration, named as in twistd's --auth."""

from __future__ import annotations

from collections.abc import Callable

from twisted.cred import strcred
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from zope.interface import Interface

from postoffice.accounts.credentials import IBearerLogin, IScramLogin
from postoffice.config.chosen_plugin import reason
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.protocol.sasl import BEARER

#: The kinds of credentials that a login here can present.
SHOWN = (IUsernamePassword, IUsernameHashedPassword, IScramLogin, IBearerLogin)


def make_checkers(settings: Settings, broken: Callable[[], str]) -> list[ICredentialsChecker]:
    """
    Make the checkers of the configuration, in its order.

    ``broken`` returns which plugins cannot be imported.  Raises ConfigurationError, also
    if a listener offers a mechanism that no checker supports.
    """
    made: list[ICredentialsChecker] = []
    problems: list[Problem] = []
    for number, word in enumerate(settings.checkers):
        try:
            made.append(_make(word, broken))
        except ValueError as error:
            key = f"checkers[{number}]"
            problems.append(settings.source.problem(key, f"{word!r}: {error}"))
    if not problems and not any(_understands(one, IBearerLogin) for one in made):
        problems = _tokens_for_nobody(settings)
    if problems:
        raise ConfigurationError(problems)
    return made


def _make(word: str, broken: Callable[[], str]) -> ICredentialsChecker:
    """Make one checker.  Raises ValueError with the reason."""
    try:
        checker: ICredentialsChecker = strcred.makeChecker(word)  # type: ignore[no-untyped-call]
    except strcred.InvalidAuthType:
        kinds = sorted({one.authType for one in strcred.findCheckerFactories()})  # type: ignore[no-untyped-call]
        raise ValueError(f"there is no such checker, only: {', '.join(kinds)}{broken()}") from None
    except Exception as error:
        raise ValueError(reason(error)) from error
    if not any(_understands(checker, one) for one in SHOWN):
        raise ValueError("it supports no credentials that clients can present")
    return checker


def _understands(checker: ICredentialsChecker, shown: type[Interface]) -> bool:
    return any(shown.isOrExtends(one) for one in checker.credentialInterfaces)


def _tokens_for_nobody(settings: Settings) -> list[Problem]:
    """Return a problem for each listener that offers a mechanism with tokens."""
    return [
        settings.source.problem(
            f"listeners.{service}[{number}].mechanisms",
            f"{name} needs a checker that takes tokens; there is none under checkers:",
        )
        for service, ones in settings.listeners.items()
        for number, one in enumerate(ones)
        for name in one.mechanisms
        if name in BEARER
    ]
