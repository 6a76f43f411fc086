"""``postoffice init``: sets up a post office in a folder."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress

import click

from postoffice.cli import self_signed
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.parameters import DOMAIN, Parameter
from postoffice.config import loader
from postoffice.config.listeners import SERVICES
from postoffice.config.settings import USER, Settings
from postoffice.config.source import ConfigurationError
from postoffice.config.template import template
from postoffice.daemon import new_files, privileges
from postoffice.daemon.build_parts import try_endpoint
from postoffice.daemon.plugin_makers import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.model.errors import StartupError

NAME = "postoffice.yaml"


#: A certificate of our own, as the configuration names it.
CERTIFICATE = {"certificate": "tls/certificate.pem", "key": "tls/key.pem"}


def _user(text: str) -> str:
    try:
        return str(USER.read(text))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


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
    type=Parameter("user", _user),
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
    hostname = hostname or machine_name()
    domains = domains or (hostname,)
    postmaster = f"postmaster@{domains[0]}"
    path = os.path.join(folder, NAME)
    values: dict[str, object] = {
        "hostname": hostname,
        "postmaster": postmaster,
        "state": state if state == "state" else os.path.abspath(state),
        **({"user": user} if user else {}),
        **_listeners(listen),
        **({"tls.certificates": [CERTIFICATE]} if tls_self_signed else {}),
    }
    text = template(values, find_maker)
    settings = settings_of(context, text, path)
    if os.path.lexists(path) and not force:
        raise Refused(f"{path} is there already; with --force a new one is written")
    owner = privileges.Identity.named(user) if user and privileges.is_root() else None
    make_folders(folder, settings.state, owner)
    files: dict[str, str] = {}
    if tls_self_signed:
        files = certificate(os.path.join(folder, "tls"), (hostname, *domains), owner, force)
    _add_first_accounts(context, settings, domains)
    write_configuration(path, text, owner, force)
    names = {"hostname": hostname, "domains": list(domains), "postmaster": postmaster}
    return Answer({"configuration": path, **names, **files}, _next_steps(folder, path, domains[0]))


def settings_of(context: CommandContext, text: str, path: str) -> Settings:
    """Return the settings of a new configuration.  Raises UsageError."""
    try:
        return loader.read(text, path, find_maker, try_endpoint(context.reactor))
    except ConfigurationError as error:
        raise click.UsageError("\n".join(f"{p.key}: {p.text}" for p in error.problems)) from None


def _add_first_accounts(
    context: CommandContext, settings: Settings, domains: Sequence[str]
) -> None:
    """Add the domains and the postmaster, where they are missing."""

    async def work(plugins: Plugins) -> None:
        for domain in domains:
            await plugins.register.add_domain(domain)
        if await plugins.find(settings.postmaster.normal) is None:
            await plugins.register.add(settings.postmaster.normal, None)

    with privileges.acting(privileges.owner_of(settings.user, settings.state)):
        context.ask(work, settings)


def _next_steps(folder: str, path: str, domain: str) -> list[str]:
    here = os.path.realpath(folder) == os.getcwd()
    return [
        f"{path} is written; look through it, and then:",
        "",
        *([] if here else [f"cd {shlex.quote(folder)}"]),
        f"postoffice account passwd postmaster@{domain}",
        f"postoffice account add you@{domain}",
        "twistd -n postoffice",
    ]


def machine_name() -> str:
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


def make_folders(folder: str, state: str, owner: privileges.Identity | None) -> None:
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


def certificate(
    folder: str, hosts: tuple[str, ...], owner: privileges.Identity | None, force: bool
) -> dict[str, str]:
    """Return the paths of the certificate and its key; with ``force`` existing ones are used."""
    files = {name: os.path.join(folder, f"{name}.pem") for name in ("certificate", "key")}
    if force and all(map(os.path.exists, files.values())):
        return files
    return self_signed.write(folder, hosts, owner)


def write_configuration(
    path: str, text: str, owner: privileges.Identity | None, force: bool
) -> None:
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
