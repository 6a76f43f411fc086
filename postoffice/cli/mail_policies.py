"""Mail policies on the command line: the options that set them, and how the command shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from postoffice.cli.common import lasting
from postoffice.config.settings import Settings
from postoffice.interfaces import IAccountRegister
from postoffice.model.config_values import DAYS, DURATION, Kind
from postoffice.model.mail_policy import DEVICES, IN_USE, UNSPECIFIED, MailPolicy


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """Seconds, with a unit or without; as in the configuration."""

    name = "duration"

    def __init__(self, kind: Kind[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            return float(self._kind.read(value))
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            self.fail(f"{value!r} is not {self._kind.expects}{why}", param, ctx)


DAYS_TYPE = DurationType(DAYS)
DURATION_TYPE = DurationType(DURATION)

#: Each option, its type, and its help text.
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("--keep", DAYS_TYPE, "How long mail is kept, such as 90days; 0: forever."),
    ("--keep-collected", DAYS_TYPE, "How long mail is kept after it was collected; 0: forever."),
    (
        "--delete-on-collect/--no-delete-on-collect",
        None,
        "Whether mail is deleted as soon as it is collected.",
    ),
    (
        "--devices",
        click.Choice(DEVICES),
        "Which devices must have fetched a message before it counts as collected.",
    ),
    ("--login-delay", DURATION_TYPE, "The least time between two logins."),
    ("--in-use", click.Choice(IN_USE), "What happens to a login during another session."),
    ("--wait", DURATION_TYPE, "How long a login waits for the other session (--in-use wait)."),
)
#: The names of these options, for error texts.
NAMES = ", ".join(name.partition("/")[0] for name, _, _ in OPTIONS)


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add OPTIONS: the function gets ``serving``, with None for each option that was not given."""
    names = tuple(asdict(UNSPECIFIED))

    @functools.wraps(function)
    def run(*args: Any, **rest: Any) -> Any:
        return function(
            *args, serving=MailPolicy(**{name: rest.pop(name) for name in names}), **rest
        )

    for name, kind, text in reversed(OPTIONS):
        run = click.option(name, type=kind, default=None, help=text)(run)
    return run


def default_serving_option(text: str) -> Callable[..., Any]:
    """Add --default-serving."""
    return click.option("--default-serving", is_flag=True, help=text)


def asks_for_serving(serving: MailPolicy, default: bool) -> bool:
    """Whether the options ask for a change.  Raises UsageError if they conflict."""
    if default and serving != UNSPECIFIED:
        raise click.UsageError(f"--default-serving takes away what {NAMES} set; give either")
    return default or serving != UNSPECIFIED


def changed_serving(known: MailPolicy, serving: MailPolicy) -> MailPolicy:
    """Return the policy with these changes; an empty change removes all of it."""
    return serving if serving == UNSPECIFIED else serving.or_else(known)


@dataclass(frozen=True)
class Served:
    """The policy that applies, and where each of its values is set."""

    serving: MailPolicy
    sources: Mapping[str, str]

    @property
    def data(self) -> dict[str, Any]:
        """The policy as an object for --json; durations in seconds."""
        return {"serving": asdict(self.serving), "serving_from": self.sources}

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The policy as lines for people: retention, and POP3 settings."""
        serving = self.serving
        keeps = (
            ("keep", f"kept {_kept(serving.keep)}"),
            ("keep_collected", f"once collected {_kept(serving.keep_collected)}"),
            ("delete_on_collect", f"deleted then: {'yes' if serving.delete_on_collect else 'no'}"),
            ("devices", f"devices: {serving.devices}"),
        )
        serves = (
            ("login_delay", f"login delay: {lasting(serving.login_delay or 0)}"),
            ("in_use", f"in use: {serving.in_use}"),
            ("wait", f"wait: {lasting(serving.wait or 0)}"),
        )
        return [("retention", self._line(keeps)), ("pop3", self._line(serves))]

    def _line(self, texts: tuple[tuple[str, str], ...]) -> str:
        return ", ".join(f"{text} ({self.sources[name]})" for name, text in texts)


def _kept(seconds: float | None) -> str:
    return lasting(seconds) if seconds else "for ever"


def serve(**sayings: MailPolicy) -> Served:
    """Take each value from the first policy that sets it; the last policy sets all."""
    sources = {
        value: next(who for who, one in sayings.items() if getattr(one, value) is not None)
        for value in asdict(UNSPECIFIED)
    }
    return Served(functools.reduce(MailPolicy.or_else, sayings.values()), sources)


async def served_in_domain(register: IAccountRegister, settings: Settings, domain: str) -> Served:
    """Return the policy for accounts of a domain that do not set their own."""
    return serve(
        domain=await register.domain_serving(domain) or UNSPECIFIED, default=settings.serving
    )


async def served_to_account(register: IAccountRegister, settings: Settings, name: str) -> Served:
    """Return the policy of this account."""
    return serve(
        account=await register.account_serving(name) or UNSPECIFIED,
        domain=await register.domain_serving(name.rpartition("@")[2]) or UNSPECIFIED,
        default=settings.serving,
    )
