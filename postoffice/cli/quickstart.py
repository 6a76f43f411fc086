"""``postoffice quickstart``: sets up a post office for the domain of one address."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping

import click

from postoffice.cli import systemd_unit
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.completion import nothing
from postoffice.cli.doctor import examine, print_findings
from postoffice.cli.init import machine_name
from postoffice.cli.installation import CERTBOT, FOLDER, STATE, USER, Installation, Wishes
from postoffice.cli.new_password import Password
from postoffice.cli.output import say, table
from postoffice.cli.parameters import ADDRESS, DOMAIN
from postoffice.config.endpoints import address_of
from postoffice.config.settings import Settings
from postoffice.daemon import privileges
from postoffice.doctor.findings import KINDS, worst
from postoffice.doctor.public_site import PublicSite, site_of
from postoffice.doctor.records import DNSRecord, domain_records, host_records
from postoffice.model.address import Address

#: The services that mail programs use, best first: what they do, and how they are encrypted.
_FOR_CLIENTS = {
    "pop3s": ("incoming", "POP3", "TLS"),
    "pop3": ("incoming", "POP3", "STARTTLS"),
    "submissions": ("outgoing", "SMTP", "TLS"),
    "submission": ("outgoing", "SMTP", "STARTTLS"),
}


@command("quickstart")
@click.argument("address", type=ADDRESS, shell_complete=nothing)
@click.option(
    "--hostname",
    type=DOMAIN,
    help="The host name for the mail system; default: the machine's, or mail.DOMAIN.",
)
@click.option("--direct", is_flag=True, help="Send mail to other domains directly, and sign it.")
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help=f"The folder of the post office; default: {FOLDER} and {STATE} for root, "
    "./postoffice for others.",
)
@click.option(
    "--user", metavar="NAME", help=f"The user of the daemon, if root runs this; default: {USER}."
)
@click.option(
    "--certificates",
    metavar="DIR",
    default=CERTBOT,
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where a certificate for the host is looked for: DIR/HOST/fullchain.pem, privkey.pem.",
)
@click.option("--offline", is_flag=True, help="Let the doctor ask no DNS and no other servers.")
@click.option(
    "--units",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help=f"The folder for the systemd unit; default: {systemd_unit.UNITS} if systemd runs the "
    "machine and root runs this, else none.",
)  # fmt: skip
async def quickstart(
    context: CommandContext,
    address: Address,
    hostname: str | None,
    direct: bool,
    folder: str | None,
    user: str | None,
    certificates: str,
    offline: bool,
    units: str | None,
) -> Answer:
    """
    Set up a post office for ADDRESS and its domain.

    This makes what is missing: the daemon's user, a configuration, a certificate (the one
    of certbot, if there is one, else a self-signed one), the account with a password that
    is shown this once, with --direct the DKIM keys, and the systemd unit.  What is there
    stays as it is, so you can run it again.  Then it prints the settings for mail programs
    and the DNS records of the domain, and what "postoffice doctor" finds.  ADDRESS also
    gets the mail for the postmaster.

    If root runs it, the post office has the usual ports; else it is one for trials, on
    high ports of 127.0.0.1.

    With --json: configuration, hostname, domain, address, made, kept, notes, next (lists
    of texts), programs (each with direction, protocol, host, port, security), dns (as
    records in "postoffice domain records"), doctor (as in "postoffice doctor"), and
    generated_password if the account is new.
    """
    installing = Installation(
        context, _wishes(address, hostname, direct, folder, user, certificates)
    )
    settings = installing.configure()
    password = await installing.add_account(settings)
    keys = installing.sign(settings)
    following = _service(installing, settings, units)
    site = site_of(settings, _own_addresses())
    records = [*host_records(site), *domain_records(site, installing.wishes.domain, keys)]
    data, lines = _answer(installing, settings, site, password, records)
    data["next"] = following
    if not context.as_json:
        for line in [*lines, "The doctor says:", ""]:
            say(line)
    context.config = installing.wishes.configuration
    findings = await examine(context, frozenset(KINDS), (installing.wishes.domain,), offline)
    if not context.as_json:
        print_findings(findings)
        for line in ["", *_part("Start it:", following)[:-1]]:
            say(line)
    data["doctor"] = {"level": worst(findings), "findings": [one.data() for one in findings]}
    return Answer(data)


def _wishes(
    address: Address,
    hostname: str | None,
    direct: bool,
    folder: str | None,
    user: str | None,
    certificates: str,
) -> Wishes:
    """Complete the options with the defaults of this machine.  Raises UsageError."""
    root = privileges.is_root()
    domain = address.normal.rpartition("@")[2]
    if domain.startswith("["):
        raise click.UsageError(f"{address.normal}: its domain is an address literal, not a domain")
    if user is not None and not root:
        raise click.UsageError("--user is for root; the post office of others runs as they do")
    if user == "root":
        raise click.UsageError("--user root: the daemon must not be root; name another user")
    state = STATE if root and folder is None else None
    folder = folder or (FOLDER if root else "postoffice")
    return Wishes(
        address=address,
        folder=folder,
        state=state or os.path.join(os.path.abspath(folder), "state"),
        hostname=hostname or _host(domain),
        user=(user or USER) if root else None,
        direct=direct,
        certificates=certificates,
    )


def _host(domain: str) -> str:
    """Return the machine's name, if it can be one in the DNS; else the usual name."""
    name = machine_name()
    last = name.rpartition(".")[2]
    if "." not in name or last in ("localdomain", "local", "internal", "lan", "home", "arpa"):
        return f"mail.{domain}"
    return name


