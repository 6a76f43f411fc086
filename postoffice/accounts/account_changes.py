"""Changes of an account that the command and the web page make in the same way."""

from __future__ import annotations

import time

from postoffice.accounts.app_passwords import salt
from postoffice.accounts.passwords import generate_password, hash_password
from postoffice.interfaces import Executor, IAccountRegister
from postoffice.model.address import ENABLED, Account, StateNote
from postoffice.protocol import scram


class ChangeRefused(Exception):
    """A change was not made; the text says why, and what to do instead."""


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
    devices = await register.app_passwords(account.address)
    password = generate_password()
    found = salt(account, devices) if devices else None  # the devices' keys use this salt
    secret, keys = await executor.run(_hashed, password, found)
    if not await register.set_secret(account.address, secret, keys):
        raise ChangeRefused(f"there is no account {account.address} here")
    return password


def _hashed(password: str, given: scram.Salt | None) -> tuple[str, str]:
    """Return the hash and the SCRAM keys.  It takes a while."""
    octets = password.encode()
    how = () if given is None else (given.salt, given.iterations)
    return hash_password(octets), str(scram.derive(octets, *how))
