"""``postoffice account rename``: an account gets another address, and keeps all that it has."""

from __future__ import annotations

import click

from postoffice.cli.accounts import registered
from postoffice.cli.common import ADDRESS, Answer, CommandContext, Refused, command, counted
from postoffice.cli.sessions import end_all
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address


@command("rename")
@click.argument("address", type=ADDRESS)
@click.argument("new", type=ADDRESS)
def rename(context: CommandContext, address: Address, new: Address) -> Answer:
    """
    Give the account ADDRESS the address NEW.

    Its mail, the UIDLs of its mail, its password, devices, quota and last
    logins stay; its maildrop keeps its name. Nobody has the address ADDRESS
    any more, until an account of that name is added: that has a maildrop of
    its own. In another domain, what the account does not say itself is as
    that domain says. Sessions that are open end.

    With --json: address, new_address, ended (how many sessions).
    """
    settings = context.settings()
    name, other = address.normal, new.normal
    if name == settings.postmaster.normal:
        raise Refused(
            f"{name} gets the mail to postmaster; name another account at postmaster: "
            "in the configuration first"
        )

    async def work(plugins: Plugins) -> None:
        await registered(plugins, name)
        if await plugins.find(other) is not None:
            raise Refused(f"{other} is here already")
        domain = other.rpartition("@")[2]
        if not await plugins.register.serves(domain):
            raise Refused(f"{domain} is not ours; postoffice domain add {domain}")
        async with context.logins(plugins, settings) as logins:
            if not await plugins.register.rename(name, other):
                raise Refused(
                    f"{name} was removed just now, or {other} was added; nothing is renamed"
                )
            await plugins.executor.run(logins.login_history.rename, name, other)

    context.ask(work, settings)
    ended = end_all(context, name, f"{name} is {other} now")
    lines = [f"{name} is {other} now; mail for {name} is refused"]
    if ended:
        lines.append(f"{counted(ended, 'session')} of {name} ended")
    return Answer({"address": name, "new_address": other, "ended": ended}, lines)