def _own_addresses() -> list[str]:
    """Return the addresses from which this machine reaches others; no packet is sent."""
    found = []
    for family, other in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as trial:
                trial.connect((other, 9))
                found.append(trial.getsockname()[0])
        except OSError:
            continue
    return found


def _service(installing: Installation, settings: Settings, units: str | None) -> list[str]:
    """Install the unit, if wished; return the commands that start the daemon."""
    wishes = installing.wishes
    configuration = os.path.abspath(wishes.configuration)
    by_hand = f"twistd -n postoffice --config {shlex.quote(configuration)}"
    wanted = units or (systemd_unit.UNITS if privileges.is_root() and systemd_unit.runs() else None)
    if wanted is None or settings.user is None:
        if units is not None:
            raise Refused("the unit needs a user for the daemon: run this as root")
        return [by_hand]
    why = systemd_unit.trouble(
        sys.prefix, os.path.realpath(sys.executable), configuration, settings.state
    )
    if why:
        installing.notes.append(f"no systemd unit: {why}; install the post office in /opt")
        return [by_hand]
    identity = privileges.Identity.named(settings.user)
    unit = systemd_unit.text(
        sys.prefix, configuration, settings.state, settings.user, str(identity.gid)
    )
    path, new = systemd_unit.install(wanted, unit)
    (installing.made if new else installing.kept).append(f"the systemd unit {path}")
    return ["systemctl enable --now postoffice"]


def _programs(site: PublicSite, settings: Settings) -> list[dict[str, object]]:
    """
    Return the settings of mail programs, the best for each direction.

    A post office for trials has no public ports: programs on this machine use its own.
    """
    made: dict[str, dict[str, object]] = {}
    for service, (direction, protocol, security) in _FOR_CLIENTS.items():
        host, port = site.hostname, site.ports.get(service)
        if settings.user is None and settings.listeners.of(service):
            place = address_of(settings.listeners.of(service)[0].endpoint)
            host, port = (place[0], int(place[1])) if place and place[0] != "unix" else (host, port)
        if port is not None and direction not in made:
            made[direction] = {
                "direction": direction,
                "protocol": protocol,
                "host": host,
                "port": port,
                "security": security,
            }
    return list(made.values())


def _answer(
    installing: Installation,
    settings: Settings,
    site: PublicSite,
    password: Password | None,
    records: Iterable[DNSRecord],
) -> tuple[dict[str, object], list[str]]:
    """Return the object for --json, and the lines for people."""
    wishes, programs = installing.wishes, _programs(site, settings)
    address = wishes.address.normal
    data: dict[str, object] = {
        "configuration": wishes.configuration,
        "hostname": site.hostname,
        "domain": wishes.domain,
        "address": address,
        "made": installing.made,
        "kept": installing.kept,
        "notes": installing.notes,
        "programs": programs,
        "dns": [one.data() for one in records],
        **(password.data if password else {}),
    }
    lines = [
        *_part("Made:", installing.made),
        *_part("Kept as it was:", installing.kept),
        f"Account:   {address}",
        *(
            [f"Password:  {password.octets.decode()}", "It is shown this once."]
            if password
            else [f"Its password stays; for a new one: postoffice account passwd {address}"]
        ),
        "",
        *_part("Settings for mail programs:", _settings_table(programs, address)),
        *_part("DNS records:", _zone(records)),
        *_part("Note:", installing.notes),
    ]
    return data, lines


def _settings_table(programs: Iterable[Mapping[str, object]], address: str) -> list[str]:
    rows = [
        (str(one["direction"]), str(one["protocol"]), str(one["host"]), f"port {one['port']}",
         str(one["security"]))
        for one in programs
    ]  # fmt: skip
    return [*table(rows), f"user name: {address}"]


def _zone(records: Iterable[DNSRecord]) -> list[str]:
    """Return the lines of a zone file: the records that are needed, then the others."""
    every = list(records)
    needed = [one.line for one in every if one.needed]
    return [*needed, "; not needed, but useful:", *(one.line for one in every if not one.needed)]


def _part(head: str, lines: list[str]) -> list[str]:
    return [head, *(f"  {line}" for line in lines), ""] if lines else []
