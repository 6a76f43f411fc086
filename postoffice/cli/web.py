"""``postoffice web``: who administers on the web page, and one-time links to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import iso, moment, table
from postoffice.cli.parameters import ADDRESS
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.web.web_db import LINK, LOGIN, WebDB, link_to


@click.group()
def web() -> None:
    """Say who administers on the web page, and make links to it."""


@web.group()
def admin() -> None:
    """Say which accounts may administer on the web page."""


@asynccontextmanager
async def _opened(
    context: CommandContext, settings: Settings
) -> AsyncIterator[tuple[Plugins, WebDB]]:
    """Open the plugins and the database of the page."""
    async with context.open(settings) as plugins:
        web_db = WebDB(settings.state, time.time)
        await plugins.executor.run(web_db.open)
        try:
            yield plugins, web_db
        finally:
            await plugins.executor.run(web_db.close)


async def _account(plugins: Plugins, address: Address) -> str:
    found = await plugins.find(address.normal)
    if found is None:
        raise Refused(f"there is no account {address.normal} here")
    return found.address


@command("add", admin)
@click.argument("address", type=ADDRESS)
async def add(context: CommandContext, address: Address) -> Answer:
    """
    Let the account ADDRESS administer on the web page.

    Except on the machine itself (http://localhost), administrators need a second factor, a
    code from an authenticator app.  It is set up on the page, after a login with a one-time
    link (postoffice web link).

    With --json: account, added (false if the account was an administrator already).
    """
    settings = context.settings()
    async with _opened(context, settings) as (plugins, web_db):
        name = await _account(plugins, address)
        added = await plugins.executor.run(web_db.add_administrator, name)
    lines = [f"{name} is an administrator now" if added else f"{name} is an administrator already"]
    if added:
        lines.append(f"set up the second factor with: postoffice web link {name}")
    return Answer({"account": name, "added": added}, lines)


@command("remove", admin)
@click.argument("address", type=ADDRESS)
async def remove(context: CommandContext, address: Address) -> Answer:
    """
    Let the account ADDRESS administer no more.

    This holds at once, also for open sessions of the page; the second factor is
    forgotten.  To let an administrator set it up again, remove and add the account.

    With --json: account, removed.
    """
    settings = context.settings()
    async with _opened(context, settings) as (plugins, web_db):
        if not await plugins.executor.run(web_db.remove_administrator, address.normal):
            raise Refused(f"{address.normal} is no administrator")
    data = {"account": address.normal, "removed": True}
    return Answer(data, [f"{address.normal} is no administrator any more"])


@command("list", admin)
async def list_(context: CommandContext) -> Answer:
    """
    List the administrators, and whether they have a second factor.

    With --json: administrators, each with account, added, second_factor.
    """
    settings = context.settings()
    async with _opened(context, settings) as (plugins, web_db):
        found = await plugins.executor.run(web_db.administrators)
    data = [
        {"account": one.account, "added": iso(one.added), "second_factor": bool(one.totp)}
        for one in found
    ]
    rows = [("ACCOUNT", "SINCE", "SECOND FACTOR")]
    rows += [(one.account, moment(one.added), "set" if one.totp else "none") for one in found]
    return Answer({"administrators": data}, table(rows) if found else ["no administrators"])


@command("link", web)
@click.argument("address", type=ADDRESS)
async def link(context: CommandContext, address: Address) -> Answer:
    """
    Print a link that logs the account ADDRESS in, this once.

    The link is valid for an hour.  It is for a user who has forgotten the password, and for
    the first login of an administrator: after it, a new password or the second factor can
    be set without the old password.  An administrator who has a second factor is asked for
    its code.

    With --json: account, link, expires.
    """
    settings = context.settings()
    if settings.web is None:
        raise Refused("there is no web page: the configuration has no section web")
    async with _opened(context, settings) as (plugins, web_db):
        name = await _account(plugins, address)
        token = await plugins.executor.run(web_db.make_link, LOGIN, name)
    where = link_to(settings.web.address(), token)
    data = {"account": name, "link": where, "expires": iso(time.time() + LINK)}
    return Answer(data, [where, f"it logs {name} in, once, within an hour"])
