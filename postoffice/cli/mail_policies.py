"""Mail policies on the command line: the options that set them, and how the command shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import click

from postoffice.cli.options import with_options
from postoffice.cli.output import lasting
from postoffice.cli.parameters import Parameter
from postoffice.cli.setting_layers import effective
from postoffice.config.settings import Settings
from postoffice.interfaces import IAccountRegister
from postoffice.model.config_values import DAYS, DURATION, Kind
from postoffice.model.mail_policy import DEVICES, IN_USE, UNSPECIFIED, MailPolicy

T = TypeVar("T")


def _duration(kind: Kind[float]) -> Parameter:
    """Return the type of a duration: seconds, with a unit or without."""

    def parse(text: str) -> float:
        try:
            return float(kind.read(text))
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            raise ValueError(f"{text!r} is not {kind.expects}{why}") from None

    return Parameter("duration", parse)


DAYS_TYPE = _duration(DAYS)
DURATION_TYPE = _duration(DURATION)

#: Each option, its type, and its help text.
OPTIONS: tuple[tuple[str, click.ParamType[object] | None, str], ...] = (
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


VALUES = tuple(asdict(UNSPECIFIED))


def policy_options(default: str = "") -> Callable[[Callable[..., T]], Callable[..., T]]:
    """
    Add OPTIONS, and --default-serving with this help text.

    The function gets ``policy``: None if no option was given, an empty one for
    --default-serving.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def run(*args: object, default_serving: bool = False, **rest: Any) -> T:
            given = MailPolicy(**{name: rest.pop(name) for name in VALUES})
            if default_serving and given != UNSPECIFIED:
                raise click.UsageError(f"--default-serving removes what {NAMES} set; give only one")
            return function(
                *args, policy=given if default_serving or given != UNSPECIFIED else None, **rest
            )

        options = [
            click.option(one, type=kind, default=None, help=text) for one, kind, text in OPTIONS
        ]
        unset = [click.option("--default-serving", is_flag=True, help=default)] if default else []
        return with_options(run, *options, *unset)

    return decorate


def changed_policy(known: MailPolicy, policy: MailPolicy) -> MailPolicy:
    """Return the policy with these changes; an empty change removes all of it."""
    return policy if policy == UNSPECIFIED else policy.or_else(known)


@dataclass(frozen=True)
class EffectivePolicy:
    """The policy that applies, and where each of its values is set."""

    policy: MailPolicy
    sources: Mapping[str, str]

    @property
    def data(self) -> dict[str, object]:
        """The policy as an object for --json; durations in seconds."""
        return {"serving": asdict(self.policy), "serving_from": self.sources}

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The policy as lines for people: retention, and POP3 settings."""
        policy = self.policy
        retention = {
            "keep": f"kept {_kept(policy.keep)}",
            "keep_collected": f"once collected {_kept(policy.keep_collected)}",
            "delete_on_collect": f"deleted then: {'yes' if policy.delete_on_collect else 'no'}",
            "devices": f"devices: {policy.devices}",
        }
        pop3 = {
            "login_delay": f"login delay: {lasting(policy.login_delay or 0)}",
            "in_use": f"in use: {policy.in_use}",
            "wait": f"wait: {lasting(policy.wait or 0)}",
        }
        return [("retention", self._line(retention)), ("pop3", self._line(pop3))]

    def _line(self, texts: Mapping[str, str]) -> str:
        """Return the texts of some values, with each source once."""
        said: dict[str, list[str]] = {}
        for name, text in texts.items():
            said.setdefault(self.sources[name], []).append(text)
        return "; ".join(f"{', '.join(those)} ({source})" for source, those in said.items())


def _kept(seconds: float | None) -> str:
    return lasting(seconds) if seconds else "for ever"


async def policy_of_domain(
    register: IAccountRegister, settings: Settings, name: str
) -> EffectivePolicy:
    """Return the policy for accounts of a domain that do not set their own."""
    theirs = await register.domain_mail_policy(name) or UNSPECIFIED
    return EffectivePolicy(*effective(VALUES, domain=theirs, default=settings.mail_policy))


async def policy_of_account(
    register: IAccountRegister, settings: Settings, name: str
) -> EffectivePolicy:
    """Return the policy of this account."""
    own = await register.account_mail_policy(name) or UNSPECIFIED
    theirs = await register.domain_mail_policy(name.rpartition("@")[2]) or UNSPECIFIED
    return EffectivePolicy(
        *effective(VALUES, account=own, domain=theirs, default=settings.mail_policy)
    )
