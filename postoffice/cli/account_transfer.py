"""``postoffice account import`` and ``export``: accounts with all that belongs to them."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import cast

import click

from postoffice.accounts import password_schemes
from postoffice.accounts.address_checks import AddressRefused, check_forward
from postoffice.accounts.app_passwords import salt as salt_of
from postoffice.cli.addresses import address_register, asked
from postoffice.cli.common import DOMAIN, Answer, CommandContext, Refused, command
from postoffice.cli.mail_policies import DAYS_TYPE, DURATION_TYPE
from postoffice.cli.mail_policies import VALUES as POLICY
from postoffice.cli.new_password import Password, check_password
from postoffice.cli.quotas import OPTIONS as QUOTA
from postoffice.cli.records import (
    Record,
    address_list,
    one_of,
    parsed,
    truth,
    written_address,
)
from postoffice.cli.transfer import (
    Save,
    Waits,
    export_file,
    import_file,
    import_options,
    transfer_options,
)
from postoffice.config.settings import OVER, Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister, IAddressRegister
from postoffice.model.address import (
    ENABLED,
    NO_NOTE,
    STATES,
    Account,
    Address,
    Quota,
    StateNote,
)
from postoffice.model.app_password import PROTOCOLS, AppPassword
from postoffice.model.config_values import NETWORK
from postoffice.model.mail_policy import DEVICES, IN_USE, UNSPECIFIED, MailPolicy
from postoffice.protocol.scram import Keys, Salt


def _hash(text: str) -> str:
    password_schemes.read(text)  # raises ValueError
    return text


def _keys(text: str) -> str:
    return str(Keys.parse(text))


def _app_passwords(text: str) -> tuple[AppPassword, ...]:
    """Parse a JSON list of devices, as an export writes it."""
    found = json.loads(text)
    names = {one.name for one in fields(AppPassword)}
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and set(one) == names for one in found
    ):
        raise ValueError("it is a list of objects, as an export writes them")
    return tuple(_app_password(one) for one in found)


def _app_password(values: Mapping[str, object]) -> AppPassword:
    networks = values["networks"]
    texts = (values["name"], values["id"], values["secret"])
    times = (values["added"], values["expires"] or 0)
    if (
        not all(isinstance(one, str) and one.isprintable() for one in texts)
        or not all(isinstance(one, int | float) for one in times)
        or not isinstance(networks, list)
        or values["protocol"] not in PROTOCOLS
    ):
        raise ValueError("a device has values of other types than an export writes")
    for one in networks:
        NETWORK.read(one)
    scram = None if values["scram"] is None else _keys(str(values["scram"]))
    made = AppPassword(**{**values, "networks": tuple(networks)})  # type: ignore[arg-type]
    return replace(made, scram=scram)


def _parser(kind: click.ParamType) -> Callable[[str], object]:  # type: ignore[type-arg]
    """Return a function that parses as an option of the command line does."""

    def parse(text: str) -> object:
        try:
            return kind.convert(text, None, None)
        except click.BadParameter as error:
            raise ValueError(error.message) from None

    return parse


_SECRETS: dict[str, Callable[[str], object]] = {
    "hash": _hash,
    "scram": _keys,
    "shared_secret": str,
    "app_passwords": _app_passwords,
}
_POLICY: dict[str, Callable[[str], object]] = {
    "keep": _parser(DAYS_TYPE),
    "keep_collected": _parser(DAYS_TYPE),
    "delete_on_collect": truth,
    "devices": one_of(*DEVICES),
    "login_delay": _parser(DURATION_TYPE),
    "in_use": one_of(*IN_USE),
    "wait": _parser(DURATION_TYPE),
}
_QUOTA: dict[str, Callable[[str], object]] = {
    "quota": _parser(QUOTA[0][2]),
    "quota_messages": _parser(QUOTA[1][2]),
    "over": one_of(*OVER),
}
#: The columns that an export has, and what reads each.  A password in clear is only read.
COLUMNS: dict[str, Callable[[str], object]] = {
    "address": Address.parse,
    "maildrop": Address.parse,
    "state": one_of(*STATES),
    "state_by": str,
    "state_at": float,
    "state_why": str,
    "forward": address_list,
    "keep_copy": truth,
    **_QUOTA,
    **_POLICY,
}
PARSERS: dict[str, Callable[[str], object]] = {**COLUMNS, **_SECRETS, "password": str}


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

    With --json: file, dry_run, added, updated, failed, errors (each with file, line, text).
    """

    def saver(plugins: Plugins, settings: Settings) -> Save:
        return _Saver(plugins, settings.postmaster.normal, update).save

    return import_file(context, file, form, tuple(PARSERS), saver, dry_run)


