"""App passwords of devices: generated, found by their first group, and compared by a digest."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from twisted.cred.credentials import IUsernamePassword

from postoffice.accounts.credentials import Credentials, IScramLogin
from postoffice.accounts.passwords import GROUP, GROUPS, LETTERS
from postoffice.model.address import Account
from postoffice.model.app_password import AppPassword
from postoffice.protocol.scram import Keys, Salt

#: One group names the password, the others are the secret: 83 bits, as in an account's.
_FORM = re.compile(rf"[{LETTERS}]{{{GROUP * (1 + GROUPS)}}}")


@dataclass(frozen=True)
class AppPasswordToken:
    """
    A password in the form that only app passwords have.

    ``id`` identifies the password and is not secret; ``digest`` is a hash of all of it.
    A fast hash is enough, because the password is random, and a guess must match the id
    before it is compared.
    """

    id: str
    text: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Generate a new app password."""
        groups = ["".join(secrets.choice(LETTERS) for _ in range(GROUP)) for _ in range(1 + GROUPS)]
        return cls(groups[0], "-".join(groups))

    @classmethod
    def read(cls, password: bytes | str) -> Self | None:
        """Parse what a user typed: phones capitalize the first letter, users leave out hyphens."""
        if len(password) < GROUP * (1 + GROUPS):  # as most are
            return None
        if isinstance(password, bytes):
            password = password.decode("ascii", "replace")
        letters = password.lower().replace("-", "").replace(" ", "")
        if not _FORM.fullmatch(letters):
            return None
        groups = [letters[start : start + GROUP] for start in range(0, len(letters), GROUP)]
        return cls(groups[0], "-".join(groups))

    @property
    def digest(self) -> str:
        return sha256(b"a device's password: " + self.text.encode()).hexdigest()

    def of(self, devices: Iterable[AppPassword]) -> AppPassword | None:
        """Return the device that has this password, or None."""
        for device in devices:
            if device.id == self.id and hmac.compare_digest(device.secret, self.digest):
                return device
        return None


def may_be_one(credentials: Credentials) -> bool:
    """Whether these credentials have the form of an app password."""
    return IScramLogin.providedBy(credentials) or _read(credentials) is not None


def recognized(credentials: Credentials, devices: Iterable[AppPassword]) -> AppPassword | None:
    """Return the device that has these credentials, or None."""
    password = _read(credentials)
    if password is not None:
        return password.of(devices)
    if IScramLogin.providedBy(credentials):
        for device in devices:
            keys = Keys.read(device.scram)
            if keys is not None and credentials.verify(keys):
                return device
    return None


def salt(account: Account, devices: Iterable[AppPassword] = ()) -> Salt | None:
    """
    Return the one salt of all SCRAM keys of an account and its devices, or None.

    A client asks for the salt of an account before it shows which of the passwords it uses.
    """
    for text in (account.scram, *(device.scram for device in devices)):
        keys = Keys.read(text)
        if keys is not None:
            return Salt(keys.salt, keys.iterations)
    return None


def _read(credentials: Credentials) -> AppPasswordToken | None:
    if not IUsernamePassword.providedBy(credentials):
        return None
    return AppPasswordToken.read(credentials.password)
