"""The AUTHORIZATION state (RFC 1939 §4): STLS, and the ways to log in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from postoffice.model.errors import LoginRefused, PostOfficeError
from postoffice.pop3.languages import DEFAULT
from postoffice.pop3.line_session import (
    COMMAND_MAXIMUM,
    CommandFailed,
    POP3LineSession,
    no_argument,
)
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Enter, Entered
from postoffice.pop3.utf8 import check_utf8
from postoffice.protocol import auth_exchange, sasl
from postoffice.protocol.auth_exchange import AuthExchange
from postoffice.protocol.line_session import Secure
from postoffice.protocol.sasl import APOPClaim, PasswordClaim, Prove, SaltOf
from postoffice.protocol.scram import Salt

_DIGEST = re.compile(rb"[0-9a-fA-F]{32}")


class Authorization(POP3LineSession):
    """The part of a POP3 session that authenticates the client."""

    def __init__(self, options: SessionOptions, limits: POP3Limits) -> None:
        super().__init__(options, limits)
        self._failed_logins = 0
        self._user: bytes | None = None
        self._exchange: AuthExchange | None = None

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS has begun: forget everything that the client said before (RFC 2595 §4)."""
        self.options = replace(
            self.options, encrypted=True, passwords=True, starttls=False, bindings=bindings
        )
        self.upgrading = False
        self.language = DEFAULT
        self._lines.take()
        self._user = None

    def _step(self) -> bool:
        if not self.upgrading:
            return super()._step()
        self._dismiss_if_injected()
        return False

    def _obey(self, line: bytes) -> None:
        if self._exchange is not None:
            return self._advance_auth(partial(self._exchange.respond, line))
        self.refusals.hear(line.lstrip(b" \t"))
        if len(line) > COMMAND_MAXIMUM - 2 and line[:5].upper() != b"AUTH ":
            raise CommandFailed("line too long")
        return super()._obey(line)

    def _refuse(self, why: str, code: str = "") -> None:
        self._exchange = None
        super()._refuse(why, code)

    # -- commands ------------------------------------------------------------------

    def _stls(self, argument: bytes) -> None:
        no_argument(argument)
        if not self.options.starttls:
            raise CommandFailed(
                "TLS has begun already" if self.options.encrypted else "there is no TLS here"
            )
        if self.utf8:
            raise CommandFailed("STLS comes before UTF8")  # RFC 6856 §2.1
        if not self._dismiss_if_injected():
            self._ask(Secure())

    def _dismiss_if_injected(self) -> bool:
        """End the session if octets arrived in clear behind STLS; return whether it is closed."""
        if self._input_behind_starttls():
            self.dismiss("nothing may stand behind STLS before TLS has begun")
        return self.closed

    def _user_name(self, argument: bytes) -> None:
        self._check_passwords_allowed()
        argument = argument.strip(b" \t")
        if not argument:
            raise CommandFailed("USER needs a name")
        check_utf8(argument)
        self._user = argument
        self._say(b"+OK")  # also for unknown users (RFC 1939 §13)

    def _pass(self, argument: bytes) -> None:
        """The rest of the line is the password, spaces and all (RFC 1939 §7)."""
        self._check_passwords_allowed()
        if self._user is None:
            raise CommandFailed("USER first")
        check_utf8(argument)
        self._ask(Prove(PasswordClaim(self._user, argument), "USER"))
        self._user = None

    def _apop(self, argument: bytes) -> None:
        """A digest of the greeting's timestamp and a secret (RFC 1939 §7)."""
        if not self.options.stamp:
            raise CommandFailed("there is no APOP here: the greeting has no stamp")
        user, _, digest = argument.strip(b" \t").rpartition(b" ")
        user = user.rstrip(b" \t")
        if not user or not _DIGEST.fullmatch(digest):
            raise CommandFailed("APOP has a name and a digest")
        check_utf8(user)
        stamp = self.options.stamp.encode("ascii")
        self._ask(Prove(APOPClaim(user, stamp, digest.lower()), "APOP"))

    def _auth(self, argument: bytes) -> None:
        """RFC 5034."""
        mechanism, _, initial = argument.strip(b" \t").partition(b" ")
        if not self.options.passwords:
            raise self._encryption_needed()
        if not mechanism:
            return self._list_mechanisms()
        name = mechanism.decode("latin-1").upper()
        if name not in self.options.offered:
            raise CommandFailed("another mechanism, please: CAPA tells which there are")
        exchange = self._exchange = AuthExchange(name, self.options)
        return self._advance_auth(partial(exchange.begin, initial.strip(b" \t") or None))

    def _list_mechanisms(self) -> None:
        """AUTH without an argument: how clients older than CAPA ask for mechanisms."""
        lines = (b"+OK", *(name.encode("ascii") for name in self.options.offered), b".")
        self._say(b"\r\n".join(lines))

    def _check_passwords_allowed(self) -> None:
        if not self.options.passwords:
            raise self._encryption_needed()
        if not self.options.user:
            raise CommandFailed(
                "passwords are not taken here; use AUTH"
                if self.options.offered
                else "passwords are not taken here; use APOP",
                "SYS/PERM",
            )

    def _encryption_needed(self) -> CommandFailed:
        return CommandFailed(
            "logins are taken on an encrypted or a local link only; say STLS first"
            if self.options.starttls
            else "logins are taken on an encrypted or a local link only",
            "SYS/PERM",
        )

    # -- the AUTH exchange ---------------------------------------------------------

    def _advance_auth(self, step: Callable[[], auth_exchange.Step]) -> None:
        """Advance the AUTH exchange by one step."""
        try:
            told = step()
        except auth_exchange.Cancelled:
            self._refuse("the login is cancelled")
        except auth_exchange.NoBase64:
            self._refuse("that is no base64")
        except sasl.Malformed:
            self._refuse("that is no message of this mechanism")
        except sasl.Refused:
            self._refuse_login(LoginRefused())
        else:
            if isinstance(told, bytes):
                self._say(b"+ " + told)
            else:
                self._ask(Enter() if told is None else told)

    def _refuse_login(self, failure: PostOfficeError) -> None:
        """Refuse a login; wrong passwords are counted, temporary failures are not."""
        self._exchange = None
        self._fail(failure)
        if isinstance(failure, LoginRefused):
            self._failed_logins += 1
            if self._failed_logins >= self._limits.logins:
                self._close()

    # -- answers -------------------------------------------------------------------

    def _answered_secure(self, question: Secure, answer: PostOfficeError | None) -> None:
        if answer is None:
            self._ok("begin TLS")
            self.upgrading = True
        else:
            self._fail(answer)

    def _answered_salt(self, question: SaltOf, answer: Salt | PostOfficeError) -> None:
        assert self._exchange is not None
        if isinstance(answer, PostOfficeError):
            self._refuse_login(answer)
        else:
            self._advance_auth(partial(self._exchange.go_on, answer))

    def _answered_prove(self, question: Prove, answer: PostOfficeError | None) -> None:
        if self._exchange is None:
            if answer is None:
                self._ask(Enter())
            else:
                self._refuse_login(answer)
        elif answer is None:
            self._advance_auth(partial(self._exchange.go_on, None))
        elif isinstance(answer, LoginRefused):
            self._advance_auth(self._exchange.refuse)
        else:
            self._refuse_login(answer)

    def _answered_enter(self, question: Enter, answer: Entered | PostOfficeError) -> None:
        if isinstance(answer, PostOfficeError):
            return self._refuse_login(answer)
        self._exchange = None
        self.options = answer.options
        self.state = "transaction"
        return self._begin_transaction(answer.listing)
