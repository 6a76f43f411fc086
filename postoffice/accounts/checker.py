"""The login checker: asks all account directories, and then the other twisted.cred checkers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import LoginFailed, Unauthorized, UnauthorizedLogin
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts import app_passwords, passwords
from postoffice.accounts.account_changes import CountMail
from postoffice.accounts.credentials import Credentials, IBearerLogin, IScramLogin
from postoffice.accounts.directories import Directories
from postoffice.accounts.fake_salts import steady_salt
from postoffice.accounts.first_logins import BeginImport, FirstLogins
from postoffice.accounts.password_upgrade import PasswordUpgrade
from postoffice.accounts.password_verifier import PasswordVerifier
from postoffice.accounts.throttle import Throttle
from postoffice.interfaces import Executor, IAccountDirectory
from postoffice.model import log_events
from postoffice.model.address import Account, Address, NotAnAddress
from postoffice.model.app_password import AppPassword, allowed_from
from postoffice.model.errors import AccountDisabled
from postoffice.model.log_event import tell
from postoffice.protocol import scram
from postoffice.util.maybe_awaitable import at_once, later, waits
from postoffice.util.networks import network_of

log = Logger("postoffice")

#: Seconds for which a wrong password stays wrong where a directory verifies passwords itself:
#: somebody may set that password there.
WRONG_ELSEWHERE = 300


@implementer(ICredentialsChecker)
class Checker:
    """
    Checks credentials; returns an Account, or ANONYMOUS.

    There is one checker because a portal keeps one for each kind of credentials.
    ``hashing`` is the executor that verifies passwords; ``clock`` returns seconds.
    ``others`` are asked in order if no directory accepts the login, and the address that
    they return must belong to an account in a directory.  ``throttle`` limits failed
    logins; without it there is no limit.  ``now`` returns the time of day.  ``count`` and
    ``begin_import`` are for ``FirstLogins``.

    ``fake_salts`` is the key from which salts for unknown names are made; it should
    survive restarts.
    """

    log = Logger()
    credentialInterfaces = (
        IUsernamePassword,
        IUsernameHashedPassword,
        IScramLogin,
        IBearerLogin,
        IAnonymous,
    )

    def __init__(
        self,
        directories: Sequence[IAccountDirectory],
        hashing: Executor,
        *,
        clock: Callable[[], float],
        others: Sequence[ICredentialsChecker] = (),
        throttle: Throttle | None = None,
        now: Callable[[], float] = time.time,
        count: CountMail | None = None,
        begin_import: BeginImport | None = None,
    ) -> None:
        self._directory = Directories(directories)
        self._first_logins = FirstLogins(directories, hashing, count, begin_import)
        self._hashing = hashing
        self._verifier = PasswordVerifier(hashing, clock)
        self._others = tuple(others)
        self._throttle = throttle
        self._now = now
        self.fake_salts = secrets.token_bytes(32)
        self._password_upgrade = PasswordUpgrade(self._directory, hashing)
        self.stop = self._password_upgrade.stop

    async def requestAvatarId(  # type: ignore[override]
        self, credentials: Credentials | IAnonymous
    ) -> Account | tuple[()]:
        """
        Return the Account as it is now, with its device; ANONYMOUS for IAnonymous.

        Raises UnauthorizedLogin, which reveals neither by text nor by time whether the
        user or the password was wrong; AccountDisabled, only if both were right;
        TemporaryFailure if this is unknown.
        """
        if IAnonymous.providedBy(credentials):
            return ANONYMOUS
        name = normal(credentials.username)
        account = await self._find(name)
        judging: Awaitable[Account | None] = self._throttled(credentials, name, account)
        judged: Account | Awaitable[Account | None] | None = at_once(judging)
        waited = waits(judged)
        found: Account | None = await later(judged)
        if found is None:
            raise UnauthorizedLogin
        now = account
        if waited or account is None or found.address != account.address:
            now = await self._find(found.address)  # verifying takes a while
        if now is None:
            raise UnauthorizedLogin
        if not now.logs_in:
            raise AccountDisabled
        return found

    async def _throttled(
        self, credentials: Credentials, name: str | None, account: Account | None
    ) -> Account | None:
        """Check the credentials as soon as the throttle allows; skip known wrong passwords."""
        judge = partial(self._judge, credentials, name, account)
        if self._throttle is None:
            return await judge(False)
        who = _text(credentials.username) if name is None else name
        who = who if account is None else account.address
        network = _network(credentials)
        if IBearerLogin.providedBy(credentials) and not who:
            who = network  # only the token says whose it is; count by network
        digest = None
        if IUsernamePassword.providedBy(credentials):
            secret = "" if account is None else account.secret or self._period()
            if self._first_logins.may_be(name, account):
                secret = self._period()
            # An app password may be refused by service or address, so they are part of the digest.
            place = _from(credentials) if app_passwords.may_be_one(credentials) else (network,)
            words = (who, secret, *place, credentials.password)
            digest = self._throttle.digest(*map(_octets, words))
            if self._throttle.was_wrong(digest):
                return await self._ask_others(credentials)
        return await self._throttle.judged(who, network, digest, judge)

    def _period(self) -> str:
        """Return the current period; a password refused now may be right in the next one."""
        return f"{self._now() // WRONG_ELSEWHERE:.0f}"

    async def _judge(
        self, credentials: Credentials, name: str | None, account: Account | None, known: bool
    ) -> Account | None:
        """
        Return the account of the credentials; None if they are wrong.

        ``known``: the owner of this account has lately logged in from this network.
        """
        device = await self._device(credentials, account)
        if account is not None and device is not None:
            return _within_networks(credentials, replace(account, device=device.name))
        if IBearerLogin.providedBy(credentials):
            right = False  # only other checkers know tokens
        elif IScramLogin.providedBy(credentials):
            right = _scram_matches(credentials, account)
        elif IUsernamePassword.providedBy(credentials):
            if name is not None and self._first_logins.may_be(name, account):
                password = _octets(credentials.password)
                account = await self._first_logins.settle(name, account, password)
            right = await self._password_matches(credentials, name, account, known)
        else:
            right = _shared_matches(credentials, account)
        if right and account is not None:
            return _within_networks(credentials, account)
        return await self._ask_others(credentials)

    async def _device(
        self, credentials: Credentials, account: Account | None
    ) -> AppPassword | None:
        """
        Return the device whose app password this is, if the device may be used from here.

        Compared with the hash that follows, this takes no time: timing does not reveal which
        accounts have devices.
        """
        if account is None or not app_passwords.may_be_one(credentials):
            return None
        found = app_passwords.recognized(
            credentials, await self._directory.app_passwords(account.address)
        )
        if found is None:
            return None
        service, address = _from(credentials)
        why = found.objection(service, address, self._now())
        if why:
            where = {"service": service, "client": address or "local", "account": account.address}
            tell(log, log_events.DEVICE_REFUSED, **where, device=found.name, why=why)
            return None
        return found

    async def salt(self, user: bytes) -> scram.Salt:
        """
        Return the salt of this user's SCRAM keys (RFC 5802 §5.1).

        An unknown name gets a salt too, which changes as rarely as a password, so that
        the salt does not reveal whether the account exists.
        """
        fake = steady_salt(self.fake_salts, normal(user) or _text(user), self._now())
        account = await self._find(normal(user))
        if account is not None:
            salt = app_passwords.salt(account)
            if salt is None:
                salt = app_passwords.salt(
                    account, await self._directory.app_passwords(account.address)
                )
            if salt is not None:
                return salt
        return fake

    async def _password_matches(
        self, credentials: IUsernamePassword, name: str | None, account: Account | None, known: bool
    ) -> bool:
        secret = None if account is None else account.secret
        user = _octets(credentials.username if name is None else name)
        password = credentials.password
        if account is not None and secret is None:
            elsewhere = await self._directory.verify(account, _octets(password))
            if elsewhere:  # a wrong password goes on, and takes as long as for other accounts
                return True
        right = await self._verifier.matches(
            user, secret, password, network=_network(credentials), known=known
        )
        if not right:
            return False
        assert account is not None
        assert secret is not None
        if account.scram is None or passwords.is_outdated(secret):
            self._password_upgrade.add(account, password)
        return True

    async def _find(self, name: str | None) -> Account | None:
        return None if name is None else await self._directory.find(name)

    async def _ask_others(self, credentials: Credentials) -> Account | None:
        """Return the account that another checker accepts these credentials for, or None."""
        for other in self._others:
            if not any(kind.providedBy(credentials) for kind in other.credentialInterfaces):
                continue
            try:
                avatar = await maybeDeferred(other.requestAvatarId, credentials)
            except (LoginFailed, Unauthorized):
                continue
            account = await self._find(normal(avatar))
            if account is not None:
                may_be = await self._token_may_name(credentials, account)
                return _within_networks(credentials, account) if may_be else None
            why = "the checker vouches for somebody who has no account here"
            tell(log, log_events.VOUCHER_FAILED, user=_name(avatar), why=why)
        return None

    async def _token_may_name(self, credentials: Credentials, account: Account) -> bool:
        """Whether no name came with a token, or the name of the token's owner."""
        if not IBearerLogin.providedBy(credentials) or not credentials.username:
            return True
        named = await self._find(normal(credentials.username))
        return named is not None and named.address == account.address


