"""The AUTHORIZATION state (RFC 1939 §4): STLS, and the ways to log in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from postoffice.model.errors import LoginRefused, PostOfficeError
from postoffice.pop3.languages import DEFAULT
from postoffice.pop3.line_session import (
    COMMAND_MAXIMUM,
    CommandFailed,
    POP3LineSession,
    check_utf8,
    no_argument,
)
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Enter, Entered
from postoffice.protocol.auth_exchange import AuthExchange, Fault
from postoffice.protocol.questions import Secure
from postoffice.protocol.sasl import APOPClaim, PasswordClaim, Prove

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
            return self._exchange.respond(line)
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
            self.ask(Secure(), self._begin_tls, self._fail)

    def _dismiss_if_injected(self) -> bool:
        """End the session if octets arrived in clear after STLS; return whether it is closed."""
        if self._input_behind_starttls():
            self.dismiss("no command may follow STLS before TLS has begun")
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
        self._prove(Prove(PasswordClaim(self._user, argument), "USER"))
        self._user = None

    def _apop(self, argument: bytes) -> None:
        """A digest of the greeting's timestamp and a secret (RFC 1939 §7)."""
        if not self.options.stamp:
            raise CommandFailed("there is no APOP here: the greeting has no timestamp")
        user, _, digest = argument.strip(b" \t").rpartition(b" ")
        user = user.rstrip(b" \t")
        if not user or not _DIGEST.fullmatch(digest):
            raise CommandFailed("APOP has a name and a digest")
        check_utf8(user)
        stamp = self.options.stamp.encode("ascii")
        self._prove(Prove(APOPClaim(user, stamp, digest.lower()), "APOP"))

    def _prove(self, question: Prove) -> None:
        self.ask(question, lambda _: self.login_proved(), self.refuse_login)

    def _auth(self, argument: bytes) -> None:
        """RFC 5034."""
        mechanism, _, initial = argument.strip(b" \t").partition(b" ")
        if not self.options.passwords:
            raise self._encryption_needed()
        if not mechanism:
            return self._list_mechanisms()
        name = mechanism.decode("latin-1").upper()
        if name not in self.options.offered:
            raise CommandFailed("mechanism not offered here; CAPA lists those that are")
        self._exchange = AuthExchange(name, self.options, self)
        return self._exchange.begin(initial.strip(b" \t") or None)

    def _list_mechanisms(self) -> None:
        """AUTH without an argument: how clients older than CAPA ask for mechanisms."""
        lines = (b"+OK", *(name.encode("ascii") for name in self.options.offered), b".")
        self._say(b"\r\n".join(lines))

    def _check_passwords_allowed(self) -> None:
        if not self.options.passwords:
            raise self._encryption_needed()
        if not self.options.user:
            raise CommandFailed(
                "passwords are not accepted here; use AUTH"
                if self.options.offered
                else "passwords are not accepted here; use APOP",
                "SYS/PERM",
            )

    def _encryption_needed(self) -> CommandFailed:
        return CommandFailed(
            "logins are accepted on an encrypted or a local connection only; say STLS first"
            if self.options.starttls
            else "logins are accepted on an encrypted or a local connection only",
            "SYS/PERM",
        )

    # -- the AUTH exchange ---------------------------------------------------------

    def challenge(self, line: bytes) -> None:
        self._say(b"+ " + line)

    def end_exchange(self, fault: Fault) -> None:
        match fault:
            case Fault.CANCELLED:
                self._refuse("the login is cancelled")
            case Fault.NOT_BASE64:
                self._refuse("that is not base64")
            case Fault.MALFORMED:
                self._refuse("invalid message for this mechanism")

    def login_proved(self) -> None:
        self.ask(Enter(), self._entered, self.refuse_login)

    def refuse_login(self, failure: PostOfficeError) -> None:
        """Refuse a login; wrong passwords are counted, temporary failures are not."""
        self._exchange = None
        self._fail(failure)
        if isinstance(failure, LoginRefused):
            self._failed_logins += 1
            if self._failed_logins >= self._limits.logins:
                self._close()

    # -- answers -------------------------------------------------------------------

    def _begin_tls(self, answer: None) -> None:
        self._ok("begin TLS")
        self.upgrading = True

    def _entered(self, entered: Entered) -> None:
        self._exchange = None
        self.options = entered.options
        self.state = "transaction"
        self._begin_transaction(entered.listing)
