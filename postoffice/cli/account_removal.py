"""``postoffice account remove``: an account goes, with or without its mail."""

from __future__ import annotations

import click

from postoffice.cli.accounts import registered
from postoffice.cli.common import ADDRESS, Answer, CommandContext, Refused, command, counted
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Account, Address, Quota
from postoffice.model.errors import MaildropLocked
from postoffice.model.mail_policy import UNSPECIFIED


@command("remove")
@click.argument("address", type=ADDRESS)
@click.option("--delete-mail", is_flag=True, help="Delete the mail in its maildrop.")
@click.option("--keep-mail", is_flag=True, help="Set the mail in its maildrop aside.")
def remove(desk: CommandContext, address: Address, delete_mail: bool, keep_mail: bool) -> Answer:
    """
    Remove the account ADDRESS.

    Refused while mail lies in its maildrop, unless an option says what becomes
    of it.  A new account of that name starts empty.

    With --json: address, removed, messages (how many there were), kept_in (a
    list of places).
    """
    if delete_mail and keep_mail:
        raise click.UsageError("--delete-mail and --keep-mail exclude one another")
    settings = desk.settings()
    name = address.normal
    if name == settings.postmaster.normal:
        raise Refused(
            f"{name} gets the mail to postmaster; name another account at postmaster: in the "
            "configuration first"
        )

    async def work(rooms: Plugins) -> tuple[int, list[str]]:
        found = await registered(rooms, name)
        removed = await _remove(rooms, found, delete_mail, keep_mail)
        async with desk.logins(rooms, settings) as logins:
            await rooms.workers.run(logins.entrances.forget, name)
        return removed

    messages, places = desk.ask(work, settings)
    data = {"address": name, "removed": True, "messages": messages, "kept_in": places}
    lines = [f"{name} is removed"]
    if delete_mail:
        lines.append(f"{counted(messages, 'message')} deleted")
    lines += [f"its mail is kept in {place}" for place in places]
    return Answer(data, lines)


async def _remove(
    rooms: Plugins, found: Account, delete: bool, keep: bool
) -> tuple[int, list[str]]:
    """
    Mail first, then the account: cut off in between, the command is given again.

    Mail that came in between is treated alike, or brings the account back.
    How many messages there were, and where they are kept.
    """
    messages, _ = await rooms.store.count(found.maildrop)
    if messages and not (delete or keep):
        raise Refused(
            f"its maildrop holds {counted(messages, 'message')}: --keep-mail sets the mail "
            "aside, --delete-mail deletes it"
        )
    places = []
    if delete or keep:
        places.append(await _discard(rooms, found, keep))
    own = await rooms.register.account_quota(found.address)
    serving = await rooms.register.account_serving(found.address)
    devices = await rooms.register.devices(found.address)
    await rooms.register.remove(found.address)
    late, _ = await rooms.store.count(found.maildrop)
    if late:
        if not (delete or keep):
            await rooms.register.add(found.address, found.secret, found.scram, found.maildrop)
            if found.shared is not None:
                await rooms.register.set_shared(found.address, found.shared)
            await rooms.register.set_quota(found.address, own or Quota())
            await rooms.register.set_serving(found.address, serving or UNSPECIFIED)
            await rooms.register.set_state(found.address, found.state)
            for device in devices:
                await rooms.register.add_device(found.address, device)
            raise Refused(f"mail has just come for {found.address}; nothing is removed")
        places.append(await _discard(rooms, found, keep))
    return messages + late, [place for place in places if place]


async def _discard(rooms: Plugins, found: Account, keep: bool) -> str:
    try:
        return await rooms.store.discard(found.maildrop, keep)
    except MaildropLocked:
        raise Refused(f"{found.address} collects its mail just now; try again") from None
