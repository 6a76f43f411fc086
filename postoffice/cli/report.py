"""``postoffice report``: who logged in, and how."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from postoffice.accounts.login_history import LoginMethod
from postoffice.cli.app_passwords import LOGIN_HEADS, login_cells, login_data
from postoffice.cli.command import Answer, CommandContext, command
from postoffice.cli.output import counted, table

DAY = 86400.0
#: What an administrator could turn off: for people, for --json, and which logins use it.
OLD: tuple[tuple[str, str, Callable[[LoginMethod], bool]], ...] = (
    ("plaintext", "plaintext", lambda login_method: not login_method.tls),
    ("TLS 1.2", "tls_1_2", lambda login_method: login_method.tls == "TLSv1.2"),
    ("APOP", "apop", lambda login_method: login_method.mechanism == "APOP"),
)


@click.group()
def report() -> None:
    """Report on past logins."""


@command("logins", report)
@click.option(
    "--days", type=click.IntRange(1, 400), default=30, show_default=True,
    help="How many days to look back.",
)  # fmt: skip
async def logins(context: CommandContext, days: int) -> Answer:
    """
    List logins that use plaintext, TLS 1.2 or APOP.

    These users would be locked out if it were turned off.  The report names each
    account and device that has used one of them in the last --days days, and how.
    Plaintext is a login without TLS, whatever the mechanism.  A login appears here some
    seconds after it happened.

    With --json: days; plaintext, tls_1_2 and apop, each a list of account, device (empty:
    the account's own password), time, service, mechanism, tls, network (empty: this
    machine).
    """
    settings = context.settings()

    async with context.open(settings) as plugins, context.logins(plugins, settings) as logins:
        since = time.time() - days * DAY
        used = await plugins.executor.run(logins.login_history.used, since)
    data: dict[str, object] = {"days": days}
    rows = [("WITHOUT", "ACCOUNT", "DEVICE", *LOGIN_HEADS)]
    for name, key, uses in OLD:
        found = [one for one in used if uses(one[0])]
        data[key] = [
            {"account": one[0].account, "device": one[0].device, **(login_data(one) or {})}
            for one in found
        ]
        rows += [(name, one[0].account, one[0].device, *login_cells(one)) for one in found]
    nobody = f"nobody has used plaintext, TLS 1.2 or APOP within {counted(days, 'day')}"
    return Answer(data, table(rows) if len(rows) > 1 else [nobody])
