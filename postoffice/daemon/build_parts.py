"""Makes the parts of a post office from its settings, for the daemon and for the command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime

from postoffice import moved
from postoffice.accounts.attempts import Allowance
from postoffice.accounts.directories import Directories, look_up_of
from postoffice.accounts.login_db import LoginRecords
from postoffice.config import endpoints
from postoffice.config.chosen_plugin import ChosenPlugin, P, reason
from postoffice.config.reader import TryEndpoint
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon.checkers import make_checkers
from postoffice.daemon.expiry_job import Retention
from postoffice.daemon.plugin_makers import broken
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IFirstLogins,
    IMailStore,
    IPolicy,
    IQueueStore,
    MakeChildProcess,
    PluginContext,
)
from postoffice.outbound.routing import Router
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.server.forward_senders import SECRETS, ForwardSenders
from postoffice.server.leases import Leases
from postoffice.server.mailbox import MailboxContext
from postoffice.server.null_mx import NullMX
from postoffice.server.submission import Receptions
from postoffice.util.reactor import IReactor

if TYPE_CHECKING:  # most stores have a queue of their own
    from postoffice.store.separate_queue import StoreWithQueue

#: The folder, in the state folder, of the queue beside a store that has none.
QUEUE = "queue"


def build_plugins(settings: Settings, reactor: IReactor, executor: Executor) -> Plugins:
    """Make the directories, the store and the policies.  Raises ConfigurationError."""
    return make_plugins(settings, plugin_context(settings, reactor, executor))


def plugin_context(
    settings: Settings,
    reactor: IReactor,
    executor: Executor,
    child_process: MakeChildProcess | None = None,
    network: Executor | None = None,
) -> PluginContext:
    """Make what all makers of plugins are given."""
    return PluginContext(
        reactor,
        executor,
        settings.state,
        settings.hostname,
        settings.warnings,
        settings.warning_text,
        child_process,
        network,
    )


def make_plugins(settings: Settings, context: PluginContext) -> Plugins:
    """Make all plugins of the configuration.  Raises ConfigurationError."""
    problems: list[Problem] = []
    directories = make_all(settings.accounts, context, problems)
    stores = make_all([settings.store], context, problems)
    policies = make_all(settings.policies, context, problems)
    if not problems:
        problems += _unwritable(settings, directories)
    if problems:
        raise ConfigurationError(problems)
    chosen = (*settings.accounts, settings.store, *settings.policies)
    beside = separate_queue(settings, stores[0], context)
    return Plugins(
        settings.state, directories, stores[0], policies, chosen, context.executor, beside
    )


def _unwritable(settings: Settings, directories: Sequence[IAccountDirectory]) -> Iterable[Problem]:
    """Return a problem for an old server, whose users get their accounts in no directory."""
    if any(IAccountRegister.providedBy(one) for one in directories):
        return
    why = "users who move here get accounts in a directory that can be written to: add kind: sqlite"
    for chosen, directory in zip(settings.accounts, directories, strict=True):
        if IFirstLogins.providedBy(directory):
            yield settings.source.problem(chosen.key, why)


def separate_queue(
    settings: Settings, store: IMailStore, context: PluginContext
) -> StoreWithQueue | None:
    """Make a queue for a store that has none, in the state folder; None if nothing leaves."""
    if settings.outbound is None or IQueueStore.providedBy(store):
        return None
    from postoffice.store.maildir_store import MaildirStore
    from postoffice.store.separate_queue import StoreWithQueue

    beside = MaildirStore(
        os.path.join(settings.state, QUEUE),
        context.executor,
        hostname=context.hostname,
        clock=context.reactor,
    )
    return StoreWithQueue(store, beside)


def make_all(
    chosen: Iterable[ChosenPlugin[P]], context: PluginContext, problems: list[Problem]
) -> list[P]:
    """Make plugins; what is wrong with those that cannot be made is added to ``problems``."""
    made: list[P] = []
    for one in chosen:
        try:
            made.append(one.make(context))
            moved.adopt(made[-1])
        except ConfigurationError as error:
            problems += error.problems
    return made


def build_checkers(settings: Settings) -> list[ICredentialsChecker]:
    """Make the twisted.cred checkers of the configuration.  Raises ConfigurationError."""
    return make_checkers(settings, broken)


def build_logins(settings: Settings, executor: Executor, clock: IReactorTime) -> LoginRecords:
    """Make the login records: login history, failed logins, and the throttle."""
    limits = settings.limits
    return LoginRecords(
        settings.state,
        executor,
        clock,
        Allowance(*limits.wrong_passwords_per_account),
        Allowance(*limits.wrong_passwords),
    )


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
    secrets = os.path.join(settings.state, SECRETS)
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
        forward_senders=ForwardSenders(secrets, look_up_of(directory), now),
        null_mx=null_mx,
        forward_spam=settings.outbound is None or settings.outbound.forward_spam,
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
