"""After a login, hashes the password anew if its hash is outdated, and makes its SCRAM keys."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from postoffice.accounts import app_passwords, password_schemes, passwords
from postoffice.accounts.directories import Directories
from postoffice.interfaces import Executor, IAccountRegister, IPasswordUpgrade
from postoffice.model import log_events
from postoffice.model.address import Account
from postoffice.model.errors import TemporaryFailure
from postoffice.model.log_event import tell
from postoffice.protocol import scram

log = Logger("postoffice")

#: Passwords that wait for SCRAM keys or for a new hash, at most.
WAITING = 100


class PasswordUpgrade:
    """Hashes passwords anew on ``hashing``, and keeps the hashes in ``directory``."""

    log = Logger()

    def __init__(self, directory: Directories, hashing: Executor) -> None:
        self._directory = directory
        self._hashing = hashing
        self._waiting: dict[str, tuple[str, bytes]] = {}
        self._stopping: Deferred[None] | None = None

    async def stop(self) -> None:
        """End the work in the background; no logins come after this."""
        if self._stopping is None:
            self._stopping = Deferred()
        if self._waiting:
            await self._stopping

    def add(self, account: Account, password: bytes) -> None:
        """
        Hash a password anew, and make its SCRAM keys, in the background, one at a time.

        The password is kept in memory until then.
        """
        if account.secret is None or account.address in self._waiting:
            return
        if len(self._waiting) < WAITING and self._stopping is None:
            self._waiting[account.address] = (account.secret, password)
            if len(self._waiting) == 1:
                Deferred.fromCoroutine(self._renew_all())

    async def _renew_all(self) -> None:
        while self._waiting and self._stopping is None:
            name, (secret, password) = next(iter(self._waiting.items()))
            try:
                await self._rehash(name, secret, password)
            except TemporaryFailure as error:
                self.log.warn(
                    "keeping a new hash and the SCRAM keys of {name} failed: {why}; "
                    "retrying at the next login",
                    name=name,
                    why=error,
                )
            except Exception:
                self.log.failure(
                    "keeping a new hash and the SCRAM keys of {name} failed", name=name
                )
            del self._waiting[name]
        if self._stopping is not None:
            self._waiting.clear()
            self._stopping.callback(None)

    async def _rehash(self, name: str, secret: str, password: bytes) -> None:
        """Store the SCRAM keys that are missing, and a new hash if ``secret`` is outdated."""
        holder = await self._directory.holder_of(name)
        if IPasswordUpgrade.providedBy(holder) and passwords.is_outdated(secret):
            new = await self._hashing.run(passwords.hash_password, password)
            if await cast(IPasswordUpgrade, holder).upgrade_password(name, secret, new):
                _tell(name, secret)
            return
        account = await self._directory.find(name)
        if account is None or not IAccountRegister.providedBy(holder):
            return
        register: IAccountRegister = holder
        keys = account.scram
        if keys is None:
            salt = app_passwords.salt(account, await register.app_passwords(name))
            how = () if salt is None else (salt.salt, salt.iterations)
            keys = str(await self._hashing.run(scram.derive, password, *how))
        if not passwords.is_outdated(secret):
            await register.keep_scram(name, secret, keys)
            return
        new = await self._hashing.run(passwords.hash_password, password)
        if await register.keep_scram(name, secret, keys, new):
            _tell(name, secret)


def _tell(name: str, secret: str) -> None:
    why = password_schemes.read(secret).scheme
    tell(log, log_events.PASSWORD_REHASHED, account=name, why=why)
