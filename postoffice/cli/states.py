"""``postoffice account disable`` and ``enable``: whether an account may log in and gets mail."""

from __future__ import annotations

import click

from postoffice.cli.accounts import refuse_postmaster, registered
from postoffice.cli.common import ADDRESS, Answer, CommandContext, command, counted
from postoffice.cli.sessions import end_all
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import DISABLED, ENABLED, Address


@command("disable")
@click.argument("address", type=ADDRESS)
def disable(context: CommandContext, address: Address) -> Answer:
    """
    Disable the account ADDRESS: refuse logins and mail.

    Its mail, password and devices stay.  Open sessions end; each has five seconds to
    finish the command in progress.

    With --json: address, state, changed (false: it was disabled before), ended (how many
    sessions).
    """
    name = address.normal
    refuse_postmaster(context.settings(), name)
    answer = _set(context, name, DISABLED)
    ended = end_all(context, name, f"{name} is disabled")
    lines = [f"{counted(ended, 'session')} of {name} ended"] if ended else []
    return Answer({**answer.data, "ended": ended}, [*answer.lines, *lines])


@command("enable")
@click.argument("address", type=ADDRESS)
def enable(context: CommandContext, address: Address) -> Answer:
    """
    Enable the account ADDRESS: allow logins and accept mail again.

    With --json: address, state, changed (false: it was enabled before).
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
