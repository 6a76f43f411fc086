"""``postoffice account state``, ``disable`` and ``enable``: what an account may do."""

from __future__ import annotations

import os
import pwd

import click

from postoffice.accounts.account_changes import set_account_state
from postoffice.cli.command import Answer, CommandContext, command, registered
from postoffice.cli.held_sending import release_sending
from postoffice.cli.output import counted
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.sessions import end_all
from postoffice.model.address import DISABLED, ENABLED, RECEIVE_ONLY, STATES, Address

_WHY = click.option("--why", default="", metavar="TEXT", help="The reason; `account show` has it.")


@command("state")
@click.argument("address", type=ADDRESS)
@click.argument("state", type=click.Choice(STATES))
@_WHY
async def set_state(context: CommandContext, address: Address, state: str, why: str) -> Answer:
    """
    Set what the account ADDRESS may do.

    \b
    enabled       everything
    disabled      nothing: logins and mail are refused
    collect-only  collect its mail; new mail is refused, and it may not send
    receive-only  get mail; logins are refused
    held          collect and get mail; it may not send

    Who sets a state is recorded, and when.  If the state allows no logins, open sessions
    end; each has five seconds to finish the command in progress.

    With --json: address, state, changed (false: it had this state before), ended (how many
    sessions).
    """
    return await _set(context, address.normal, state, why)


@command("disable")
@click.argument("address", type=ADDRESS)
@_WHY
async def disable(context: CommandContext, address: Address, why: str) -> Answer:
    """
    Disable the account ADDRESS: refuse logins and mail.

    Its mail, password and devices stay.  Open sessions end; each has five seconds to
    finish the command in progress.

    With --json: address, state, changed (false: it was disabled before), ended (how many
    sessions).
    """
    return await _set(context, address.normal, DISABLED, why)


@command("enable")
@click.argument("address", type=ADDRESS)
@_WHY
async def enable(context: CommandContext, address: Address, why: str) -> Answer:
    """
    Enable the account ADDRESS: allow logins, sending and mail again.

    It also ends the hold of an account many of whose recipients were refused.  Mail that is
    held already stays held.

    With --json: address, state, changed (false: it was enabled before), ended (0).
    """
    return await _set(context, address.normal, ENABLED, why)


async def _set(context: CommandContext, name: str, state: str, why: str) -> Answer:
    postmaster = context.settings().postmaster.normal
    async with context.open() as plugins:
        found = await registered(plugins, name)
        await set_account_state(plugins.register, found, state, _user(), why, postmaster)
        released = state == ENABLED and release_sending(context.settings(), name)
        changed = found.state != state or released
    ends = state in (DISABLED, RECEIVE_ONLY)
    ended = end_all(context, name, f"{name} is {state}") if ends else 0
    data = {"address": name, "state": state, "changed": changed, "ended": ended}
    lines = [f"{name} is {state}{'' if changed else ' already'}"]
    if released:
        lines.append(f"new mail of {name} for other domains is no longer held")
    if ended:
        lines.append(f"{counted(ended, 'session')} of {name} ended")
    return Answer(data, lines)


def _user() -> str:
    """Return who runs the command; with sudo, who called it."""
    caller = os.environ.get("SUDO_USER")
    if caller:
        return caller
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
