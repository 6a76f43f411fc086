"""Changes of an account that the command and the web page make in the same way."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Awaitable, Callable, Sequence

from postoffice.accounts.app_passwords import AppPasswordToken, salt
from postoffice.accounts.directories import Directories
from postoffice.accounts.passwords import generate_password, hash_password
from postoffice.interfaces import Executor, IAccountDirectory, IAccountRegister
from postoffice.model.address import ENABLED, Account, StateNote
from postoffice.model.alias import Alias
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import PostOfficeError
from postoffice.protocol import scram

#: ``IMailStore.count``: returns the messages and the octets in a maildrop.
CountMail = Callable[[str], Awaitable[tuple[int, int]]]

#: Characters in a device's name at most.
NAME_LENGTH = 64
#: Devices of one account at most: a login with an app password looks at all of them.
DEVICES = 100


class ChangeRefused(PostOfficeError):
    """A change was not made; the text says why, and what to do instead."""


async def check_free(
    directories: Sequence[IAccountDirectory], register: IAccountRegister, name: str
) -> None:
    """Raises ChangeRefused if no account can have this name: taken, or its domain is not ours."""
    found = Directories(directories).look_up(name)
    domain, entry = await found if isinstance(found, Awaitable) else found
    if isinstance(entry, Alias):
        raise ChangeRefused(f"{name} is an alias; postoffice alias remove {name}")
    if entry is not None:
        raise ChangeRefused(f"{name} is here already")
    if domain is None or not await register.serves(domain.name):
        where = name.rpartition("@")[2]
        raise ChangeRefused(f"{where} is not ours; postoffice domain add {where}")


async def check_maildrop_empty(register: IAccountRegister, count: CountMail, name: str) -> None:
    """Raises ChangeRefused if a new account of this name would get the mail of an earlier one."""
    messages, _ = await count(await register.maildrop_for(name))
    if messages:
        raise ChangeRefused(
            f"its maildrop holds {messages} message{'' if messages == 1 else 's'} of an earlier "
            "account of that name; to give them to the new one: postoffice account add "
            f"{name} --adopt-mail"
        )


async def set_account_state(
    register: IAccountRegister, account: Account, state: str, who: str, why: str, postmaster: str
) -> bool:
    """
    Set what an account may do, and note who did it; False if it had this state already.

    ``postmaster`` is the account that gets the postmaster's mail: it stays enabled.
    Sessions are not ended.  Raises ChangeRefused.
    """
    if account.address == postmaster and state != ENABLED:
        raise ChangeRefused(
            f"{account.address} gets the mail to postmaster; name another account at postmaster: "
            "in the configuration first"
        )
    if account.state == state and not why:
        return False
    await register.set_state(account.address, state, StateNote(who, time.time(), why))
    return True


async def give_new_password(
    register: IAccountRegister, executor: Executor, account: Account
) -> str:
    """
    Generate a password, set it, and return it: it must be shown once.

    The old one stops working at once; app passwords stay.  Raises ChangeRefused.
    """
    password = generate_password()
    await set_password(register, executor, account, password.encode())
    return password


async def set_password(
    register: IAccountRegister, executor: Executor, account: Account, password: bytes
) -> None:
    """
    Set the password of an account; app passwords stay.

    The old one stops working at once.  Raises ChangeRefused.
    """
    devices = await register.app_passwords(account.address)
    found = salt(account, devices) if devices else None  # the devices' keys use this salt
    secret, keys = await executor.run(_hashed, password, found)
    if not await register.set_secret(account.address, secret, keys):
        raise ChangeRefused(f"there is no account {account.address} here")


async def add_device(
    register: IAccountRegister,
    executor: Executor,
    account: Account,
    name: str,
    protocol: str = "any",
    expires: float | None = None,
    networks: Sequence[str] = (),
) -> str:
    """
    Add a device to an account; return its app password, which must be shown once.

    ``name`` comes from ``device_name``; the rest is as in ``AppPassword``.  Raises ChangeRefused.
    """
    token = AppPasswordToken.generate()
    devices = await register.app_passwords(account.address)
    if len(devices) >= DEVICES:
        raise ChangeRefused(f"{account.address} has {DEVICES} devices already; remove some")
    keys = await executor.run(_keys, token.text.encode(), salt(account, devices))
    made = AppPassword(
        name, token.id, token.digest, keys, time.time(), expires, protocol, tuple(networks)
    )
    if not await register.add_app_password(account.address, made):
        raise ChangeRefused(f"{account.address} has a device {name!r} already")
    return token.text


def device_name(text: str) -> str:
    """Return the name of a device in its one form.  Raises ValueError."""
    name = unicodedata.normalize("NFC", text.strip())
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise ValueError(f"{text!r} is no name: 1 to {NAME_LENGTH} letters that can be shown")
    return name


def _hashed(password: bytes, given: scram.Salt | None) -> tuple[str, str]:
    """Return the hash and the SCRAM keys.  It takes a while."""
    return hash_password(password), _keys(password, given)


def _keys(password: bytes, given: scram.Salt | None) -> str:
    how = () if given is None else (given.salt, given.iterations)
    return str(scram.derive(password, *how))
