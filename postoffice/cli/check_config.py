"""``postoffice check-config``: reports all mistakes in the configuration."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from postoffice.cli.command import Answer, CommandContext, command
from postoffice.cli.confirmation import smallness
from postoffice.cli.inline_executor import InlineExecutor
from postoffice.cli.old_server_warnings import old_servers
from postoffice.cli.output import counted
from postoffice.config.outbound import OutboundSettings
from postoffice.config.outbound_checks import warnings as outbound_warnings
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon import preflight, preload, privileges
from postoffice.daemon.build_parts import build_checkers, try_endpoint
from postoffice.daemon.build_plugins import build_plugins
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.dead_ends import dead_ends, postmaster_trouble
from postoffice.interfaces import IAccountListing, IAccountRegister
from postoffice.model.address import Account
from postoffice.protocol.sasl import NEEDS
from postoffice.server.certificates import EXPIRES_SOON, Unusable, load


@command("check-config")
def check_config(context: CommandContext) -> Answer:
    """
    Report all mistakes in the configuration.

    The command opens no port and creates nothing.  It reads the certificates, counts the
    accounts that cannot use a mechanism on offer, and follows the targets of all aliases,
    forwards and catch-alls.

    With --json: configuration, problems (none), warnings; or error and problems as for
    any wrong configuration.
    """
    settings = context.settings(try_endpoint=try_endpoint(context.reactor))
    build_plugins(settings, context.reactor, InlineExecutor(context.reactor))
    build_checkers(settings)
    warnings = [*_expiring(settings), *_for_the_user(settings)]
    warnings += setting_warnings(settings) + account_warnings(context, settings)
    found = f"no mistakes, but {counted(len(warnings), 'warning')}" if warnings else "all is well"
    return Answer(
        {"configuration": settings.source.file, "problems": [], "warnings": warnings},
        [
            f"{settings.source.file}: {found}",
            *(f"warning: {warning}" for warning in warnings),
            *_summary(settings),
        ],
    )


def _expiring(settings: Settings) -> list[str]:
    """Return the certificates that expire soon.  Raises ConfigurationError for an unusable one."""
    problems = []
    soon = []
    for number, files in enumerate(settings.tls.certificates):
        try:
            loaded = load(files)
        except Unusable as error:
            key = f"tls.certificates[{number}]"
            problems.append(settings.source.problem(key, str(error)))
        else:
            if loaded.until < datetime.now(UTC) + EXPIRES_SOON:
                soon.append(f"{files.certificate} ends on {loaded.until:%Y-%m-%d}")
    if problems:
        raise ConfigurationError(problems)
    return soon


def setting_warnings(settings: Settings) -> list[str]:
    """Return warnings about the configuration alone."""
    return [*_small(settings), *_of_outbound(settings)]


def _small(settings: Settings) -> list[str]:
    """Return warnings for quotas that are probably a mistake."""
    quotas = {"quota.bytes": settings.quota.bytes, "quota.postmaster": settings.quota.postmaster}
    told = {key: smallness(octets) for key, octets in quotas.items()}
    return [str(settings.source.problem(key, why)) for key, why in told.items() if why]


def _of_outbound(settings: Settings) -> list[str]:
    """Return warnings for routes and password files."""
    if settings.outbound is None:
        return []
    return [str(settings.source.problem(*one)) for one in outbound_warnings(settings.outbound)]


def _for_the_user(settings: Settings) -> list[str]:
    """
    Return what the daemon's user cannot read.  Raises ConfigurationError for the state folder.
    """
    who = privileges.owner_of(settings.user, settings.state)
    with privileges.acting(who):
        why = preflight.state_problem(settings.state)
        found = [*preflight.key_warnings(settings.tls.certificates)]
        if settings.outbound is not None:
            found += preflight.password_warnings(settings.outbound)
        if who is not None:
            found.append(preload.complaint(who.name))
    if why:
        raise ConfigurationError([settings.source.problem("state", why)])
    return [*filter(None, found)]


def account_warnings(context: CommandContext, settings: Settings) -> list[str]:
    """Return warnings about the postmaster, targets, and mechanisms that accounts cannot use."""
    if not os.path.isdir(settings.state) or not os.listdir(settings.state):
        return []  # there is no state yet, and this command creates none

    async def count(plugins: Plugins) -> list[str]:
        for chosen in settings.accounts:
            for domain in chosen.options.get("domains", ()):  # raises if its server does not answer
                await plugins.find(f"postmaster@{domain}")
        why = await postmaster_trouble(plugins.directories, settings.postmaster)
        found = [why] if why else []
        found += await dead_ends(plugins.directories, settings.postmaster.normal)
        found += await old_servers(plugins, settings)
        return found + await _mechanism_warnings(plugins.directories, settings)

    warnings: list[str] = context.ask(count, settings)
    return warnings


async def _mechanism_warnings(directories: Iterable[object], settings: Settings) -> list[str]:
    """Return warnings about mechanisms that are offered and that accounts cannot use."""
    in_registers, elsewhere = Counter[str](), Counter[str]()
    for directory in directories:
        if IAccountListing.providedBy(directory):
            counts = in_registers if IAccountRegister.providedBy(directory) else elsewhere
            async for one in directory.each_account():
                counts.update(_without(one))
    found = []
    for counts, lacks in (
        (in_registers, LACKING),
        (elsewhere, dict.fromkeys(LACKING, _IN_FILES)),
    ):
        for mechanism in LACKING:
            where = [
                service
                for service, ones in settings.listeners.items()
                if any(mechanism in one.mechanisms for one in ones)
            ]
            if where and counts[mechanism]:
                found.append(
                    f"{mechanism} is offered by {', '.join(where)}: {counts[mechanism]} of "
                    f"{counted(counts['all'], 'account')} {lacks[mechanism]}"
                )
    return found


def _without(account: Account) -> list[str]:
    """Return which mechanisms an account with a password cannot use, and "all"."""
    if not (account.secret or account.shared):
        return []
    return ["all", *(one for one in LACKING if getattr(account, NEEDS[one]) is None)]


_WITHOUT = "have no shared secret; postoffice account set ADDRESS --generate-shared-secret"
_IN_FILES = "in directories that are only read cannot use it: see docs/directories.rst"
#: What accounts lack for a mechanism, and how they get it.
LACKING = {
    "SCRAM-SHA-256": "have no keys for it yet; they get them at their next login with a password",
    "CRAM-MD5": _WITHOUT,
    "APOP": _WITHOUT,
}


def _summary(settings: Settings) -> list[str]:
    facts: dict[str, object] = {
        "hostname": settings.hostname,
        "state": settings.state,
        "user": settings.user or "the user who starts it",
        "postmaster": settings.postmaster,
        **{
            name: ", ".join(one.endpoint for one in ones) or "closed"
            for name, ones in settings.listeners.items()
        },
        "accounts": ", ".join(one.maker.kind for one in settings.accounts),
        "store": settings.store.maker.kind,
        "outbound": _ways_out(settings.outbound),
    }
    return [f"  {name:<12}{fact}" for name, fact in facts.items()]


def _ways_out(outbound: OutboundSettings | None) -> str:
    """Return where mail for other domains goes, in a few words."""
    if outbound is None:
        return "nothing leaves"
    return counted(len(outbound.routes), "route")
