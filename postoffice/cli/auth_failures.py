"""
``postoffice auth-failures``: accounts and networks with wrong passwords, and which are blocked.
"""

from __future__ import annotations

import time

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, iso, moment, table
from postoffice.cli.parameters import Parameter
from postoffice.model.address import Address, NotAnAddress
from postoffice.model.config_values import NETWORK
from postoffice.util.networks import network_of


def _who(text: str) -> str:
    """Return an account's address, or a client's network as the failure counts name it."""
    try:
        network = NETWORK.read(text)
    except ValueError:
        try:
            return Address.parse(text).normal
        except NotAnAddress:
            why = f"{text!r} is neither an account's address nor an IP address"
            raise ValueError(why) from None
    if network.prefixlen < (32 if network.version == 4 else 64):
        raise ValueError("clients are an IPv4 address or an IPv6 /64 each")
    return network_of(str(network.network_address))


@command("auth-failures")
@click.option(
    "--clear", metavar="WHO", type=Parameter("who", _who), multiple=True,
    help="Clear the counts of an account, or of a network; may be given several times.",
)  # fmt: skip
@click.option("--clear-all", is_flag=True, help="Clear all counts.")
async def auth_failures(context: CommandContext, clear: tuple[str, ...], clear_all: bool) -> Answer:
    """
    List the wrong passwords of the last day, the latest first.

    They are counted by account and by network.  A network is an IPv4 address or an IPv6
    /64.  BLOCKED UNTIL is when the next password from this network, or for this account,
    is checked.  The same wrong password is counted once.

    With --json: failures, each with kind (account or network), name, count, last and
    until (or null); with --clear and --clear-all: cleared, how many.
    """
    if clear and clear_all:
        raise click.UsageError("--clear and --clear-all exclude one another")
    settings = context.settings()

    async with context.open(settings) as plugins, context.logins(plugins, settings) as logins:
        if clear or clear_all:
            names = None if clear_all else list(clear)
            cleared = await plugins.executor.run(logins.attempts.clear, names)
            if clear and not cleared:
                raise Refused(f"there are no wrong passwords of {', '.join(clear)}")
            return Answer({"cleared": cleared}, [f"{counted(cleared, 'count')} cleared"])
        failures = await plugins.executor.run(logins.attempts.failures, time.time())
    rows = [("WHO", "WRONG", "LAST", "BLOCKED UNTIL")]
    rows += [
        (one.name, str(one.count), moment(one.last), "" if one.until is None else moment(one.until))
        for one in failures
    ]
    data = [{**vars(one), "last": iso(one.last), "until": iso(one.until)} for one in failures]
    return Answer({"failures": data}, table(rows) if failures else ["no wrong passwords"])