#: Keys and a secret to compare with if the user is unknown, for equal timing.
_NOBODYS_KEYS = scram.Keys(b"", 0, bytes(32), bytes(32))
_NOBODYS_SECRET = secrets.token_bytes(32)


def _within_networks(credentials: Credentials, account: Account) -> Account | None:
    """Return the account, if it may log in from the client's address; else None."""
    service, address = _from(credentials)
    if not account.networks or allowed_from(address, account.networks):
        return account
    where = {"service": service, "client": address or "local", "account": account.address}
    why = f"it is for {', '.join(account.networks)} only"
    tell(log, log_events.NETWORK_REFUSED, **where, why=why)
    return None


def _scram_matches(credentials: IScramLogin, account: Account | None) -> bool:
    keys = None if account is None else scram.Keys.read(account.scram)
    return bool(credentials.verify(keys or _NOBODYS_KEYS)) and keys is not None


def _shared_matches(credentials: IUsernameHashedPassword, account: Account | None) -> bool:
    secret = None if account is None else account.shared
    shared = _NOBODYS_SECRET if not secret else secret.encode("utf-8", "surrogateescape")
    return bool(credentials.checkPassword(shared)) and bool(secret)  # type: ignore[no-untyped-call]


def _name(avatar: object) -> str | bytes:
    """Return the name that a checker returned, for the log; "" if it is no text."""
    return avatar if isinstance(avatar, str | bytes) else ""


def _octets(said: bytes | str) -> bytes:
    """Encode a str; Twisted's own credentials may have one."""
    return said.encode("utf-8", "surrogatepass") if isinstance(said, str) else said


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _from(credentials: Credentials) -> tuple[str, str]:
    """Return the service and the address of the login, "" if unknown."""
    client = getattr(credentials, "client", None)
    return getattr(credentials, "protocol", ""), "" if client is None else client.address


def _network(credentials: Credentials) -> str:
    """Return the network of the login; "" for this machine or if unknown."""
    client = getattr(credentials, "client", None)
    return "" if client is None or client.local else network_of(client.address)


def normal(user: object) -> str | None:
    """
    Return the normal form of a user name or of a checker's answer; None if it is no address.

    On the wire and in Twisted's own checkers it is octets (UTF-8); other checkers may
    return a str or an Account.
    """
    if isinstance(user, Account):
        return user.address
    try:
        text = user.decode("utf-8") if isinstance(user, bytes) else user
        return Address.parse(text).normal if isinstance(text, str) else None
    except (UnicodeDecodeError, NotAnAddress):
        return None
