"""``postoffice account disable`` and ``enable``: who may log in, and gets mail."""

from __future__ import annotations

import click

from postoffice.cli.accounts import registered
from postoffice.cli.common import ADDRESS, Answer, CommandContext, Refused, command, counted
from postoffice.cli.sessions import end_all
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import DISABLED, ENABLED, Address


@command("disable")
@click.argument("address", type=ADDRESS)
def disable(context: CommandContext, address: Address) -> Answer:
    """
    Let nobody log in to the account ADDRESS, and refuse mail for it.

    Its mail, its password and its devices stay as they are. Sessions that are
    open end; each may finish what is under way, for five seconds.

    With --json: address, state, changed (false: it was so before), ended (how
    many sessions).
    """
    name = address.normal
    if name == context.settings().postmaster.normal:
        raise Refused(
            f"{name} gets the mail to postmaster; name another account at postmaster: "
            "in the configuration first"
        )
    answer = _set(context, name, DISABLED)
    ended = end_all(context, name, f"{name} is disabled")
    answer.data["ended"] = ended
    if ended:
        answer.lines.append(f"{counted(ended, 'session')} of {name} ended")
    return answer


@command("enable")
@click.argument("address", type=ADDRESS)
def enable(context: CommandContext, address: Address) -> Answer:
    """
    Let the account ADDRESS log in again, and take mail for it.

    With --json: address, state, changed (false: it was so before).
    """
    return _set(context, address.normal, ENABLED)


def _set(context: CommandContext, name: str, state: str) -> Answer:
    async def work(plugins: Plugins) -> bool:
        found = await registered(plugins, name)
        await plugins.register.set_state(name, state)
        return found.state != state

    changed = context.ask(work)
    data = {"address": name, "state": state, "changed": changed}
    return Answer(data, [f"{name} is {state}{'' if changed else ' already'}"])
