"""Makes the plugins and the login records of a post office, for the daemon and for the command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from postoffice import moved
from postoffice.accounts.attempts import Allowance
from postoffice.accounts.login_db import LoginRecords
from postoffice.config.chosen_plugin import ChosenPlugin, P
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IFirstLogins,
    IMailStore,
    IQueueStore,
    MakeChildProcess,
    PluginContext,
)
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
