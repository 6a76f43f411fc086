"""
The sessions of browsers: in memory only, so that a restart logs everybody out.

A browser has a random token in its cookie; only the token's hash is kept here.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b, sha256

from postoffice.accounts import passwords
from postoffice.model.address import Account

#: Seconds after which a session ends: without a request, and in any case.
IDLE, ABSOLUTE = 30 * 60.0, 12 * 3600.0
#: Seconds for which a password that was given counts for dangerous actions.
CONFIRMED = 10 * 60.0
#: Seconds between the password and the second factor, at most.
PENDING = 5 * 60.0
#: Seconds in which an outdated hash of a password may be replaced after a login.
REHASHED = 120.0
#: Sessions at most, and of one account; the one that was used least recently ends.
MOST, MOST_OF_ONE = 20_000, 20
#: Messages that wait for the next page at most.
MESSAGES = 5


@dataclass(eq=False)
class WebSession:
    """
    One browser that has logged in, or (``pending``) has given only the password.

    ``id`` is for the log, and no secret.  ``csrf`` is in each form of this session.
    ``administrator``: the account was one at the login (each request asks whether it still is).
    ``recovered``: the session began with a one-time link, so the old password is not needed.
    ``second_factor``: the code was given.  ``proposed_secret`` is the secret of a second factor
    that is being set up.  From ``confirmed_until`` on the password is asked for again.
    ``messages`` are shown on the next page: kind (``done`` or ``failed``) and text.
    """

    account: str
    bound_to: bytes
    created: float
    seen: float
    confirmed_until: float
    administrator: bool = False
    pending: bool = False
    recovered: bool = False
    second_factor: bool = False
    rehash_until: float = 0.0
    wrong_codes: int = 0
    proposed_secret: str = field(default="", repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(5))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    messages: list[tuple[str, str]] = field(default_factory=list)

    def has_token(self, token: str) -> bool:
        """Return whether this is the token of this session's forms."""
        return hmac.compare_digest(self.csrf.encode(), token.encode("utf-8", "replace"))

    def say(self, text: str, kind: str = "done") -> None:
        """Show a message on the next page."""
        self.messages = [*self.messages, (kind, text)][-MESSAGES:]

    def take_messages(self) -> list[tuple[str, str]]:
        """Return the messages that wait, which are then shown."""
        messages, self.messages = self.messages, []
        return messages


class WebSessions:
    """All sessions, by the hash of their tokens.  ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._sessions: dict[bytes, WebSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(
        self,
        account: Account,
        *,
        pending: bool = False,
        administrator: bool = False,
        recovered: bool = False,
    ) -> tuple[str, WebSession]:
        """Begin a session; return the token for the cookie, and the session."""
        now = self._clock()
        self._make_room(account.address)
        token = secrets.token_urlsafe(32)
        outdated = account.secret is not None and (
            account.scram is None or passwords.is_outdated(account.secret)
        )
        session = WebSession(
            account.address,
            self._bond(account),
            now,
            now,
            now + CONFIRMED,
            administrator=administrator,
            pending=pending,
            recovered=recovered,
            rehash_until=now + REHASHED if outdated else 0.0,
        )
        self._sessions[_hash(token)] = session
        return token, session

    def find(self, token: str) -> WebSession | None:
        """Return the session of a token, if it has not ended."""
        session = self._sessions.get(_hash(token)) if token else None
        if session is None:
            return None
        now = self._clock()
        over = now - session.created >= (PENDING if session.pending else ABSOLUTE)
        if over or now - session.seen >= IDLE:
            self.end(session)
            return None
        session.seen = now
        return session

    def still_holds(self, session: WebSession, account: Account | None) -> bool:
        """
        Return whether a session is still that of its account, as the account is now.

        A session ends when the account is removed or disabled, and when its password changes,
        except where the same password has only got a better hash just after the login.
        """
        if account is None or not account.logs_in:
            return False
        bond = self._bond(account)
        if hmac.compare_digest(bond, session.bound_to):
            return True
        if self._clock() < session.rehash_until:
            session.rehash_until = 0.0
            session.bound_to = bond
            return True
        return False

    def rebind(self, session: WebSession, account: Account) -> None:
        """Bind a session to the password that it has just set: all others of the account end."""
        session.bound_to = self._bond(account)
        session.rehash_until = 0.0

    def confirm(self, session: WebSession) -> None:
        """Note that the password was given again."""
        session.confirmed_until = self._clock() + CONFIRMED

    def is_confirmed(self, session: WebSession) -> bool:
        """Return whether the password was given lately."""
        return self._clock() < session.confirmed_until

    def end(self, session: WebSession) -> None:
        """End one session."""
        for digest in [key for key, one in self._sessions.items() if one is session]:
            del self._sessions[digest]

    def end_all(self, account: str, but: WebSession | None = None) -> int:
        """End the sessions of an account, but for one; return how many."""
        gone = [
            key for key, one in self._sessions.items() if one.account == account and one is not but
        ]
        for digest in gone:
            del self._sessions[digest]
        return len(gone)

    def of(self, account: str) -> list[WebSession]:
        """Return the sessions of an account."""
        return [one for one in self._sessions.values() if one.account == account]

    def _make_room(self, account: str) -> None:
        now = self._clock()
        mine = [key for key, one in self._sessions.items() if one.account == account]
        if len(mine) >= MOST_OF_ONE:
            del self._sessions[min(mine, key=lambda key: self._sessions[key].seen)]
        if len(self._sessions) >= MOST:
            self._sessions = {
                key: one for key, one in self._sessions.items() if now - one.seen < IDLE
            }
        if len(self._sessions) >= MOST:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen)]

    def _bond(self, account: Account) -> bytes:
        """Return a value that changes with the account's password, and reveals nothing of it."""
        text = "" if account.secret is None else account.secret
        return blake2b(text.encode("utf-8", "surrogateescape"), key=self._key).digest()


def _hash(token: str) -> bytes:
    return sha256(b"a session: " + token.encode("utf-8", "replace")).digest()