class _Saver:
    """Saves the accounts of an import; all is checked before anything is written."""

    def __init__(self, plugins: Plugins, postmaster: str, update: bool) -> None:
        self._plugins = plugins
        self._register: IAccountRegister = plugins.register
        self._postmaster = postmaster
        self._update = update

    async def save(self, record: Record) -> bool:
        values = parsed(record, PARSERS)
        if "address" not in values:
            raise ValueError("there is no address")
        name = cast(Address, values["address"]).normal
        known = await self._plugins.find(name)
        if known is not None and not self._update:
            raise Refused(f"{name} is here already; --update changes it")
        if known is None and not await self._register.serves(name.rpartition("@")[2]):
            domain = name.rpartition("@")[2]
            raise Refused(f"{domain} is not ours; postoffice domain add {domain}")
        forward = await self._checked_forward(known or Account(name, name), values)
        secrets = self._secrets(values)
        if known is None:
            maildrop = await self._free_maildrop(name, values)
            if not await self._register.add(name, *secrets, maildrop):
                raise Refused(f"{name} is an alias")
        elif secrets[0] is not None:
            devices = await self._register.app_passwords(name)
            salt = salt_of(known, devices) if devices else None
            await self._register.set_secret(name, *self._secrets(values, salt))
        await self._set_rest(name, values)
        if forward is not None:
            await cast(IAddressRegister, self._register).set_forward(name, *forward)
        return known is None

    def _secrets(
        self, values: Mapping[str, object], salt: Salt | None = None
    ) -> tuple[str | None, str | None]:
        """Return the hash and the SCRAM keys that a record has, or those of its password."""
        password, stored = cast(str, values.get("password")), cast(str, values.get("hash"))
        if password and stored:
            raise ValueError("password and hash exclude one another")
        if stored:
            plain = password_schemes.read(stored).plain
            if plain is None:
                secret, keys = Password(b"", False, stored).hashed(salt)
                return secret, cast(str | None, values.get("scram")) or keys
            return _checked(plain).hashed(salt)
        if password:
            return _checked(password.encode()).hashed(salt)
        return None, None

    async def _free_maildrop(self, name: str, values: Mapping[str, object]) -> str | None:
        if "maildrop" not in values:
            return None
        maildrop = cast(Address, values["maildrop"]).normal
        if await self._register.maildrop_for(maildrop) != maildrop:
            raise Refused(f"the maildrop {maildrop} belongs to another account")
        return maildrop

    async def _checked_forward(
        self, account: Account, values: Mapping[str, object]
    ) -> tuple[tuple[Address, ...], bool] | None:
        if "forward" not in values and "keep_copy" not in values:
            return None
        targets = cast(tuple[Address, ...], values.get("forward", account.forward))
        keep_copy = bool(values.get("keep_copy", account.keep_copy)) or not targets
        now = replace(account, forward=targets, keep_copy=keep_copy)
        address_register(self._plugins)
        try:
            await asked(self._plugins, check_forward(now, self._postmaster))
        except AddressRefused as why:
            raise Waits(str(why)) from why  # a target may come later
        return targets, keep_copy

    async def _set_rest(self, name: str, values: Mapping[str, object]) -> None:
        register = self._register
        if "shared_secret" in values:
            await register.set_shared(name, cast(str, values["shared_secret"]))
        given = Quota(*(values.get(one) for one in _QUOTA))  # type: ignore[arg-type]
        if given != Quota():
            known = await register.account_quota(name) or Quota()
            await register.set_quota(name, given.or_else(known))
        policy = MailPolicy(**{one: values.get(one) for one in POLICY})  # type: ignore[arg-type]
        if policy != UNSPECIFIED:
            now = await register.account_mail_policy(name) or UNSPECIFIED
            await register.set_mail_policy(name, policy.or_else(now))
        if "state" in values:
            note = StateNote(
                str(values.get("state_by", "")),
                cast(float, values.get("state_at", 0)),
                str(values.get("state_why", "")),
            )
            await register.set_state(name, str(values["state"]), note)
        for device in cast(tuple[AppPassword, ...], values.get("app_passwords", ())):
            await register.remove_app_password(name, device.name)
            await register.add_app_password(name, device)


def _checked(password: bytes) -> Password:
    try:
        return check_password(password)
    except click.UsageError as error:
        raise ValueError(error.message) from None


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
    columns = (*COLUMNS, *(_SECRETS if with_secrets else ()))
    return export_file(
        context, file, form, columns, functools.partial(_everything, domain, with_secrets)
    )


async def _everything(
    domain: str | None, secrets: bool, plugins: Plugins
) -> AsyncIterator[Mapping[str, object]]:
    register = plugins.register
    domains = await register.domains()
    if domain is not None and domain not in domains:
        raise Refused(f"there is no domain {domain} here")
    for one in domains if domain is None else [domain]:
        quotas = await register.account_quotas(one)
        for account in await register.accounts(one):
            quota = quotas.get(account.address, Quota())
            policy = await register.account_mail_policy(account.address) or UNSPECIFIED
            record = _record(account, quota, policy)
            if secrets:
                devices = await register.app_passwords(account.address)
                record |= {
                    "hash": account.secret,
                    "scram": account.scram,
                    "shared_secret": account.shared,
                    "app_passwords": [asdict(device) for device in devices] or None,
                }
            yield record


def _record(account: Account, quota: Quota, policy: MailPolicy) -> dict[str, object]:
    """Return the columns of an account, without secrets."""
    note = account.state_note if account.state != ENABLED else NO_NOTE
    same = account.maildrop == account.address
    return {
        "address": written_address(account.address),
        "maildrop": None if same else written_address(account.maildrop),
        "state": account.state,
        "state_by": note.by or None,
        "state_at": note.when or None,
        "state_why": note.why or None,
        "forward": [str(one) for one in account.forward] or None,
        "keep_copy": account.keep_copy if account.forward else None,
        "quota": quota.octets,
        "quota_messages": quota.messages,
        "over": quota.over,
        **asdict(policy),
    }
