"""``postoffice account``: the accounts."""

from __future__ import annotations

from dataclasses import dataclass

import click

from postoffice.accounts.app_passwords import salt as salt_of
from postoffice.cli.app_passwords import (
    Last,
    device_data,
    device_table,
    last_logins,
    login_cells,
    login_data,
)
from postoffice.cli.common import (
    ADDRESS,
    Answer,
    CommandContext,
    Refused,
    command,
    counted,
    sized,
    table,
)
from postoffice.cli.completion import nothing
from postoffice.cli.mail_policies import (
    NAMES,
    Served,
    asks_for_serving,
    changed_serving,
    default_serving_option,
    served_to_account,
    serving_options,
)
from postoffice.cli.new_password import (
    Password,
    ask_password,
    password_options,
    shared_secret_options,
)
from postoffice.cli.quotas import (
    Told,
    asks_for_change,
    changed,
    default_option,
    quota_options,
    told_of_account,
)
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Account, Address, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy
from postoffice.protocol.sasl import NEEDS


@click.group()
def account() -> None:
    """Administer the accounts, which receive mail."""


@command("add", account)
@click.argument("address", type=ADDRESS, shell_complete=nothing)
@password_options
@quota_options
@serving_options
@click.option(
    "--adopt-mail", is_flag=True, help="Give the account the mail that an earlier account left."
)
def add(
    context: CommandContext,
    address: Address,
    password_stdin: bool,
    generate: bool,
    hash_stdin: bool,
    quota: Quota,
    serving: MailPolicy,
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
    password = ask_password(password_stdin, generate, address.normal, hash_stdin)
    hashed = password.hashed()
    name = address.normal
    settings = context.settings()

    async def work(plugins: Plugins) -> None:
        if await plugins.find(name) is not None:
            raise Refused(f"{name} is here already")
        domain = name.rpartition("@")[2]
        if not await plugins.register.serves(domain):
            raise Refused(f"{domain} is not ours; postoffice domain add {domain}")
        messages, _ = await plugins.store.count(await plugins.register.maildrop_for(name))
        if messages and not adopt_mail:
            raise Refused(
                f"its maildrop holds {counted(messages, 'message')} of an earlier account of "
                "that name; --adopt-mail gives the new one what is there"
            )
        async with context.logins(plugins, settings) as logins:
            if not await plugins.register.add(name, *hashed):
                raise Refused(f"{name} is here already")
            await plugins.executor.run(logins.login_history.forget, name)  # an earlier one's
        if quota != Quota():
            await plugins.register.set_quota(name, quota)
        if serving != UNSPECIFIED:
            await plugins.register.set_serving(name, serving)

    context.ask(work, settings)
    data = {"address": name, "added": True, **password.data}
    return Answer(data, [f"{name} is added", *password.lines])


@command("show", account)
@click.argument("address", type=ADDRESS)
def show(context: CommandContext, address: Address) -> Answer:
    """
    Show the account ADDRESS and its maildrop.

    With --json: address, maildrop (its name), state, password (true or false), mechanisms
    (by which it can log in), messages, octets, quota (octets, messages, over) and
    quota_from (where each of these values is set: account, domain, default, or
    postmaster), serving (keep, keep_collected, delete_on_collect, devices, login_delay,
    in_use, wait; durations in seconds) and serving_from; last_login (with its own
    password: time, service, mechanism, tls, network; or null) and devices (as in `account
    device list`).
    """
    settings = context.settings()
    devices: list[AppPassword] = []
    last: Last = {}

    async def work(plugins: Plugins) -> tuple[Account, Told, Served, int, int]:
        found = await registered(plugins, address.normal)
        devices.extend(await plugins.register.devices(found.address))
        async with context.logins(plugins, settings) as logins:
            last.update(await last_logins(plugins, logins, found.address))
        told = await told_of_account(plugins.register, settings, found.address)
        served = await served_to_account(plugins.register, settings, found.address)
        return found, told, served, *await plugins.store.count(found.maildrop)

    found, told, served, messages, octets = context.ask(work, settings)
    has_password = found.secret is not None
    mechanisms = [name for name, field in NEEDS.items() if getattr(found, field) is not None]
    data = {
        "address": found.address,
        "maildrop": found.maildrop,
        "state": found.state,
        "password": has_password,
        "mechanisms": mechanisms,
        "messages": messages,
        "octets": octets,
        **told.data,
        **served.data,
        "last_login": login_data(last.get("")),
        "devices": device_data(devices, last),
    }
    only = "only its devices can log in" if devices else "nobody can log in"
    login = ", ".join(cell for cell in login_cells(last.get("")) if cell)
    rows = [
        ("account", found.address),
        *([] if found.maildrop == found.address else [("maildrop", found.maildrop)]),
        *([] if found.enabled else [("state", f"{found.state}: no login, mail is refused")]),
        ("password", "yes" if has_password else f"no: {only}"),
        ("last login", login),
        ("logs in by", ", ".join(mechanisms) or "nothing"),
        ("maildrop", f"{counted(messages, 'message')}, {sized(octets)}"),
        ("quota", told.line),
        *served.rows,
    ]
    lines = table(rows)
    if devices:
        lines += ["", *device_table(devices, last)]
    return Answer(data, lines)


@command("passwd", account)
@click.argument("address", type=ADDRESS)
@password_options
def passwd(
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
    name = address.normal

    async def work(plugins: Plugins) -> None:
        found = await registered(plugins, name)
        salt = None
        if devices := await plugins.register.devices(name):
            salt = salt_of(found, devices)  # the SCRAM keys of the devices use this salt
        if not await plugins.register.set_secret(name, *password.hashed(salt)):
            raise Refused(f"there is no account {name} here")

    context.ask(work)
    data = {"address": name, "changed": True, **password.data}
    return Answer(data, [f"{name} has a new password", *password.lines])


@command("set", account)
@click.argument("address", type=ADDRESS)
@quota_options
@default_option("Use the quota of the domain, or else of the configuration.")
@serving_options
@default_serving_option("Use the mail policy of the domain, or else of the configuration.")
@shared_secret_options
def set_(
    context: CommandContext,
    address: Address,
    quota: Quota,
    default_quota: bool,
    serving: MailPolicy,
    default_serving: bool,
    shared_secret_stdin: bool,
    generate_shared_secret: bool,
    no_shared_secret: bool,
) -> Answer:
    """
    Change settings of the account ADDRESS.

    Settings that you do not give stay as they are.  A shared secret is for CRAM-MD5 and
    APOP, which need it in clear: the post office stores it encrypted, and it should not
    be the password.

    With --json: address, changed; quota and quota_from, serving and serving_from (as in
    show) if one of those was changed, generated_shared_secret if it was generated.
    """
    change = _Change(
        quota if asks_for_change(quota, default_quota) else None,
        serving if asks_for_serving(serving, default_serving) else None,
    )
    if shared_secret_stdin + generate_shared_secret + no_shared_secret != (change == _Change()):
        raise click.UsageError(
            "give one of --shared-secret-stdin, --generate-shared-secret, --no-shared-secret, or "
            f"an option for the quota, or one of {NAMES}, --default-serving"
        )
    if change != _Change():
        return _set_mail_policy(context, address.normal, change)
    secret: Password | None = None
    if not no_shared_secret:
        secret = ask_password(shared_secret_stdin, generate_shared_secret, address.normal)
    return _set_shared(context, address.normal, secret)


@dataclass(frozen=True)
class _Change:
    """The settings to change; None leaves a setting as it is, an empty value removes it."""

    quota: Quota | None = None
    serving: MailPolicy | None = None


def _set_mail_policy(context: CommandContext, name: str, change: _Change) -> Answer:
    settings = context.settings()

    async def work(plugins: Plugins) -> tuple[Told, Served]:
        register = plugins.register
        known, served = await register.account_quota(name), await register.account_serving(name)
        if known is None or served is None:
            raise Refused(f"there is no account {name} here")
        if change.quota is not None:
            await register.set_quota(name, changed(known, change.quota))
        if change.serving is not None:
            await register.set_serving(name, changed_serving(served, change.serving))
        return (
            await told_of_account(register, settings, name),
            await served_to_account(register, settings, name),
        )

    told, served = context.ask(work, settings)
    data = {"address": name, "changed": True, **told.data, **served.data}
    lines = [] if change.quota is None else [f"{name} has a quota: {told.line}"]
    if change.serving is not None:
        lines += [f"{name} has {what}: {line}" for what, line in served.rows]
    return Answer(data, lines)


def _set_shared(context: CommandContext, name: str, secret: Password | None) -> Answer:
    shared = None if secret is None else secret.octets.decode("utf-8", "surrogateescape")

    async def work(plugins: Plugins) -> None:
        if not await plugins.register.set_shared(name, shared):
            raise Refused(f"there is no account {name} here")

    context.ask(work)
    data: dict[str, object] = {"address": name, "changed": True}
    lines = [f"{name} has {'no' if shared is None else 'a new'} shared secret"]
    if secret is not None and secret.generated:
        data["generated_shared_secret"] = shared
        lines.append(f"shared secret: {shared}")
    return Answer(data, lines)


async def registered(plugins: Plugins, name: str) -> Account:
    """Return the account from the directory that the command writes to.  Raises Refused."""
    found = await plugins.register.find(name)
    if found is None:
        raise Refused(f"there is no account {name} here")
    return found
