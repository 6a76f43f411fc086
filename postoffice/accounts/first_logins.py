"""First logins of users who move here from another server, which knows their passwords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from postoffice.accounts import passwords
from postoffice.accounts.account_changes import ChangeRefused, CountMail, check_maildrop_empty
from postoffice.accounts.directories import Directories
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IFirstLogins,
)
from postoffice.model import log_events
from postoffice.model.address import Account
from postoffice.model.errors import TemporaryFailure
from postoffice.model.log_event import tell
from postoffice.protocol import scram
from postoffice.util.maybe_awaitable import later
from postoffice.util.shared_work import SharedWork

log = Logger("postoffice")


#: Begins an import: the address, more arguments of the command, and the password at the old server.
BeginImport: TypeAlias = Callable[[str, Sequence[str], bytes], object]


class FirstLogins:
    """
    Makes an account, or gives one its password, when an old server says that a login is right.

    ``hashing`` is the executor that hashes passwords.  ``count`` counts mail: a new account does
    not get the mail that an earlier account of its name left.  ``begin_import`` is called after
    the login, if the mail on the old server is to be imported.
    """

    log = Logger()

    def __init__(
        self,
        directories: Sequence[IAccountDirectory],
        hashing: Executor,
        count: CountMail | None = None,
        begin_import: BeginImport | None = None,
    ) -> None:
        self._directories = tuple(directories)
        self._all = Directories(directories)
        self._old = [one for one in directories if IFirstLogins.providedBy(one)]
        self._hashing = hashing
        self._count = count
        self._begin_import = begin_import
        #: A client opens several connections at once: one question to the old server is enough.
        self._under_way: SharedWork[tuple[str, bytes], Exception | None] = SharedWork()

    def may_be(self, name: str | None, account: Account | None) -> bool:
        """Return whether an old server may be asked about this login."""
        if name is None or (account is not None and account.secret is not None):
            return False
        return self._asked(name) is not None

    async def settle(self, name: str, account: Account | None, password: bytes) -> Account | None:
        """
        Ask the old server; return the account as it is now: with a hash, if the login was right.

        Raises TemporaryFailure if the old server cannot answer, or if a new account would get
        the mail of an earlier one.
        """
        register = await self._register_for(name, account)
        if register is None:
            return account

        def begin() -> Deferred[Exception | None]:
            return Deferred.fromCoroutine(self._try(register, name, password))

        failure = await self._under_way.get((name, password), begin)
        if failure is not None:
            raise failure
        return await self._all.find(name)

    def _asked(self, name: str) -> IFirstLogins | None:
        old = (cast(IFirstLogins, one) for one in self._old)
        return next((one for one in old if one.asks_about(name)), None)

    async def _register_for(self, name: str, account: Account | None) -> IAccountRegister | None:
        """Return the register that has or gets the account; None if no register can have it."""
        if account is not None:
            return await self._all.register_of(name)
        found = await later(self._all.look_up(name))
        if found.entry is not None or found.domain is None or found.domain.same_as:
            return None  # an alias, or a domain that has no accounts of its own
        for one in self._directories:
            if IAccountRegister.providedBy(one) and await one.serves(found.domain.name):
                return one
        return None

    async def _try(
        self, register: IAccountRegister, name: str, password: bytes
    ) -> Exception | None:
        try:
            await self._ask(register, name, password)
        except Exception as error:  # raised for each login that waits for this answer
            return error
        return None

    async def _ask(self, register: IAccountRegister, name: str, password: bytes) -> None:
        old = self._asked(name)
        if old is None or not await old.is_right(name, password):
            return
        secret = await self._hashing.run(passwords.hash_password, password)
        keys = str(await self._hashing.run(scram.derive, password))
        now = await register.find(name)
        if now is None:
            await self._check_maildrop(register, name)
            kept = await register.add(name, secret, keys)
        else:  # a password that was set meanwhile counts
            kept = now.secret is None and await register.set_secret(name, secret, keys)
        if kept:
            words = old.import_words(name)
            if words and self._begin_import is not None:
                self._begin_import(name, words, password)
            tell(log, log_events.FIRST_LOGIN, account=name, via=str(old))

    async def _check_maildrop(self, register: IAccountRegister, name: str) -> None:
        if self._count is not None:
            try:
                await check_maildrop_empty(register, self._count, name)
            except ChangeRefused as refusal:
                raise TemporaryFailure(f"the first login of {name} is refused: {refusal}") from None
