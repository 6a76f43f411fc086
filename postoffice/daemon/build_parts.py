"""Makes the parts of a post office from its settings, beside its plugins."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime

from postoffice.accounts.directories import Directories, look_up_of
from postoffice.config import endpoints
from postoffice.config.chosen_plugin import reason
from postoffice.config.reader import TryEndpoint
from postoffice.config.settings import Settings
from postoffice.daemon.checkers import make_checkers
from postoffice.daemon.expiry_job import Retention
from postoffice.daemon.plugin_makers import broken
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import (
    IPolicy,
    IQueueStore,
)
from postoffice.outbound.routes import Router
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.server.forward_senders import SECRETS, ForwardSenders
from postoffice.server.leases import Leases
from postoffice.server.mailbox import MailboxContext
from postoffice.server.null_mx import NullMX
from postoffice.server.submission import Receptions
from postoffice.util.reactor import IReactor


def build_checkers(settings: Settings) -> list[ICredentialsChecker]:
    """Make the twisted.cred checkers of the configuration.  Raises ConfigurationError."""
    return make_checkers(settings, broken)


def build_reception_context(
    settings: Settings,
    plugins: Plugins,
    policies: PolicyChain,
    now: Callable[[], datetime],
    limits: SendingLimits | None = None,
    null_mx: NullMX | None = None,
) -> Receptions:
    """Make what all receptions share."""
    directory = Directories(plugins.directories)
    secrets, outbound = os.path.join(settings.state, SECRETS), settings.outbound
    srs_domain = outbound.srs.domain if outbound is not None else None
    return Receptions(
        directory,
        plugins.destination,
        hostname=settings.hostname,
        postmaster=settings.postmaster,
        now=now,
        policies=policies,
        any_sender=settings.submission.senders == "any",
        foreign_from=settings.submission.foreign_from,
        quota=settings.default_quota,
        postmaster_quota=settings.postmaster_quota,
        router=_router(settings, plugins),
        limits=limits,
        dkim_keys=DKIMKeys(settings.state),
        forward_senders=ForwardSenders(secrets, look_up_of(directory), now, srs_domain or ""),
        null_mx=null_mx,
        forward_spam=outbound is None or outbound.forward_spam,
    )


def _router(settings: Settings, plugins: Plugins) -> Router | None:
    """Return the routes; None if nothing leaves, or if the store has no queue."""
    if settings.outbound is None or not IQueueStore.providedBy(plugins.destination):
        return None
    return settings.outbound.router()


def build_mailbox_context(settings: Settings, plugins: Plugins, leases: Leases) -> MailboxContext:
    """Make what all mailboxes share."""
    directories = Directories(plugins.directories)
    return MailboxContext(
        plugins.store,
        settings.mail_policy,
        leases,
        settings.default_quota,
        settings.postmaster.normal,
        directories.account_settings,
        directories.collectors,
        settings.postmaster_quota,
    )


def build_retention(settings: Settings, plugins: Plugins) -> Retention:
    """Make the object that selects and removes expired mail."""
    return Retention(plugins, settings.mail_policy, Directories(plugins.directories).collectors)


def build_policy_chain(
    settings: Settings, policies: Iterable[IPolicy], clock: IReactorTime
) -> PolicyChain:
    """Return the chain of policies, in the order of the configuration."""
    asked = [
        ChainedPolicy(
            policy,
            f"{chosen.key} ({chosen.maker.kind})",
            frozenset(chosen.options["services"]),
            chosen.options["timeout"],
            chosen.options["on_failure"],
        )
        for chosen, policy in zip(settings.policies, policies, strict=True)
    ]
    return PolicyChain(asked, clock)


def try_endpoint(reactor: IReactor) -> TryEndpoint:
    """Return a function that checks whether Twisted accepts an endpoint; it opens nothing."""

    def try_it(text: str) -> None:
        if text.startswith("systemd:") and "LISTEN_FDS" not in os.environ:
            return  # only systemd sets what is needed to check it
        why = endpoints.mistake(text)
        try:
            serverFromString(reactor, text)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise ValueError(why or reason(error)) from error
        if why and text.startswith("tcp"):
            raise ValueError(why)

    return try_it
