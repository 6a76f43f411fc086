"""``postoffice account``: the accounts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import click

from postoffice.accounts.app_passwords import salt as salt_of
from postoffice.cli.addresses import (
    check_free,
    check_maildrop_empty,
    confirm_look_alike,
    still_pointing,
)
from postoffice.cli.app_passwords import (
    Last,
    device_data,
    device_table,
    last_logins,
    login_cells,
    login_data,
)
from postoffice.cli.change_settings import change_settings
from postoffice.cli.command import Answer, CommandContext, Refused, command, registered
from postoffice.cli.completion import nothing
from postoffice.cli.forwards import FORWARDS, Forward, forward_options, forward_rows
from postoffice.cli.held_sending import sending_held
from postoffice.cli.mail_policies import NAMES, EffectivePolicy, policy_of_account, policy_options
from postoffice.cli.new_password import (
    Password,
    ask_password,
    password_options,
    shared_secret_options,
)
from postoffice.cli.output import counted, iso, moment, sized, table
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.quotas import EffectiveQuota, quota_of_account, quota_options
from postoffice.cli.web_records import forget_web_links
from postoffice.config.settings import Settings
from postoffice.model.address import (
    COLLECT_ONLY,
    DISABLED,
    HELD,
    RECEIVE_ONLY,
    Account,
    Address,
    Quota,
)
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import MailPolicy
from postoffice.protocol.sasl import NEEDS


@click.group()
def account() -> None:
    """Administer the accounts, which receive mail."""


@command("add", account)
@click.argument("address", type=ADDRESS, shell_complete=nothing)
@password_options
@quota_options()
@policy_options()
@click.option(
    "--adopt-mail", is_flag=True, help="Give the account the mail that an earlier account left."
)
async def add(
    context: CommandContext,
    address: Address,
    password_stdin: bool,
    generate: bool,
    hash_stdin: bool,
    quota: Quota | None,
    policy: MailPolicy | None,
    adopt_mail: bool,
) -> Answer:
    """
    Add the account ADDRESS, in a local domain.

    The command asks for the password on the terminal, twice, unless an option gives it.
    With --hash-stdin the account keeps the password that it has elsewhere: the hash may be
    of any scheme in the manual, such as {SSHA} or {SHA512-CRYPT}.

    A quota or mail policy that you do not set here comes from the account's domain, or
    else from the configuration.

    With --json: address, added, and generated_password if it was generated.
    """
    confirm_look_alike(address)
    password = ask_password(password_stdin, generate, address.normal, hash_stdin)
    hashed = password.hashed()
    name = address.normal
    settings = context.settings()
    async with context.open(settings) as plugins:
        await check_free(plugins, name)
        if not adopt_mail:
            await check_maildrop_empty(plugins, name)
        async with context.logins(plugins, settings) as logins:
            if not await plugins.register.add(name, *hashed):
                raise Refused(f"{name} is here already")
            await plugins.executor.run(logins.login_history.forget, name)  # an earlier one's
        if quota is not None:
            await plugins.register.set_quota(name, quota)
        if policy is not None:
            await plugins.register.set_mail_policy(name, policy)
    data = {"address": name, "added": True, **password.data}
    return Answer(data, [f"{name} is added", *password.lines])


@command("show", account)
@click.argument("address", type=ADDRESS)
async def show(context: CommandContext, address: Address) -> Answer:
    """
    Show the account ADDRESS and its maildrop.

    With --json: address, maildrop (its name), state, state_note (by, when, why),
    sending_held (since, why; or null), password (true or false), mechanisms (by which
    it can log in), messages, octets, quota (octets, messages, over) and quota_from
    (where each of these values is set: account, domain, default, or postmaster),
    serving (keep, keep_collected, delete_on_collect, devices, login_delay, in_use,
    wait; durations in seconds) and serving_from; forward (addresses), keep_copy,
    pointing (aliases, forwards and catch-alls with this target); last_login (with its
    own password: time, service, mechanism, tls, network; or null) and devices (as in
    `account device list`).
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        found = await registered(plugins, address.normal)
        register = plugins.register
        async with context.logins(plugins, settings) as logins:
            last = await last_logins(plugins, logins, found.address)
        details = _Details(
            found,
            await plugins.store.count(found.maildrop),
            await quota_of_account(register, settings, found.address),
            await policy_of_account(register, settings, found.address),
            await still_pointing(plugins, found.address),
            await register.app_passwords(found.address),
            last,
            sending_held(settings, found.address),
        )
    return Answer(details.data, details.lines)


