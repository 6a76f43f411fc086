"""Accounts in files: the columns, and how they are parsed and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import cast

import click

from postoffice.accounts import password_schemes
from postoffice.cli.import_groups import Values
from postoffice.cli.mail_policies import DAYS_TYPE, DURATION_TYPE, VALUES
from postoffice.cli.new_password import Password, check_password
from postoffice.cli.quotas import OPTIONS
from postoffice.cli.record_files import address_list, one_of, truth, written_address
from postoffice.config.settings import OVER
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
from postoffice.model.mail_policy import DEVICES, IN_USE, MailPolicy
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


SECRETS: dict[str, Callable[[str], object]] = {
    "hash": _hash,
    "scram": _keys,
    "shared_secret": str,
    "app_passwords": _app_passwords,
}
POLICY: dict[str, Callable[[str], object]] = {
    "keep": _parser(DAYS_TYPE),
    "keep_collected": _parser(DAYS_TYPE),
    "delete_on_collect": truth,
    "devices": one_of(*DEVICES),
    "login_delay": _parser(DURATION_TYPE),
    "in_use": one_of(*IN_USE),
    "wait": _parser(DURATION_TYPE),
}
QUOTA: dict[str, Callable[[str], object]] = {
    "quota": _parser(OPTIONS[0][2]),
    "quota_messages": _parser(OPTIONS[1][2]),
    "over": one_of(*OVER),
}
#: The columns of an export, and what parses each.  A password in clear is only imported.
COLUMNS: dict[str, Callable[[str], object]] = {
    "address": Address.parse,
    "maildrop": Address.parse,
    "state": one_of(*STATES),
    "state_by": str,
    "state_at": float,
    "state_why": str,
    "forward": address_list,
    "keep_copy": truth,
    **QUOTA,
    **POLICY,
}
PARSERS: dict[str, Callable[[str], object]] = {**COLUMNS, **SECRETS, "password": str}


def name_of(values: Values) -> str:
    return cast(Address, values["address"]).normal


def forward_of(values: Values) -> tuple[Address, ...]:
    return cast(tuple[Address, ...], values.get("forward", ()))


def forwarding(account: Account, values: Values) -> Account:
    """Return the account with the forward that a record has."""
    targets = forward_of(values) if "forward" in values else account.forward
    keep_copy = bool(values.get("keep_copy", account.keep_copy)) or not targets
    return replace(account, forward=targets, keep_copy=keep_copy)


def quota_of(values: Values) -> Quota:
    return Quota(*(values.get(one) for one in QUOTA))  # type: ignore[arg-type]


def policy_of(values: Values) -> MailPolicy:
    return MailPolicy(**{one: values.get(one) for one in VALUES})  # type: ignore[arg-type]


def note_of(values: Values) -> StateNote:
    if "state" not in values:
        return NO_NOTE
    return StateNote(
        str(values.get("state_by", "")),
        cast(float, values.get("state_at", 0)),
        str(values.get("state_why", "")),
    )


def devices_of(values: Values) -> tuple[AppPassword, ...]:
    return cast(tuple[AppPassword, ...], values.get("app_passwords", ()))


def secrets_of(values: Values, salt: Salt | None = None) -> tuple[str | None, str | None]:
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


def _checked(password: bytes) -> Password:
    try:
        return check_password(password)
    except click.UsageError as error:
        raise ValueError(error.message) from None


def record_of(account: Account, quota: Quota, policy: MailPolicy) -> dict[str, object]:
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
