"""``postoffice doctor``: examines the post office, and says how to mend what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import click

from postoffice.cli.check_config import setting_warnings
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, say, say_marked
from postoffice.cli.parameters import DOMAIN
from postoffice.cli.queue import ask_sender
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon import privileges
from postoffice.daemon.build_parts import build_checkers, try_endpoint
from postoffice.daemon.build_plugins import build_plugins
from postoffice.daemon.control_socket import place
from postoffice.daemon.plugins import Plugins
from postoffice.doctor import file_checks, mail_checks, port_checks
from postoffice.doctor.certificate_checks import check_certificates
from postoffice.doctor.dns_findings import check_dns, check_outgoing
from postoffice.doctor.findings import (
    ERROR,
    KINDS,
    LEVELS,
    NOTE,
    OK,
    WARNING,
    Finding,
    Report,
    status,
    worst,
)
from postoffice.doctor.queue_checks import check_destinations, check_queue
from postoffice.doctor.system_checks import check_system
from postoffice.interfaces import IAccountListing, IStoreBackup
from postoffice.model.errors import PostOfficeError, StartupError

_COLOURS = {OK: "green", NOTE: "blue", WARNING: "yellow", ERROR: "red"}


@dataclass
class _Examination:
    """One examination and its findings; ``kinds`` are the kinds to examine."""

    context: CommandContext
    settings: Settings
    kinds: frozenset[str]
    offline: bool
    domains: tuple[str, ...] = ()
    process: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def as_caller(self) -> None:
        """Examine what only root may be able to see; it blocks."""
        settings = self.settings
        self.process = port_checks.daemon_process(place(settings.state))
        running = self.process is not None
        if "config" in self.kinds:
            self.findings += self._configuration()
        if "daemon" in self.kinds:
            self.findings += port_checks.check_ports(
                settings.listeners,
                settings.hostname,
                running=running,
                others=_without_greeting(settings),
            )
        if "tls" in self.kinds:
            self.findings += check_certificates(settings.tls.certificates, settings.hostname)
        if "system" in self.kinds:
            state = privileges.nearest(settings.state)
            self.findings += check_system(state, settings.limits.connections, self.process)
        if "files" in self.kinds:
            self.findings += file_checks.check_modes(settings)

    def _configuration(self) -> list[Finding]:
        report = Report("config", self.settings.source.file)
        for why in setting_warnings(self.settings):
            report.warning(why, where="")
        if not report.findings:
            report.ok("the configuration has no mistakes")
        return report.findings

    async def as_user(self) -> None:
        """Examine the accounts and the mail, as the user that the post office runs as."""
        try:
            async with self.context.open(self.settings) as plugins:
                await self._with_plugins(plugins)
        except StartupError as error:
            report = Report("daemon", self.settings.state)
            report.error(f"the post office cannot open: {error}", "mend this, and start it again")
            self.findings += report.findings

    async def _with_plugins(self, plugins: Plugins) -> None:
        settings, directories = self.settings, plugins.directories
        if "files" in self.kinds:
            self.findings += file_checks.check_access(settings, privileges.name())
        if "mail" in self.kinds:
            self.findings += await mail_checks.check_addresses(directories, settings)
            self.findings += await mail_checks.check_maildrops(directories, plugins.store, settings)
            if IStoreBackup.providedBy(plugins.store):
                self.findings += mail_checks.check_set_aside(plugins.store.path)
        if "queue" in self.kinds:
            self.findings += self._queue()
        if "dns" in self.kinds and not self.domains:
            self.domains = await _domains_of(plugins)

    def _queue(self) -> list[Finding]:
        outbound = self.settings.outbound
        if outbound is None:
            report = Report("queue")
            report.note(
                "mail for other domains is refused: the configuration has no outbound",
                "see docs/sending.rst if your users should write to others",
            )
            return report.findings
        found = check_queue(self.settings.state, outbound.queue.messages)
        return found + check_destinations(self._destinations())

    def _destinations(self) -> Sequence[dict[str, object]]:
        if self.process is None:
            return []
        try:
            return ask_sender(self.context, "destinations")
        except Refused:  # the daemon sends nothing, or stops now
            return []

    async def outside(self) -> None:
        """Examine what other servers see."""
        if "daemon" in self.kinds:
            self.findings += await check_outgoing(self.context.reactor, self.settings)
        if "dns" in self.kinds:
            domains = self.domains or (self.settings.postmaster.domain,)
            self.findings += await check_dns(self.context.reactor, self.settings, domains)


def _without_greeting(settings: Settings) -> dict[str, str]:
    """Return the endpoints of the web page and of the metrics, if they are turned on."""
    sections = {"web": settings.web, "metrics": settings.metrics}
    return {name: one.listen for name, one in sections.items() if one is not None}


async def _domains_of(plugins: Plugins) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for directory in plugins.directories:
        if IAccountListing.providedBy(directory):
            try:
                found.update(dict.fromkeys(await directory.domains()))
            except PostOfficeError:
                continue  # check_addresses reports it
    return tuple(one for one in found if not one.startswith("["))


@command("doctor")
@click.option(
    "--only", multiple=True, type=click.Choice([*KINDS]), help="Only this; may be repeated."
)
@click.option("--domain", multiple=True, type=DOMAIN, help="The DNS of this domain only.")
@click.option("--offline", is_flag=True, help="Ask neither the DNS nor other servers.")
@click.option("--quiet", is_flag=True, help="Only warnings and errors.")
async def doctor(
    context: CommandContext, only: tuple[str, ...], domain: tuple[str, ...], offline: bool,
    quiet: bool,
) -> Answer:  # fmt: skip
    """
    Examine the post office, and say how to mend what is wrong.

    It looks at the configuration, the daemon and its ports, certificates, disk, open files and
    clock, permissions, mail that nobody gets, the queue, and the DNS of all domains.  It
    changes nothing.  Run it as root, or as the user of the daemon.

    The exit code is made for monitoring: 0 if all is well, 1 if there are warnings, 2 if there
    are errors.

    With --json: level (the worst: ok, note, warning or error), findings: each with kind, level,
    what, where, mend.
    """
    try:
        findings = await examine(context, frozenset(only or KINDS), domain, offline)
    except ConfigurationError as error:
        findings = [
            Finding(
                kind="config",
                level=ERROR,
                what=f"{one.key}: {one.text}" if one.key else one.text,
                where=f"{one.file}:{one.line}" if one.line else one.file,
                mend="change the file, and look again: postoffice check-config",
            )
            for one in error.problems
        ]
    if quiet:
        findings = [one for one in findings if one.level in (WARNING, ERROR)]
    if not context.as_json:
        print_findings(findings)
    data = {"level": worst(findings), "findings": [one.data() for one in findings]}
    return Answer(data, [], status(findings))


async def examine(
    context: CommandContext, kinds: frozenset[str], domains: tuple[str, ...], offline: bool
) -> list[Finding]:
    """
    Return the findings of these kinds, in the order of KINDS.

    Afterwards the process runs as the user of the daemon.  Raises ConfigurationError.
    """
    settings = context.settings(try_endpoint=try_endpoint(context.reactor))
    build_plugins(settings, context.reactor, context.executor)
    build_checkers(settings)
    examination = _Examination(context, settings, kinds, offline, domains)
    examination.as_caller()
    if privileges.nearest(settings.state) == settings.state:
        await examination.as_user()
    else:
        report = Report("files", settings.state)
        report.note("the post office was never started here: it has no state folder")
        examination.findings += report.findings
    if not offline:
        await examination.outside()
    order = [*KINDS]
    return sorted(
        (one for one in examination.findings if one.kind in kinds or one.level == ERROR),
        key=lambda one: order.index(one.kind),
    )


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings by kind, and how many there are."""
    width = max(map(len, LEVELS))
    for kind, its in groupby(findings, key=lambda one: one.kind):
        say(KINDS[kind])
        for one in its:
            apart = one.where and one.where not in one.what
            shown = f"{one.where}: {one.what}" if apart else one.what
            say_marked(f"  {one.level:<{width}}", _COLOURS[one.level], f"  {shown}")
            if one.mend:
                say(f"  {'':<{width}}  → {one.mend}")
        say("")
    numbers = [(level, sum(one.level == level for one in findings)) for level in reversed(LEVELS)]
    told = [
        f"{number} {OK}" if level == OK else counted(number, level)
        for level, number in numbers
        if number
    ]
    say(", ".join(told) or "nothing to report")