@dataclass(frozen=True)
class _Details:
    """What `account show` shows; ``held`` is the messages and octets of the maildrop."""

    account: Account
    held: tuple[int, int]
    quota: EffectiveQuota
    policy: EffectivePolicy
    pointing: Sequence[str]
    devices: Sequence[AppPassword]
    last: Last
    sending_held: tuple[float, str] | None

    @property
    def mechanisms(self) -> list[str]:
        """By which mechanisms the account can log in."""
        needs = NEEDS.items()
        return [name for name, field in needs if getattr(self.account, field) is not None]

    @property
    def data(self) -> dict[str, object]:
        """The account as an object for --json."""
        return {
            "address": self.account.address,
            "maildrop": self.account.maildrop,
            "state": self.account.state,
            "state_note": self._note,
            "sending_held": self._sending_held,
            "password": self.account.secret is not None,
            "mechanisms": self.mechanisms,
            "messages": self.held[0],
            "octets": self.held[1],
            **self.quota.data,
            **self.policy.data,
            "forward": [str(target) for target in self.account.forward],
            "keep_copy": self.account.keep_copy,
            "pointing": self.pointing,
            "last_login": login_data(self.last.get("")),
            "devices": device_data(self.devices, self.last),
        }

    @property
    def _note(self) -> dict[str, object]:
        note = self.account.state_note
        return {"by": note.by, "when": iso(note.when or None), "why": note.why}

    @property
    def _sending_held(self) -> dict[str, object] | None:
        held = self.sending_held
        return None if held is None else {"since": iso(held[0]), "why": held[1]}

    @property
    def lines(self) -> list[str]:
        """The account as lines for people."""
        one = self.account
        nobody = f"no: {'only its devices' if self.devices else 'nobody'} can log in"
        rows = [
            ("account", one.address),
            *([] if one.maildrop == one.address else [("maildrop", one.maildrop)]),
            *([] if one.enabled else [("state", _state_line(one))]),
            *([("sending", _held_line(*self.sending_held))] if self.sending_held else []),
            ("password", nobody if one.secret is None else "yes"),
            ("last login", ", ".join(filter(None, login_cells(self.last.get(""))))),
            ("logs in by", ", ".join(self.mechanisms) or "nothing"),
            ("maildrop", f"{counted(self.held[0], 'message')}, {sized(self.held[1])}"),
            ("quota", self.quota.line),
            *self.policy.rows,
            *forward_rows(one),
            *([("target of", ", ".join(self.pointing))] if self.pointing else []),
        ]
        devices = ["", *device_table(self.devices, self.last)] if self.devices else []
        return [*table(rows), *devices]


#: What an account in each state may not do.
LIMITS = {
    DISABLED: "no login, mail is refused",
    COLLECT_ONLY: "mail is refused, it may not send",
    RECEIVE_ONLY: "no login",
    HELD: "it may not send",
}


def _held_line(since: float, why: str) -> str:
    return f"mail for other domains is held since {moment(since)}: {why}"


def _state_line(account: Account) -> str:
    """Return the state, what it forbids, and who set it, when and why."""
    note = account.state_note
    said = [f"by {note.by}" if note.by else "", moment(note.when) if note.when else ""]
    parts = [" ".join(filter(None, said)), note.why]
    text = f"{account.state}: {LIMITS.get(account.state, '')}"
    return "; ".join(filter(None, [text, *parts]))


