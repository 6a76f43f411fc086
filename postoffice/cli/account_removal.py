"""``postoffice account remove``: remove an account, and what belongs to it elsewhere."""

from __future__ import annotations

import click

from postoffice.accounts.alias_changes import pointing_lines
from postoffice.cli.accounts import refuse_postmaster
from postoffice.cli.addresses import address_register, still_pointing
from postoffice.cli.command import Answer, CommandContext, Refused, command, registered
from postoffice.cli.held_sending import rename_sending
from postoffice.cli.output import counted
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.web_records import rename_web
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Account, Address, Quota
from postoffice.model.errors import MaildropLocked
from postoffice.model.mail_policy import UNSPECIFIED


@command("remove")
@click.argument("address", type=ADDRESS)
@click.option("--delete-mail", is_flag=True, help="Delete the mail in its maildrop.")
@click.option("--keep-mail", is_flag=True, help="Keep the mail in its maildrop, in another folder.")
async def remove(
    context: CommandContext, address: Address, delete_mail: bool, keep_mail: bool
) -> Answer:
    """
    Remove the account ADDRESS.

    The command is refused while the maildrop holds mail, unless an option says what to do
    with it.  A new account of that name starts empty.  The command reports the aliases,
    forwards and catch-alls that still lead to ADDRESS.

    With --json: address, removed, messages (how many there were), kept_in (a list of
    folders), pointing (what still leads to it).
    """
    if delete_mail and keep_mail:
        raise click.UsageError("--delete-mail and --keep-mail exclude one another")
    settings = context.settings()
    name = address.normal
    refuse_postmaster(settings, name)
    async with context.open(settings) as plugins:
        found = await registered(plugins, name)
        messages, places = await _remove(plugins, found, delete_mail, keep_mail)
        async with context.logins(plugins, settings) as logins:
            await plugins.executor.run(logins.login_history.forget, name)
        rename_sending(settings, name)
        rename_web(settings, name)
        pointing = await still_pointing(plugins, name)
    data = {
        "address": name,
        "removed": True,
        "messages": messages,
        "kept_in": places,
        "pointing": pointing,
    }
    lines = [f"{name} is removed"]
    if delete_mail:
        lines.append(f"{counted(messages, 'message')} deleted")
    lines += [f"its mail is kept in {place}" for place in places]
    return Answer(data, [*lines, *pointing_lines(name, pointing)])


async def _remove(
    plugins: Plugins, found: Account, delete: bool, keep: bool
) -> tuple[int, list[str]]:
    """
    Remove the mail, then the account: an interrupted command can be repeated.

    If mail arrives in between, it is removed or kept, too; without such an option the account is
    restored.
    Returns how many messages there were, and where they are kept.
    """
    messages, _ = await plugins.store.count(found.maildrop)
    if messages and not (delete or keep):
        raise Refused(
            f"its maildrop holds {counted(messages, 'message')}: --keep-mail sets the mail "
            "aside, --delete-mail deletes it"
        )
    places = []
    if delete or keep:
        places.append(await _discard(plugins, found, keep))
    own = await plugins.register.account_quota(found.address)
    serving = await plugins.register.account_mail_policy(found.address)
    devices = await plugins.register.app_passwords(found.address)
    await plugins.register.remove(found.address)
    late, _ = await plugins.store.count(found.maildrop)
    if late:
        if not (delete or keep):
            await plugins.register.add(found.address, found.secret, found.scram, found.maildrop)
            if found.shared is not None:
                await plugins.register.set_shared(found.address, found.shared)
            await plugins.register.set_quota(found.address, own or Quota())
            await plugins.register.set_mail_policy(found.address, serving or UNSPECIFIED)
            await plugins.register.set_state(found.address, found.state, found.state_note)
            if found.forward:
                register = address_register(plugins)
                await register.set_forward(found.address, found.forward, found.keep_copy)
            for device in devices:
                await plugins.register.add_app_password(found.address, device)
            raise Refused(f"mail has just come for {found.address}; nothing is removed")
        places.append(await _discard(plugins, found, keep))
    return messages + late, [place for place in places if place]


async def _discard(plugins: Plugins, found: Account, keep: bool) -> str:
    try:
        return await plugins.store.discard(found.maildrop, keep)
    except MaildropLocked:
        raise Refused(f"{found.address} has an open POP3 session; try again later") from None
