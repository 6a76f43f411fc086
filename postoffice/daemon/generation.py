"""
What one reading of the configuration makes, and what goes on over all of them.

A reload makes a new generation beside the old one: new connections are served by the new
one, and open sessions keep the old one until they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from twisted.cred.portal import Portal
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime

from postoffice.accounts.checker import Checker
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.realm import Realm
from postoffice.config.chosen_plugin import reason
from postoffice.config.listeners import IMPLICIT_TLS, ListenerSettings
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon.build_parts import (
    build_checkers,
    build_mailbox_context,
    build_policy_chain,
    build_reception_context,
    build_retention,
)
from postoffice.daemon.build_plugins import make_all
from postoffice.daemon.expiry_job import Retention
from postoffice.daemon.first_imports import FirstImports
from postoffice.daemon.listeners import Listener, Server
from postoffice.daemon.plugins import Plugins
from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.daemon.web_page import WebPage
from postoffice.interfaces import IPolicy, PluginContext
from postoffice.policy.chain import STAGES
from postoffice.pop3.options import POP3Limits
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.certificates import Certificates
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ServerFactory, ServiceFigures
from postoffice.server.fair_share import ReactorShares
from postoffice.server.leases import Leases
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.login_connection import LoginOptions
from postoffice.server.null_mx import NullMX
from postoffice.server.pop3 import POP3Factory
from postoffice.server.smtp import SMTPConnection
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.smtp_service import ServiceProfile
from postoffice.server.submission import Receptions
from postoffice.smtp.options import SMTPLimits
from postoffice.util.reactor import IReactor
from postoffice.util.token_bucket import TokenBucket


@dataclass
class Core:
    """What is made once, and goes on over all reloads."""

    reactor: IReactor
    clock: IReactorTime
    now: Callable[[], datetime]
    threads: ThreadExecutor
    hashing: ThreadExecutor
    network: ThreadExecutor
    context: PluginContext
    plugins: Plugins
    logins: LoginRecords
    leases: Leases
    sending_limits: SendingLimits
    connection_limits: ConnectionLimits
    reactor_shares: ReactorShares
    web_page: WebPage
    first_imports: FirstImports
    service_figures: dict[str, ServiceFigures] = field(default_factory=dict)  # only for metrics

    @property
    def executors(self) -> tuple[ThreadExecutor, ...]:
        """All executors, in the order in which they start and stop."""
        return self.threads, self.hashing, self.network


@dataclass(eq=False)
class Generation:
    """
    What one reading of the configuration made.

    ``policies`` are in the order of the settings.  ``servers`` make the connections;
    ``listeners`` have them until the next generation replaces them.
    """

    settings: Settings
    policies: Sequence[IPolicy]
    checker: Checker
    certificates: Certificates | None
    unknown: TokenBucket
    retention: Retention
    reception: Receptions
    listeners: Sequence[Listener] = ()
    servers: Sequence[Server] = ()


def first_generation(core: Core, settings: Settings) -> Generation:
    """Make the generation of the start.  Raises ConfigurationError."""
    checker = _checker(core, settings)
    return _generation(core, settings, core.plugins.policies, checker, None)


def next_generation(core: Core, settings: Settings, before: Generation) -> Generation:
    """Make a generation that shares what has not changed.  Raises ConfigurationError."""
    policies = _policies(core, settings, before)
    checker = _checker(core, settings)
    if settings.checkers == before.settings.checkers:
        checker = before.checker
    checker.fake_salts = before.checker.fake_salts
    return _generation(core, settings, policies, checker, before)


def _policies(core: Core, settings: Settings, before: Generation) -> list[IPolicy]:
    """The old policy where its configuration is the same: it remembers clients; or a new one."""
    old = list(zip(before.settings.policies, before.policies, strict=True))
    shared: list[IPolicy | None] = []
    for chosen in settings.policies:
        same = next((pair for pair in old if pair[0] == chosen), None)
        if same is not None:
            old.remove(same)
        shared.append(None if same is None else same[1])
    pairs = zip(settings.policies, shared, strict=True)
    new = [chosen for chosen, policy in pairs if policy is None]
    problems: list[Problem] = []
    made = iter(make_all(new, core.context, problems))
    if problems:
        raise ConfigurationError(problems)
    return [next(made) if policy is None else policy for policy in shared]


def _checker(core: Core, settings: Settings) -> Checker:
    """Make the login checker.  Raises ConfigurationError."""
    return Checker(
        core.plugins.directories,
        core.hashing,
        clock=core.clock.seconds,
        others=build_checkers(settings),
        throttle=core.logins.throttle,
        count=lambda maildrop: core.plugins.store.count(maildrop),
        begin_import=core.first_imports.begin,
    )


def _generation(
    core: Core,
    settings: Settings,
    policies: Sequence[IPolicy],
    checker: Checker,
    before: Generation | None,
) -> Generation:
    certificates = None
    if before is not None and settings.tls.certificates == before.settings.tls.certificates:
        certificates = before.certificates
    elif settings.tls.certificates:
        certificates = Certificates(settings.tls.certificates, core.threads, core.clock)
    many = settings.limits.unknown_recipients
    if before is not None and many == before.settings.limits.unknown_recipients:
        unknown = before.unknown
    else:
        unknown = TokenBucket(many, 3600, core.clock.seconds)
    retention = build_retention(settings, core.plugins)
    chain = build_policy_chain(settings, policies, core.clock)
    limits = core.sending_limits if settings.outbound else None
    null_mx = NullMX(core.clock)
    reception = build_reception_context(settings, core.plugins, chain, core.now, limits, null_mx)
    made = Generation(settings, policies, checker, certificates, unknown, retention, reception)
    made.listeners = _listeners(core, made)
    made.servers = [listener.server for listener in made.listeners]
    for server in made.servers:
        server.starting = True
    return made


def _listeners(core: Core, made: Generation) -> list[Listener]:
    """Make all listeners, not yet open.  Raises ConfigurationError."""
    settings, factories = made.settings, _Factories(core, made)
    wanted: list[tuple[str, str, str, Callable[[], Server]]] = [
        (
            service,
            f"listeners.{service}[{number}]",
            one.endpoint,
            partial(factories.make, service, one),
        )
        for service, ones in settings.listeners.items()
        for number, one in enumerate(ones)
    ]
    if settings.web is not None:
        make = partial(
            core.web_page.make_server, settings, made.checker, made.certificates, made.reception
        )
        wanted.append(("web", "web.listen", settings.web.listen, make))
    listeners, problems = [], []
    for service, key, text, make_server in wanted:
        try:
            endpoint = serverFromString(core.reactor, text)  # type: ignore[no-untyped-call]
        except Exception as error:
            problems.append(settings.source.problem(key, f"{text!r}: {reason(error)}"))
        else:
            key = key.partition("[")[0]
            listeners.append(Listener(service, text, endpoint, make_server(), key))
    if problems:
        raise ConfigurationError(problems)
    return listeners


class _Factories:
    """Makes the server factory of each listener; the listeners share limits, portal and buckets."""

    def __init__(self, core: Core, made: Generation) -> None:
        settings, plugins = made.settings, core.plugins
        limits = settings.limits
        self._core = core
        self._settings = settings
        self._checker = made.checker
        self._certificates = made.certificates
        self._unknown = made.unknown
        self._policies = made.reception.policies
        self._mailbox_context = build_mailbox_context(settings, plugins, core.leases)
        reception = made.reception
        self._dsn = reception.router is not None
        realm = Realm(self._mailbox_context, reception, core.logins.recording.note)
        self._portal = Portal(realm, [made.checker])
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
        factory.reactor_shares = self._core.reactor_shares
        if self._settings.metrics is not None:
            factory.figures = self._core.service_figures.setdefault(service, ServiceFigures())
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
                clock=self._core.clock,
                hostname=self._settings.hostname,
                login_options=LoginOptions(listener.mechanisms, self._settings.tls.plaintext_login),
                limits=POP3Limits(limits.errors, limits.logins, limits.commands),
                connection_limits=self._core.connection_limits,
                listener_options=listener_options,
                salts=self._checker.salt,
                announced=self._mailbox_context.announced,
            )
        lmtp = service == "lmtp"
        return SMTPFactory(
            self._portal,
            hostname=self._settings.hostname,
            limits=_patient(self._limits) if lmtp else self._limits,
            clock=self._core.clock,
            connection_limits=self._core.connection_limits,
            listener_options=listener_options,
            profile=self._profile(service, listener),
            salts=self._checker.salt,
            unknown=self._unknown if service == "smtp" else None,
        )

    def _profile(self, service: str, listener: ListenerSettings) -> ServiceProfile:
        return ServiceProfile(
            lmtp=service == "lmtp",
            submission=service in ("submission", "submissions"),
            dsn=self._dsn,
            mechanisms=listener.mechanisms,
            plaintext_login=self._settings.tls.plaintext_login,
            greeting_delay=self._settings.limits.greeting_delay if service == "smtp" else 0,
            judged=frozenset(stage for stage in STAGES if self._policies.asks(stage, service)),
        )


def _patient(limits: SMTPLimits) -> SMTPLimits:
    """Relax limits for a mail server in front, which forwards the errors of many senders."""
    return replace(limits, errors=max(limits.errors, 1000), tarpit=0)
