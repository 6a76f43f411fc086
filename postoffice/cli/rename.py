"""``postoffice account rename``: give an account another address."""

from __future__ import annotations

import click

from postoffice.cli.accounts import refuse_postmaster
from postoffice.cli.addresses import check_free, confirm_look_alike
from postoffice.cli.command import Answer, CommandContext, Refused, command, registered
from postoffice.cli.held_sending import rename_sending
from postoffice.cli.output import counted
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.sessions import end_all
from postoffice.cli.web_records import rename_web
from postoffice.model.address import Address


@command("rename")
@click.argument("address", type=ADDRESS)
@click.argument("new", type=ADDRESS)
async def rename(context: CommandContext, address: Address, new: Address) -> Answer:
    """
    Give the account ADDRESS the address NEW.

    The account keeps its mail, the UIDLs, its password, devices, quota and last logins;
    its maildrop keeps its name.  Mail for ADDRESS is refused from now on. A new account
    ADDRESS may be added later, and gets a new maildrop.  If NEW is in another domain,
    settings that the account does not set come from that domain.  Open sessions of the
    account end.

    With --json: address, new_address, ended (how many sessions).
    """
    confirm_look_alike(new)
    settings = context.settings()
    name, other = address.normal, new.normal
    refuse_postmaster(settings, name)
    async with context.open(settings) as plugins:
        await registered(plugins, name)
        await check_free(plugins, other)
        async with context.logins(plugins, settings) as logins:
            if not await plugins.register.rename(name, other):
                raise Refused(
                    f"{name} was removed just now, or {other} was added; nothing is renamed"
                )
            await plugins.executor.run(logins.login_history.rename, name, other)
        rename_sending(settings, name, other)
        rename_web(settings, name, other)
    ended = end_all(context, name, f"{name} is {other} now")
    lines = [f"{name} is {other} now; mail for {name} is refused"]
    if ended:
        lines.append(f"{counted(ended, 'session')} of {name} ended")
    return Answer({"address": name, "new_address": other, "ended": ended}, lines)
