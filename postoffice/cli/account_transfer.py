"""``postoffice account import`` and ``export``: accounts with all that belongs to them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import cast

import click

from postoffice.accounts.address_checks import AddressRefused, check_forward
from postoffice.accounts.address_resolution import Asking
from postoffice.accounts.app_passwords import salt as salt_of
from postoffice.cli.account_records import (
    COLUMNS,
    PARSERS,
    SECRETS,
    devices_of,
    forward_of,
    forwarding,
    name_of,
    note_of,
    policy_of,
    quota_of,
    record_of,
    secrets_of,
)
from postoffice.cli.addresses import address_register
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.import_groups import Saver, Values, Waits
from postoffice.cli.import_view import ImportView, explained
from postoffice.cli.list_output import paged
from postoffice.cli.parameters import DOMAIN
from postoffice.cli.quotas import own_settings
from postoffice.cli.transfer import export_file, import_file, import_options, transfer_options
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister, IAddressRegister, IBulkRegister
from postoffice.model.address import (
    ENABLED,
    Account,
    Address,
    Quota,
)
from postoffice.model.alias import Alias
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import UNSPECIFIED


@command("import")
@import_options
def import_(
    context: CommandContext, file: str, form: str | None, update: bool, dry_run: bool
) -> Answer:
    """
    Import accounts from FILE, or from the standard input.

    FILE is CSV, with the names of the columns in its first line, or has a JSON object on
    each line.  Only address is needed; the others are those of `account export`, and
    password, a password in clear.  hash is a hash as other programs write it.  The
    domains must exist.

    A line that cannot be used is reported at the end, with its number, and all others are
    imported.  An account that exists is an error, or with --update it gets the values
    that the line has; so an interrupted import can be repeated with --update.

    With --json: file, dry_run, added, updated, failed, errors and warnings (each with file,
    line, text).
    """

    def saver(plugins: Plugins, settings: Settings) -> Saver:
        return _AccountSaver(plugins, settings, update)

    return import_file(context, file, form, PARSERS, saver, dry_run)


class _AccountSaver:
    """
    Saves the accounts of an import; see ``import_groups.Saver``.

    All of an account is checked before anything of it is written.
    """

    def __init__(self, plugins: Plugins, settings: Settings, update: bool) -> None:
        self._plugins = plugins
        self._register: IAccountRegister = plugins.register
        self._view = ImportView(plugins)
        self._postmaster = settings.postmaster.normal
        self._way_out = settings.way_out
        self._update = update
        self._unwritten: list[tuple[Account, Sequence[AppPassword]]] = []

    def _asking(self, account: Account) -> Asking[None]:
        return check_forward(account, self._postmaster, way_out=self._way_out)

    async def begin(self, group: Sequence[Values]) -> None:
        names = {name_of(values) for values in group}
        targets = {target.normal for values in group for target in forward_of(values)}
        maildrops = {
            maildrop.normal
            for values in group
            if isinstance(maildrop := values.get("maildrop"), Address)
        }
        await self._view.begin(names, targets, maildrops)

    async def save(self, values: Values) -> bool:
        name = name_of(values)
        known = await self._known(name)
        if known is not None and not self._update:
            raise Refused(f"{name} is here already; --update changes it")
        now = forwarding(known or Account(name, name), values)
        await self._check_forward(now, values)
        if known is None:
            await self._add(now, values)
        else:
            await self.flush()  # it may be one of those
            if not {"password", "hash"}.isdisjoint(values):
                devices = await self._register.app_passwords(name)
                salt = salt_of(known, devices) if devices else None
                await self._register.set_secret(name, *secrets_of(values, salt))
            await self._set_rest(name, values)
            if "forward" in values or "keep_copy" in values:
                register = cast(IAddressRegister, self._register)
                await register.set_forward(name, now.forward, now.keep_copy)
                self._view.add(now)
        return known is None

    async def _known(self, name: str) -> Account | None:
        """Return the account of this name.  Raises Refused if no account can have the name."""
        mine, anywhere = await self._view.find(name)
        domain = name.rpartition("@")[2]
        if mine.domain is None:
            raise Refused(f"{domain} is not ours; postoffice domain add {domain}")
        if anywhere.entry is not None and anywhere.entry != mine.entry:
            raise Refused(f"{name} is in another directory, which cannot be written to")
        if isinstance(mine.entry, Alias):
            raise Refused(f"{name} is an alias")
        return mine.entry

    async def _add(self, account: Account, values: Values) -> None:
        """Add a new account, of which only the name and the forward are known."""
        (secret, scram), name = secrets_of(values), account.address
        account = replace(
            account,
            maildrop=await self._maildrop(name, values),
            secret=secret,
            scram=scram,
            shared=cast(str | None, values.get("shared_secret")),
            quota=quota_of(values),
            mail_policy=policy_of(values),
            state=str(values.get("state", ENABLED)),
            state_note=note_of(values),
        )
        devices = {one.name: one for one in devices_of(values)}
        if self._view.bulk is not None:
            self._unwritten.append((account, list(devices.values())))
        else:
            if not await self._register.add(name, secret, scram, account.maildrop):
                raise Refused(f"{name} is an alias")
            await self._set_rest(name, values)
            if account.forward:
                register = cast(IAddressRegister, self._register)
                await register.set_forward(name, account.forward, account.keep_copy)
        self._view.add(account)

    async def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        if self._view.bulk is not None and unwritten:
            await self._view.bulk.add_accounts(unwritten)

    async def explain(self, waiting: Sequence[Values]) -> Sequence[str]:
        await self.begin(waiting)
        accounts = []
        for values in waiting:
            known = (await self._view.find(name_of(values)))[0].entry
            base = (
                known if isinstance(known, Account) else Account(name_of(values), name_of(values))
            )
            account = forwarding(base, values)
            accounts.append((account, self._asking(account)))
        return await explained(self._view, accounts)

    async def _maildrop(self, name: str, values: Values) -> str:
        """Return the maildrop of a new account: the one that it asks for, or a free one."""
        wanted = values.get("maildrop")
        maildrop = name if wanted is None else cast(Address, wanted).normal
        if self._view.bulk is not None:
            free = not self._view.is_used(maildrop)
        else:
            free = await self._register.maildrop_for(maildrop) == maildrop
        if free:
            return maildrop
        if wanted is not None:
            raise Refused(f"the maildrop {maildrop} belongs to another account")
        await self.flush()
        return await self._register.maildrop_for(name)

    async def _check_forward(self, account: Account, values: Values) -> None:
        if "forward" not in values and "keep_copy" not in values:
            return
        address_register(self._plugins)
        try:
            await self._view.asked(self._asking(account))
            if account.forward and self._view.is_target(account.address):
                await self.flush()
                await self._view.check_above(account, self._postmaster)
        except AddressRefused as why:
            raise Waits(str(why)) from why  # a target may come later

    async def _set_rest(self, name: str, values: Values) -> None:
        """Set all that a record has but the password and the forward."""
        register = self._register
        if "shared_secret" in values:
            await register.set_shared(name, cast(str, values["shared_secret"]))
        if (given := quota_of(values)) != Quota():
            known = await register.account_quota(name) or Quota()
            await register.set_quota(name, given.or_else(known))
        if (policy := policy_of(values)) != UNSPECIFIED:
            now = await register.account_mail_policy(name) or UNSPECIFIED
            await register.set_mail_policy(name, policy.or_else(now))
        if "state" in values:
            await register.set_state(name, str(values["state"]), note_of(values))
        for device in devices_of(values):
            await register.remove_app_password(name, device.name)
            await register.add_app_password(name, device)


@command("export")
@transfer_options
@click.option("--domain", type=DOMAIN, help="Export only the accounts of this domain.")
@click.option(
    "--with-secrets", is_flag=True, help="Export also hashes, shared secrets and app passwords."
)
def export(
    context: CommandContext, file: str, form: str | None, domain: str | None, with_secrets: bool
) -> Answer:
    """
    Export the accounts to FILE, a new file, or to the standard output.

    The format is CSV, or JSON lines for a name that ends in .jsonl.  `account import`
    reads both.  A value that an account does not set itself is left out.

    With --json: file, records (how many).
    """
    columns = (*COLUMNS, *(SECRETS if with_secrets else ()))
    return export_file(
        context, file, form, columns, functools.partial(_all_accounts, domain, with_secrets)
    )


async def _all_accounts(
    domain: str | None, secrets: bool, plugins: Plugins
) -> AsyncIterator[Mapping[str, object]]:
    register = plugins.register
    if domain is not None and domain not in await register.domains():
        raise Refused(f"there is no domain {domain} here")
    async for accounts in paged(register.each_account(domain)):
        names = [one.address for one in accounts]
        own = await own_settings(register, names)
        devices = await _devices(register, names) if secrets else {}
        for account in accounts:
            if account.address not in own:
                continue  # it was removed meanwhile
            record = record_of(account, *own[account.address])
            if secrets:
                record |= {
                    "hash": account.secret,
                    "scram": account.scram,
                    "shared_secret": account.shared,
                    "app_passwords": [asdict(one) for one in devices.get(account.address, ())]
                    or None,
                }
            yield record


async def _devices(
    register: IAccountRegister, names: Sequence[str]
) -> Mapping[str, Sequence[AppPassword]]:
    """Return the devices of these accounts."""
    if IBulkRegister.providedBy(register):
        return await cast(IBulkRegister, register).all_app_passwords(names)
    return {name: await register.app_passwords(name) for name in names}
