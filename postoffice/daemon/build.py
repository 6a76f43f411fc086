"""Builds the whole post office from its settings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import Portal
from twisted.internet.endpoints import serverFromString

from postoffice.accounts.attempts import Allowance
from postoffice.accounts.checker import Checker
from postoffice.accounts.directories import Directories
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.password_verifier import AT_ONCE
from postoffice.accounts.realm import Realm
from postoffice.config import endpoints
from postoffice.config.reader import TryEndpoint, reason
from postoffice.config.settings import IMPLICIT_TLS, SERVICES, ListenerSettings, Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon import processes
from postoffice.daemon.checkers import make_checkers
from postoffice.daemon.executor import ThreadExecutor
from postoffice.daemon.expiry_job import ExpiryJob, Retention
from postoffice.daemon.lifecycle import Listener, PostOffice
from postoffice.daemon.plugin_makers import broken
from postoffice.daemon.plugin_makers import find_maker as find_maker
from postoffice.daemon.plugin_makers import makers as makers
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import Executor, MakeChildProcess, PluginContext
from postoffice.policy.chain import STAGES, ChainedPolicy, PolicyChain
from postoffice.pop3.options import POP3Limits
from postoffice.server.certificates import Certificates
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ListenerOptions, ServerFactory
from postoffice.server.fair_share import ReactorShares
from postoffice.server.leases import Leases
from postoffice.server.login import LoginOptions
from postoffice.server.mailbox import MailboxContext
from postoffice.server.neighbours import Neighbours
from postoffice.server.pop3 import POP3Factory
from postoffice.server.reception import ReceptionContext
from postoffice.server.smtp import SMTPConnection
from postoffice.server.smtp_factory import ServiceProfile, SMTPFactory
from postoffice.smtp.options import SMTPLimits
from postoffice.util.token_bucket import TokenBucket

#: Threads for disk access: how many always exist, and the most.
USUALLY, THREADS = 2, 8
#: The same for calls that wait for other servers.
NETWORK_USUALLY, NETWORK_THREADS = 1, 8
#: The folder, in the state folder, for the sockets of the processes of one post office.
NEIGHBOURS = "neighbours"


def build(
    settings: Settings,
    reactor: Any,
    *,
    clock: Any = None,
    now: Callable[[], datetime] | None = None,
) -> PostOffice:
    """
    Build the whole post office, not yet open: a service for twistd, a .tac or a test.

    ``clock`` (IReactorTime) provides seconds and timers, default: the reactor.  ``now``
    returns the time of day with its time zone, default: the system's.  No file is touched
    before the service starts.  Raises ConfigurationError.
    """
    clock = clock or reactor
    threads = ThreadExecutor(reactor, THREADS, "disk", usually=USUALLY)
    hashing = ThreadExecutor(reactor, AT_ONCE, "hashing")
    network = ThreadExecutor(reactor, NETWORK_THREADS, "network", usually=NETWORK_USUALLY)
    plugins = build_plugins(settings, reactor, threads, processes.maker(reactor), network)
    logins = build_logins(settings, threads, clock)
    checker = Checker(
        plugins.directories,
        hashing,
        clock=clock.seconds,
        others=build_checkers(settings),
        throttle=logins.throttle,
    )
    reception_context = build_reception_context(
        settings, plugins, build_policy_chain(settings, plugins, clock), now or _now
    )
    certificates = None
    if settings.tls.certificates:
        certificates = Certificates(settings.tls.certificates, threads, clock)
    neighbours = Neighbours(os.path.join(settings.state, NEIGHBOURS), reactor)
    leases = Leases(clock, neighbours)
    mailbox_context = build_mailbox_context(settings, plugins, leases)
    factories = _Factories(
        settings, reception_context, mailbox_context, checker, logins, certificates, clock
    )
    listeners = _listeners(settings, factories, reactor)
    return PostOffice(
        settings,
        plugins,
        listeners,
        factories.connection_limits,
        (threads, hashing, network),
        certificates,
        checker,
        leases,
        logins,
        reactor,
        ExpiryJob(build_retention(settings, plugins), clock),
    )


def build_plugins(
    settings: Settings,
    reactor: Any,
    executor: Executor,
    child_process: MakeChildProcess | None = None,
    network: Executor | None = None,
) -> Plugins:
    """Make the directories, the store and the policies.  Raises ConfigurationError."""
    context = PluginContext(
        reactor,
        executor,
        settings.state,
        settings.hostname,
        settings.warnings,
        settings.warning_text,
        child_process,
        network,
    )
    chosen = (*settings.accounts, settings.store, *settings.policies)
    made: list[Any] = []
    problems: list[Problem] = []
    for one in chosen:
        try:
            made.append(one.make(context))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    known = len(settings.accounts)
    return Plugins(settings.state, made[:known], made[known], made[known + 1 :], chosen, executor)


def build_checkers(settings: Settings) -> list[ICredentialsChecker]:
    """Make the twisted.cred checkers of the configuration.  Raises ConfigurationError."""
    return make_checkers(settings, broken)


def build_logins(settings: Settings, executor: Executor, clock: Any) -> LoginRecords:
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
    settings: Settings, plugins: Plugins, policies: PolicyChain, now: Callable[[], datetime]
) -> ReceptionContext:
    """Make what all receptions share."""
    return ReceptionContext(
        Directories(plugins.directories),
        plugins.store,
        hostname=settings.hostname,
        postmaster=settings.postmaster,
        now=now,
        policies=policies,
        any_sender=settings.submission.senders == "any",
        foreign_from=settings.submission.foreign_from,
        quota=settings.default_quota,
        postmaster_quota=settings.postmaster_quota,
    )


def build_mailbox_context(settings: Settings, plugins: Plugins, leases: Leases) -> MailboxContext:
    """Make what all mailboxes share."""
    directories = Directories(plugins.directories)
    return MailboxContext(
        plugins.store,
        settings.serving,
        leases,
        settings.default_quota,
        settings.postmaster.normal,
        directories.sayings,
        directories.collectors,
        settings.postmaster_quota,
    )


def build_retention(settings: Settings, plugins: Plugins) -> Retention:
    """Make the object that selects and removes expired mail."""
    return Retention(plugins, settings.serving, Directories(plugins.directories).collectors)


def build_policy_chain(settings: Settings, plugins: Plugins, clock: Any) -> PolicyChain:
    """Return the chain of policies, in the order of the configuration."""
    asked = [
        ChainedPolicy(
            policy,
            f"{chosen.key} ({chosen.maker.kind})",
            frozenset(chosen.options["services"]),
            chosen.options["timeout"],
            chosen.options["on_failure"],
        )
        for chosen, policy in zip(settings.policies, plugins.policies, strict=True)
    ]
    return PolicyChain(asked, clock)


class _Factories:
    """Makes the server factory of each listener; the listeners share limits, portal and buckets."""

    def __init__(
        self,
        settings: Settings,
        reception_context: ReceptionContext,
        mailbox_context: MailboxContext,
        checker: Checker,
        logins: LoginRecords,
        certificates: Certificates | None,
        clock: Any,
    ) -> None:
        limits = settings.limits
        self.connection_limits = ConnectionLimits(
            limits.connections, limits.connections_per_client, SERVICES
        )
        self._settings = settings
        self._reception_context = reception_context
        self._mailbox_context = mailbox_context
        self._checker = checker
        self._portal = Portal(
            Realm(mailbox_context, reception_context, logins.recording.note), [checker]
        )
        self._certificates = certificates
        self._clock = clock
        self._reactor_shares = ReactorShares(clock)
        self._unknown = TokenBucket(limits.unknown_recipients, 3600, clock.seconds)
        self._limits = SMTPLimits(
            message_size=limits.message_size,
            recipients=limits.recipients,
            text_line=limits.text_line,
            errors=limits.errors,
            tarpit=limits.tarpit,
            logins=limits.logins,
            commands=limits.commands,
            pace=int(limits.text_pace * SMTPConnection.timeout),
        )

    def make(self, service: str, listener: ListenerSettings) -> ServerFactory:
        """Return the server factory of one listener."""
        factory = self._make(service, listener)
        factory.reactor_shares = self._reactor_shares
        return factory

    def _make(self, service: str, listener: ListenerSettings) -> ServerFactory:
        limits = self._settings.limits
        listener_options = ListenerOptions(
            service=service,
            certificates=self._certificates,
            implicit=service in IMPLICIT_TLS,
            proxies=listener.proxy_from,
            relays=listener.xclient_from,
            handshake=self._settings.limits.handshake,
        )
        if service in ("pop3", "pop3s"):
            return POP3Factory(
                self._portal,
                clock=self._clock,
                hostname=self._settings.hostname,
                login_options=LoginOptions(listener.mechanisms, self._settings.tls.plaintext_login),
                limits=POP3Limits(limits.errors, limits.logins, limits.commands),
                connection_limits=self.connection_limits,
                listener_options=listener_options,
                salts=self._checker.salt,
                announced=self._mailbox_context.announced,
            )
        lmtp = service == "lmtp"
        return SMTPFactory(
            self._portal,
            hostname=self._settings.hostname,
            limits=_patient(self._limits) if lmtp else self._limits,
            clock=self._clock,
            connection_limits=self.connection_limits,
            listener_options=listener_options,
            profile=self._profile(service, listener),
            salts=self._checker.salt,
            unknown=self._unknown if service == "smtp" else None,
        )

    def _profile(self, service: str, listener: ListenerSettings) -> ServiceProfile:
        return ServiceProfile(
            lmtp=service == "lmtp",
            submission=service in ("submission", "submissions"),
            mechanisms=listener.mechanisms,
            plaintext_login=self._settings.tls.plaintext_login,
            greeting_delay=self._settings.limits.greeting_delay if service == "smtp" else 0,
            judged=frozenset(
                stage for stage in STAGES if self._reception_context.policies.asks(stage, service)
            ),
        )


def _patient(limits: SMTPLimits) -> SMTPLimits:
    """
    Relax limits for a mail server in front: it forwards mail of many senders, with their errors.
    """
    return replace(limits, errors=max(limits.errors, 1000), tarpit=0)


def _listeners(settings: Settings, factories: _Factories, reactor: Any) -> Sequence[Listener]:
    listeners = []
    problems = []
    for service, ones in settings.listeners.items():
        for number, one in enumerate(ones):
            try:
                endpoint = serverFromString(reactor, one.endpoint)  # type: ignore[no-untyped-call]
            except Exception as error:
                key = f"listeners.{service}[{number}]"
                problems.append(settings.source.problem(key, f"{one.endpoint!r}: {reason(error)}"))
            else:
                factory = factories.make(service, one)
                listeners.append(Listener(service, one.endpoint, endpoint, factory))
    if problems:
        raise ConfigurationError(problems)
    return listeners


def try_endpoint(reactor: Any) -> TryEndpoint:
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


def _now() -> datetime:
    """Return the time of day, to the second, as date header fields need it."""
    return _local(int(time.time()))


@lru_cache(maxsize=2)
def _local(second: int) -> datetime:
    return datetime.fromtimestamp(second).astimezone()