@command("passwd", account)
@click.argument("address", type=ADDRESS)
@password_options
async def passwd(
    context: CommandContext,
    address: Address,
    password_stdin: bool,
    generate: bool,
    hash_stdin: bool,
) -> Answer:
    """
    Set a new password for the account ADDRESS.

    The old password stops working at once.  The command asks for the new one on the
    terminal, twice, unless an option gives it (--hash-stdin: see `account add`).

    With --json: address, changed, and generated_password if it was generated.
    """
    password = ask_password(password_stdin, generate, address.normal, hash_stdin)
    settings, name = context.settings(), address.normal
    async with context.open(settings) as plugins:
        found = await registered(plugins, name)
        salt = None
        if devices := await plugins.register.app_passwords(name):
            salt = salt_of(found, devices)  # the SCRAM keys of the devices use this salt
        if not await plugins.register.set_secret(name, *password.hashed(salt)):
            raise Refused(f"there is no account {name} here")
    forget_web_links(settings, name)
    data = {"address": name, "changed": True, **password.data}
    return Answer(data, [f"{name} has a new password", *password.lines])


@command("set", account)
@click.argument("address", type=ADDRESS)
@quota_options("Use the quota of the domain, or else of the configuration.")
@policy_options("Use the mail policy of the domain, or else of the configuration.")
@forward_options
@shared_secret_options
async def set_(
    context: CommandContext,
    address: Address,
    quota: Quota | None,
    policy: MailPolicy | None,
    forward: Forward,
    shared_secret_stdin: bool,
    generate_shared_secret: bool,
    no_shared_secret: bool,
) -> Answer:
    """
    Change settings of the account ADDRESS.

    Settings that you do not give stay as they are.  A shared secret is for CRAM-MD5 and
    APOP, which need it in clear: the post office stores it encrypted, and it should not
    be the password.  With --forward, mail for ADDRESS goes to other addresses, and also to
    its own maildrop, unless you say --no-keep-copy.

    With --json: address, changed; quota and quota_from, serving and serving_from (as in
    show) if one of those was changed, generated_shared_secret if it was generated.
    """
    changes = quota is not None or policy is not None or bool(forward)
    if shared_secret_stdin + generate_shared_secret + no_shared_secret != (not changes):
        raise click.UsageError(
            "give one of --shared-secret-stdin, --generate-shared-secret, --no-shared-secret, or "
            f"an option for the quota, or one of {NAMES}, --default-serving, {FORWARDS}"
        )
    if changes:
        settings = context.settings()
        also = functools.partial(forward.save, address.normal, settings) if forward else None
        answer = await change_settings(context, "account", address.normal, quota, policy, also)
        return Answer({"address": address.normal, **answer.data}, answer.lines)
    secret: Password | None = None
    if not no_shared_secret:
        secret = ask_password(shared_secret_stdin, generate_shared_secret, address.normal)
    return await _set_shared(context, address.normal, secret)


async def _set_shared(context: CommandContext, name: str, secret: Password | None) -> Answer:
    shared = None if secret is None else secret.octets.decode("utf-8", "surrogateescape")
    async with context.open() as plugins:
        if not await plugins.register.set_shared(name, shared):
            raise Refused(f"there is no account {name} here")
    data: dict[str, object] = {"address": name, "changed": True}
    lines = [f"{name} has {'no' if shared is None else 'a new'} shared secret"]
    if secret is not None and secret.generated:
        data["generated_shared_secret"] = shared
        lines.append(f"shared secret: {shared}")
    return Answer(data, lines)


def refuse_postmaster(settings: Settings, name: str) -> None:
    """Raises Refused for the account that gets the mail to postmaster."""
    if name == settings.postmaster.normal:
        raise Refused(
            f"{name} gets the mail to postmaster; name another account at postmaster: in the "
            "configuration first"
        )
