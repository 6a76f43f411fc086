"""``postoffice account device``: devices with passwords of their own, and how they are told."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import click

from postoffice.accounts import app_passwords as passwords
from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.accounts.login_history import LoginMethod
from postoffice.accounts.login_records import LoginRecords
from postoffice.cli.common import (
    ADDRESS,
    Answer,
    CommandContext,
    Refused,
    command,
    iso,
    moment,
    table,
)
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.app_password import PROTOCOLS, AppPassword
from postoffice.model.config_values import DURATION, NETWORK, read_duration
from postoffice.protocol import scram

#: Letters of a device's name.
NAME = 64
#: When each device, by its name, has logged in last, and how.
Last = dict[str, tuple[LoginMethod, float]]


class NameType(click.ParamType):  # type: ignore[type-arg]
    """The name of a device: a word or a few."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        name = unicodedata.normalize("NFC", value.strip())
        if not name or len(name) > NAME or not name.isprintable():
            self.fail(f"{value!r} is no name: 1 to {NAME} letters that can be shown", param, ctx)
        return name


class ExpiryType(click.ParamType):  # type: ignore[type-arg]
    """A moment: the end of a day, or of a duration from now on."""

    name = "when"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            day = datetime.combine(date.fromisoformat(value), datetime.min.time())
            end = (day + timedelta(days=1)).timestamp()
        except ValueError:
            try:
                end = time.time() + read_duration(int(value) if value.isdecimal() else value)
            except ValueError:
                self.fail(f"{value!r} is neither a day (2027-12-31) nor {DURATION.expects}")
        except OverflowError:
            self.fail(f"{value!r} is beyond all days", param, ctx)
        if end <= time.time():
            self.fail(f"{value!r} is over", param, ctx)
        return end


class NetworkType(click.ParamType):  # type: ignore[type-arg]
    """An IP address or a network, in its plain form."""

    name = "network"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            network = NETWORK.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(network.network_address if network.num_addresses == 1 else network)


NAME_TYPE = NameType()


@click.group()
def device() -> None:
    """An account's devices, each with a password of its own."""


@command("add", device)
@click.argument("address", type=ADDRESS)
@click.argument("name", type=NAME_TYPE)
@click.option("--expires", type=ExpiryType(), help="Until when: 2027-12-31, or 90days from now on.")
@click.option(
    "--protocol", type=click.Choice(PROTOCOLS), default="any", help="What it may be used with."
)
@click.option(
    "--network", type=NetworkType(), multiple=True,
    help="From where it may be used, such as 192.0.2.0/24; may be given several times.",
)  # fmt: skip
def add(
    context: CommandContext,
    address: Address,
    name: str,
    expires: float | None,
    protocol: str,
    network: tuple[str, ...],
) -> Answer:
    """
    Give the account ADDRESS a device called NAME.

    Its password is made up, and shown this once.  It is used with the account's
    address as the user name, by whatever mechanism but CRAM-MD5 and APOP.
    Without options it may be used from everywhere, for collecting and for
    sending (smtp), and does not expire.

    With --json: address, device, added, generated_password.
    """
    password = AppPasswordToken.generate()

    async def work(plugins: Plugins) -> None:
        found = await plugins.register.find(address.normal)
        if found is None:
            raise Refused(f"there is no account {address.normal} here")
        salt = passwords.salt(found, await plugins.register.devices(found.address))
        how = () if salt is None else (salt.salt, salt.iterations)
        made = AppPassword(
            name,
            password.id,
            password.digest,
            str(scram.derive(password.text.encode(), *how)),
            time.time(),
            expires,
            protocol,
            network,
        )
        if not await plugins.register.add_device(found.address, made):
            raise Refused(f"{found.address} has a device {name!r} already")

    context.ask(work)
    data = {
        "address": address.normal,
        "device": name,
        "added": True,
        "generated_password": password.text,
    }
    return Answer(data, [f"{address.normal} has a device {name!r}", f"password: {password.text}"])


@command("list", device)
@click.argument("address", type=ADDRESS)
def list_(context: CommandContext, address: Address) -> Answer:
    """
    The devices of the account ADDRESS, and their last logins.

    With --json: address, devices, each with name, protocol, networks, added,
    expires, expired, last_login (time, service, mechanism, tls, network; or
    null).
    """
    settings = context.settings()

    async def work(plugins: Plugins) -> tuple[Sequence[AppPassword], Last]:
        found = await plugins.register.find(address.normal)
        if found is None:
            raise Refused(f"there is no account {address.normal} here")
        async with context.logins(plugins, settings) as logins:
            last = await last_logins(plugins, logins, found.address)
        return await plugins.register.devices(found.address), last

    found, last = context.ask(work, settings)
    lines = device_table(found, last) if found else [f"{address.normal} has no devices"]
    return Answer({"address": address.normal, "devices": device_data(found, last)}, lines)


@command("remove", device)
@click.argument("address", type=ADDRESS)
@click.argument("name", type=NAME_TYPE)
def remove(context: CommandContext, address: Address, name: str) -> Answer:
    """
    Take the device NAME away from the account ADDRESS.

    Its password fails at once.

    With --json: address, device, removed.
    """
    settings = context.settings()

    async def work(plugins: Plugins) -> None:
        if not await plugins.register.remove_device(address.normal, name):
            raise Refused(f"{address.normal} has no device {name!r}")
        async with context.logins(plugins, settings) as logins:
            await plugins.executor.run(logins.login_history.forget, address.normal, name)

    context.ask(work, settings)
    data = {"address": address.normal, "device": name, "removed": True}
    return Answer(data, [f"{address.normal} has no device {name!r} any more"])


# -- how they are told -----------------------------------------------------------------


async def last_logins(plugins: Plugins, logins: LoginRecords, account: str) -> Last:
    """The last login of each device of an account; "" is the account's own password."""
    used = await plugins.executor.run(logins.login_history.used, 0.0, account)
    return {login_method.device: (login_method, last) for login_method, last in reversed(used)}


def login_data(last: tuple[LoginMethod, float] | None) -> dict[str, Any] | None:
    """A login, as an object."""
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
    """A login, for a table."""
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


#: The heads of a table's columns for ``login_cells``.
LOGIN_HEADS = ("LAST LOGIN", "SERVICE", "MECHANISM", "TLS", "FROM")


def device_data(devices: Iterable[AppPassword], last: Last) -> list[dict[str, Any]]:
    """Devices, as objects."""
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
    """Devices, in a table."""
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
