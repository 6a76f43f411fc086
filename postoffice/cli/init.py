"""``postoffice init`` and ``postoffice check-config``."""

from __future__ import annotations

import os
import shlex
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from postoffice.cli import self_signed
from postoffice.cli.common import DOMAIN, Answer, CommandContext, Refused, command, counted
from postoffice.cli.doubts import smallness
from postoffice.cli.inline_executor import InlineExecutor
from postoffice.config import loader
from postoffice.config.settings import SERVICES, USER, Settings
from postoffice.config.source import ConfigurationError
from postoffice.config.template import template
from postoffice.daemon import new_files, preflight, preload, privileges
from postoffice.daemon.build import build_checkers, build_plugins, find_maker, try_endpoint
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister
from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.model.errors import StartupError
from postoffice.protocol.sasl import NEEDS
from postoffice.server.certificates import EXPIRES_SOON, Unusable, load

NAME = "postoffice.yaml"


class UserType(click.ParamType):  # type: ignore[type-arg]
    """A user of this machine."""

    name = "user"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return str(USER.read(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@command("init")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--hostname", type=DOMAIN, help="The host name for the mail system; default: the machine's."
)
@click.option(
    "--domain",
    "domains",
    type=DOMAIN,
    multiple=True,
    help="A local domain; may be given several times.",
)
@click.option(
    "--listen",
    metavar="SERVICE=ENDPOINT",
    multiple=True,
    help="The endpoint of a service, instead of a port on 127.0.0.1; may be given several times.",
)
@click.option(
    "--tls-self-signed",
    is_flag=True,
    help="Make a self-signed certificate, for trials: clients do not trust it by themselves.",
)
@click.option(
    "--user",
    metavar="NAME",
    type=UserType(),
    help="The user that the daemon runs as when root starts it.",
)
@click.option(
    "--state",
    metavar="DIR",
    default="state",
    type=click.Path(file_okay=False),
    help="The folder for accounts and mail, instead of the folder state in DIR.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Write a new postoffice.yaml; the old one is renamed to postoffice.yaml.old.",
)  # fmt: skip
def init(
    context: CommandContext,
    folder: str,
    hostname: str | None,
    domains: tuple[str, ...],
    listen: tuple[str, ...],
    tls_self_signed: bool,
    user: str | None,
    state: str,
    force: bool,
) -> Answer:
    """
    Set up a post office in DIR.

    This writes a commented postoffice.yaml, and the state folder beside it, with the
    account postmaster@ in the first domain, which has no password yet.  No existing file
    is overwritten; with --force the configuration alone is.  If root gives --user, the
    state and the certificate belong to that user, and the user's group can read the
    configuration.

    With --json: configuration, hostname, domains, postmaster; with --tls-self-signed also
    certificate and key.
    """
    hostname = hostname or _own_name()
    domains = domains or (hostname,)
    postmaster = f"postmaster@{domains[0]}"
    path = os.path.join(folder, NAME)
    values: dict[str, Any] = {
        "hostname": hostname,
        "postmaster": postmaster,
        "state": state if state == "state" else os.path.abspath(state),
        **({"user": user} if user else {}),
        **_listeners(listen),
    }
    if tls_self_signed:
        pair = {"certificate": "tls/certificate.pem", "key": "tls/key.pem"}
        values["tls.certificates"] = [pair]
    text = template(values, find_maker)
    try:
        settings = loader.read(text, path, find_maker, try_endpoint(context.reactor))
    except ConfigurationError as error:
        raise click.UsageError("\n".join(f"{p.key}: {p.text}" for p in error.problems)) from None
    if os.path.lexists(path) and not force:
        raise Refused(f"{path} is there already; with --force a new one is written")
    owner = privileges.Identity.named(user) if user and privileges.is_root() else None
    _make(folder, settings.state, owner)
    files = {}
    if tls_self_signed:
        files = _certificate(os.path.join(folder, "tls"), (hostname, *domains), owner, force)

    async def work(plugins: Plugins) -> None:
        for domain in domains:
            await plugins.register.add_domain(domain)
        if await plugins.find(settings.postmaster.normal) is None:
            await plugins.register.add(settings.postmaster.normal, None)

    with privileges.acting(_who(settings)):
        context.ask(work, settings)
    _write(path, text, owner, force)
    data = {
        "configuration": path,
        "hostname": hostname,
        "domains": list(domains),
        "postmaster": postmaster,
        **files,
    }
    here = os.path.realpath(folder) == os.getcwd()
    steps = [
        *([] if here else [f"cd {shlex.quote(folder)}"]),
        f"postoffice account passwd {postmaster}",
        f"postoffice account add you@{domains[0]}",
        "twistd -n postoffice",
    ]
    return Answer(data, [f"{path} is written; look through it, and then:", "", *steps])


@command("check-config")
def check_config(context: CommandContext) -> Answer:
    """
    Report all mistakes in the configuration.

    The command opens no port and creates nothing.  It reads the certificates, and counts
    the accounts that cannot use a mechanism on offer.

    With --json: configuration, problems (none), warnings; or error and problems as for
    any wrong configuration.
    """
    settings = context.settings(try_endpoint=try_endpoint(context.reactor))
    build_plugins(settings, context.reactor, InlineExecutor(context.reactor))
    build_checkers(settings)
    warnings = [*_expiring(settings), *_for_the_user(settings), *_small(settings)]
    warnings += lacking(context, settings)
    return Answer(
        {"configuration": settings.source.file, "problems": [], "warnings": warnings},
        [
            f"{settings.source.file}: all is well",
            *_summary(settings),
            *(f"warning: {warning}" for warning in warnings),
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


def _small(settings: Settings) -> list[str]:
    """Return warnings for quotas that are probably a mistake."""
    quotas = {
        "quota.bytes": settings.quota.bytes,
        "quota.postmaster": settings.quota.postmaster,
    }
    told = {key: smallness(octets) for key, octets in quotas.items()}
    return [str(settings.source.problem(key, why)) for key, why in told.items() if why]


def _for_the_user(settings: Settings) -> list[str]:
    """
    Return what the daemon's user cannot read.  Raises ConfigurationError for the state folder.
    """
    who = _who(settings)
    with privileges.acting(who):
        why = preflight.of_the_state(settings.state)
        found = [*preflight.of_the_keys(settings.tls.certificates)]
        if who is not None:
            found.append(preload.complaint(who.name))
    if why:
        raise ConfigurationError([settings.source.problem("state", why)])
    return [*filter(None, found)]


def lacking(context: CommandContext, settings: Settings) -> list[str]:
    """Warn of a missing postmaster, and count accounts that cannot use a mechanism on offer."""
    offering = {
        mechanism: [
            service
            for service, ones in settings.listeners.items()
            if any(mechanism in one.mechanisms for one in ones)
        ]
        for mechanism in LACKING
    }
    if not os.path.isdir(settings.state) or not os.listdir(settings.state):
        return []  # there is no state yet, and this command creates none

    async def count(plugins: Plugins) -> list[str]:
        why = await preflight.of_the_postmaster(plugins, settings.postmaster)
        found = [why] if why else []
        accounts = [
            one
            for directory in plugins.directories
            if IAccountRegister.providedBy(directory)  # no other can tell of all its accounts
            for one in await directory.accounts()
            if one.secret or one.shared
        ]
        for mechanism, where in offering.items():
            without = [one for one in accounts if getattr(one, NEEDS[mechanism]) is None]
            if where and without:
                found.append(
                    f"{mechanism} is offered by {', '.join(where)}: {len(without)} of "
                    f"{counted(len(accounts), 'account')} {LACKING[mechanism]}"
                )
        return found

    warnings: list[str] = context.ask(count, settings)
    return warnings


_WITHOUT = "have no shared secret; postoffice account set ADDRESS --generate-shared-secret"
#: What the accounts lack for a mechanism, and how they get it.
LACKING = {
    "SCRAM-SHA-256": "have no keys for it yet; they get them at their next login with a password",
    "CRAM-MD5": _WITHOUT,
    "APOP": _WITHOUT,
}


def _summary(settings: Settings) -> list[str]:
    facts: dict[str, Any] = {
        "hostname": settings.hostname,
        "state": settings.state,
        "user": settings.user or "whoever starts it",
        "postmaster": settings.postmaster,
        **{
            name: ", ".join(one.endpoint for one in ones) or "closed"
            for name, ones in settings.listeners.items()
        },
        "accounts": ", ".join(one.maker.kind for one in settings.accounts),
        "store": settings.store.maker.kind,
    }
    return [f"  {name:<12}{fact}" for name, fact in facts.items()]


def _own_name() -> str:
    """Return this machine's name, if it is a host name."""
    try:
        return normal_domain(socket.getfqdn())
    except NotAnAddress:
        return "localhost"


def _listeners(listen: tuple[str, ...]) -> dict[str, list[str]]:
    """Parse SERVICE=ENDPOINT words to the endpoints of each service.  Raises UsageError."""
    found: dict[str, list[str]] = {}
    for word in listen:
        service, equals, endpoint = word.partition("=")
        if not equals or service not in SERVICES:
            known = ", ".join(SERVICES)
            raise click.UsageError(
                f"--listen {word}: expected SERVICE=ENDPOINT, SERVICE of {known}"
            )
        found.setdefault(f"listeners.{service}", []).append(endpoint)
    return found


def _who(settings: Settings) -> privileges.Identity | None:
    """Return the owner of the state folder, if root creates it."""
    return privileges.identity(settings.user, settings.state) if privileges.is_root() else None


def _make(folder: str, state: str, owner: privileges.Identity | None) -> None:
    """Create the folder of the configuration, and for a given owner the state folder."""
    at = folder
    try:
        if owner is None:
            os.makedirs(folder, exist_ok=True)
            return
        new_files.folder(folder, 0o750, owner, group_only=True)
        at = state
        if not new_files.folder(state, 0o700, owner):
            new_files.give(state, owner)
    except OSError as error:
        raise StartupError(f"{at} cannot be made: {error.strerror}") from error


def _certificate(
    folder: str, hosts: tuple[str, ...], owner: privileges.Identity | None, force: bool
) -> dict[str, str]:
    """Return the paths of the certificate and its key; with ``force`` existing ones are used."""
    files = {name: os.path.join(folder, f"{name}.pem") for name in ("certificate", "key")}
    if force and all(map(os.path.exists, files.values())):
        return files
    return self_signed.write(folder, hosts, owner)


def _write(path: str, text: str, owner: privileges.Identity | None, force: bool) -> None:
    """
    Write a new file, whole or not at all; with ``force`` the old one is renamed.

    Only the owner and the group of the daemon's user can read it, as it may hold secrets
    of plugins.
    """
    draft = f"{path}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        with new_files.file(draft, 0o640 if owner else 0o600, owner, group_only=True) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if force and os.path.lexists(path):
            os.replace(path, f"{path}.old")
        os.link(draft, path)  # fails where something is there by now
        os.unlink(draft)
    except FileExistsError:
        os.unlink(draft)
        raise Refused(f"{path} is there already") from None
    except OSError as error:
        raise StartupError(f"{path} cannot be written: {error.strerror}") from error
