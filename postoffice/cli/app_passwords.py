"""``postoffice account device``: devices with app passwords, and how the command shows them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import click

from postoffice.accounts.account_changes import add_device, device_name
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.login_history import LoginMethod
from postoffice.cli.command import Answer, CommandContext, Refused, command, registered
from postoffice.cli.output import iso, moment, table
from postoffice.cli.parameters import ADDRESS, Parameter
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.app_password import PROTOCOLS, AppPassword
from postoffice.model.config_values import DURATION, NETWORK, read_duration

#: The last login of each device, by the device's name.
Last = dict[str, tuple[LoginMethod, float]]


def _expiry(text: str) -> float:
    """Return the end of a day, or of a duration from now."""
    try:
        day = datetime.combine(date.fromisoformat(text), datetime.min.time())
        end = (day + timedelta(days=1)).timestamp()
    except ValueError:
        try:
            end = time.time() + read_duration(int(text) if text.isdecimal() else text)
        except ValueError:
            why = f"{text!r} is neither a day (2027-12-31) nor {DURATION.expects}"
            raise ValueError(why) from None
    except OverflowError:
        raise ValueError(f"{text!r} is beyond all days") from None
    if end <= time.time():
        raise ValueError(f"{text!r} is over")
    return end


def _network(text: str) -> str:
    """Return an IP address or a network in its canonical form."""
    network = NETWORK.read(text)
    return str(network.network_address if network.num_addresses == 1 else network)


NAME_TYPE = Parameter("name", device_name)


@click.group()
def device() -> None:
    """Administer an account's devices, each with its own app password."""


@command("add", device)
@click.argument("address", type=ADDRESS)
@click.argument("name", type=NAME_TYPE)
@click.option(
    "--expires",
    type=Parameter("when", _expiry),
    help="When the password expires: 2027-12-31, or 90days from now.",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default="any",
    help="The protocol that it works with.",
)
@click.option(
    "--network", type=Parameter("network", _network), multiple=True,
    help="A network from which it works, such as 192.0.2.0/24; may be given several times.",
)  # fmt: skip
async def add(
    context: CommandContext,
    address: Address,
    name: str,
    expires: float | None,
    protocol: str,
    network: tuple[str, ...],
) -> Answer:
    """
    Add a device called NAME to the account ADDRESS.

    The command generates an app password and shows it this once.  The user name for it is
    the account's address; it works with every mechanism except CRAM-MD5 and APOP.
    Without options it works from everywhere, for fetching mail (pop3) and for sending
    (smtp), and does not expire.

    With --json: address, device, added, generated_password.
    """
    async with context.open() as plugins:
        found = await registered(plugins, address.normal)
        password = await add_device(
            plugins.register, plugins.executor, found, name, protocol, expires, network
        )
    data = {
        "address": address.normal,
        "device": name,
        "added": True,
        "generated_password": password,
    }
    return Answer(data, [f"{address.normal} has a device {name!r}", f"password: {password}"])


@command("list", device)
@click.argument("address", type=ADDRESS)
async def list_(context: CommandContext, address: Address) -> Answer:
    """
    List the devices of the account ADDRESS, and their last logins.

    With --json: address, devices, each with name, protocol, networks, added, expires,
    expired, last_login (time, service, mechanism, tls, network; or null).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        found = await registered(plugins, address.normal)
        async with context.logins(plugins, settings) as logins:
            last = await last_logins(plugins, logins, found.address)
        devices = await plugins.register.app_passwords(found.address)
    lines = device_table(devices, last) if devices else [f"{address.normal} has no devices"]
    return Answer({"address": address.normal, "devices": device_data(devices, last)}, lines)


@command("remove", device)
@click.argument("address", type=ADDRESS)
@click.argument("name", type=NAME_TYPE)
async def remove(context: CommandContext, address: Address, name: str) -> Answer:
    """
    Remove the device NAME from the account ADDRESS.

    Its app password stops working at once.

    With --json: address, device, removed.
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        if not await plugins.register.remove_app_password(address.normal, name):
            raise Refused(f"{address.normal} has no device {name!r}")
        async with context.logins(plugins, settings) as logins:
            await plugins.executor.run(logins.login_history.forget, address.normal, name)
    data = {"address": address.normal, "device": name, "removed": True}
    return Answer(data, [f"{address.normal} has no device {name!r} any more"])


# -- how the command shows devices -----------------------------------------------------


async def last_logins(plugins: Plugins, logins: LoginRecords, account: str) -> Last:
    """Return the last login of each device of an account; "" is the account's own password."""
    used = await plugins.executor.run(logins.login_history.used, 0.0, account)
    return {login_method.device: (login_method, last) for login_method, last in reversed(used)}


def login_data(last: tuple[LoginMethod, float] | None) -> dict[str, object] | None:
    """Return a login as an object for --json."""
    if last is None:
        return None
    login_method, when = last
    return {
        "time": iso(when),
        "service": login_method.service,
        "mechanism": login_method.mechanism,
        "tls": login_method.tls,
        "network": login_method.network,
    }


def login_cells(last: tuple[LoginMethod, float] | None) -> tuple[str, str, str, str, str]:
    """Return a login as cells of a table."""
    if last is None:
        return "never", "", "", "", ""
    login_method, when = last
    return (
        moment(when),
        login_method.service,
        login_method.mechanism or "?",
        login_method.tls or "none",
        login_method.network or "this machine",
    )


#: The column heads for ``login_cells``.
LOGIN_HEADS = ("LAST LOGIN", "SERVICE", "MECHANISM", "TLS", "FROM")


def device_data(devices: Iterable[AppPassword], last: Last) -> list[dict[str, object]]:
    """Return devices as objects for --json."""
    return [
        {
            "name": one.name,
            "protocol": one.protocol,
            "networks": list(one.networks),
            "added": iso(one.added),
            "expires": iso(one.expires),
            "expired": one.expired(time.time()),
            "last_login": login_data(last.get(one.name)),
        }
        for one in devices
    ]


def device_table(devices: Iterable[AppPassword], last: Last) -> list[str]:
    """Return devices as a table."""
    rows = [("DEVICE", "MAY BE USED", "EXPIRES", *LOGIN_HEADS)]
    for one in devices:
        use = "with pop3 and smtp" if one.protocol == "any" else f"with {one.protocol}"
        if one.networks:
            use += f" from {', '.join(one.networks)}"
        expires = "never" if one.expires is None else moment(one.expires)
        if one.expired(time.time()):
            expires = f"since {expires}"
        rows.append((one.name, use, expires, *login_cells(last.get(one.name))))
    return table(rows)
