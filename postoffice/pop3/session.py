"""
The rules of a POP3 session (RFC 1939), without I/O: octets in, questions out.

There are three states and one table of commands.  Only STLS, CAPA before a login,
logins, message texts and QUIT ask questions; everything else is answered from the
Listing that was taken at login.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from postoffice.model.errors import LoginRefused, NotAllRemoved, PostOfficeError
from postoffice.pop3.arguments import (
    CommandFailed,
    apop_claim,
    in_utf8,
    no_argument,
    user_name,
)
from postoffice.pop3.languages import DEFAULT, LANGUAGES, chosen, translated
from postoffice.pop3.options import POP3Limits, POP3Options
from postoffice.pop3.questions import Announce, Answer, Enter, Entered, POP3Question, Update
from postoffice.pop3.replies import Replies
from postoffice.pop3.transaction import TransactionState
from postoffice.protocol.auth_exchange import LINE_MAXIMUM, AuthExchange, Fault
from postoffice.protocol.line_session import LineSession
from postoffice.protocol.questions import Secure
from postoffice.protocol.refusals import Refusals
from postoffice.protocol.sasl import PasswordClaim, Prove
from postoffice.protocol.wire import BareLineEnd, LineTooLong, is_request

#: Octets of a command line, CRLF included: 255 by RFC 2449 §4, and more for long passwords.
COMMAND_MAXIMUM = 1024

#: The verb and one space after it; people and old programs also send TABs and more spaces.
_WORD = re.compile(rb"[ \t]*([^ \t]*)(?:[ \t]|\Z)")

AUTHORIZATION = frozenset({"authorization"})
TRANSACTION = frozenset({"transaction"})
ANYWHERE = AUTHORIZATION | TRANSACTION


class POP3Session(LineSession[POP3Question, Answer]):
    """
    The session of one POP3 client, which answers with ``+OK`` and ``-ERR``.

    ``broken`` means: abort the connection, so that the client does not take an
    incomplete message for complete.  ``utf8``: the client takes messages in UTF-8 (RFC 6856).
    ``refusals`` keeps refused commands for the log.
    """

    def __init__(self, options: POP3Options, limits: POP3Limits | None = None) -> None:
        # old clients end a line with LF alone
        super().__init__(LINE_MAXIMUM if options.mechanisms else COMMAND_MAXIMUM, lf=True)
        self.refusals = Refusals(VERBS)
        self.replies = Replies(self._send, self.refusals, self.replied)
        self.transaction: TransactionState = TransactionState(
            self.ask, self._send, self.replies, self._break_off
        )
        self.options = options
        self.broken = self.utf8 = False
        self.state = "authorization"
        self._limits = limits or POP3Limits()
        self._errors = self._before_login = self._failed_logins = 0
        self._user: bytes | None = None
        self._exchange: AuthExchange | None = None
        stamp = f" {options.stamp}" if options.stamp else ""
        self.replies.say(f"+OK postoffice ready{stamp}".encode("ascii"))

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS has begun: forget everything that the client said before (RFC 2595 §4)."""
        self.options = replace(
            self.options, encrypted=True, passwords=True, starttls=False, bindings=bindings
        )
        self.upgrading = False
        self.replies.language = DEFAULT
        self._lines.take()
        self._user = None

    def dismiss(self, why: str | None, code: str = "") -> None:
        """End the session from our side, with ``-ERR`` or silently; no message is removed."""
        if not self.closed:
            if why is not None:
                self.replies.no(why, code)
            self._close()

    def _break_off(self) -> None:
        self.broken = True
        self._close()

    # -- command lines -------------------------------------------------------------

    def _step(self) -> bool:
        if self.upgrading:
            self._dismiss_if_injected()
            return False
        if self._lines.foreign:
            self.refusals.hear(b"")
            self.dismiss(
                "this is POP3, and nothing else; closing the connection"
            )  # ignore the rest of the input
            return False
        try:
            line = self._lines.next()
            if line is None:
                return False
            self.progress += 1
            if self.state == "authorization" and self._too_many_before_login():
                self.refusals.hear(b"")  # otherwise the log would show the previous command
                self.dismiss("too many commands without a login")
            else:
                self._obey(line)
        except CommandFailed as no:
            self._refuse(no.text, no.code)
        except LineTooLong:
            self.refusals.hear(b"")
            self._refuse("line too long")
        except BareLineEnd:
            self.refusals.hear(b"")
            self._refuse("a line may have a CR only at its end, before LF")
        return True

    def _too_many_before_login(self) -> bool:
        self._before_login += 1
        return self._before_login > self._limits.commands

    def _obey(self, line: bytes) -> None:
        """Execute a command, or go on with an AUTH exchange."""
        if self._exchange is not None:
            return self._exchange.respond(line)
        self.refusals.hear(line.lstrip(b" \t"))
        if len(line) > COMMAND_MAXIMUM - 2 and line[:5].upper() != b"AUTH ":
            raise CommandFailed("line too long")
        verb, _, argument = line.partition(b" ")
        command = COMMANDS.get(verb)
        if command is None and (word := _WORD.match(line)):
            argument = line[word.end() :]
            command = COMMANDS.get(word[1].upper())
        if command is None and is_request(line):
            return self.dismiss("this is POP3, and nothing else; closing the connection")
        if command is None:
            raise CommandFailed("unknown command")
        states, obey = command
        if self.state not in states:
            raise CommandFailed("not in this state")
        return obey(self)(argument)

    def _refuse(self, why: str, code: str = "") -> None:
        """Refuse a command; after too many refusals, close."""
        self._exchange = None
        self._errors += 1
        if self._errors > self._limits.errors:
            self.dismiss("too many errors")
        else:
            self.replies.no(why, code)

    # -- AUTHORIZATION (§4): STLS, and the ways to log in ----------------------------

    def _stls(self, argument: bytes) -> None:
        no_argument(argument)
        if not self.options.starttls:
            raise CommandFailed(
                "TLS has begun already" if self.options.encrypted else "there is no TLS here"
            )
        if self.utf8:
            raise CommandFailed("STLS comes before UTF8")  # RFC 6856 §2.1
        if not self._dismiss_if_injected():
            self.ask(Secure(), self._begin_tls, self.replies.fail)

    def _dismiss_if_injected(self) -> bool:
        """End the session if octets arrived in clear after STLS; return whether it is closed."""
        if self._input_behind_starttls():
            self.dismiss("no command may follow STLS before TLS has begun")
        return self.closed

    def _begin_tls(self, answer: None) -> None:
        self.replies.ok("begin TLS")
        self.upgrading = True

    def _utf8(self, argument: bytes) -> None:
        """Send messages unconverted, with UTF-8 in their header fields (RFC 6856 §2.1)."""
        no_argument(argument)
        self.utf8 = True
        self.replies.ok("UTF8 enabled")

    def _user_name(self, argument: bytes) -> None:
        self._check_passwords_allowed()
        self._user = user_name(argument)
        self.replies.say(b"+OK")  # also for unknown users (RFC 1939 §13)

    def _pass(self, argument: bytes) -> None:
        """The rest of the line is the password, spaces and all (RFC 1939 §7)."""
        self._check_passwords_allowed()
        if self._user is None:
            raise CommandFailed("USER first")
        self._prove(Prove(PasswordClaim(self._user, in_utf8(argument)), "USER"))
        self._user = None

    def _apop(self, argument: bytes) -> None:
        self._prove(Prove(apop_claim(argument, self.options.stamp), "APOP"))

    def _prove(self, question: Prove) -> None:
        self.ask(question, lambda _: self.login_proved(), self.refuse_login)

    def _auth(self, argument: bytes) -> None:
        """RFC 5034; without an argument, clients older than CAPA ask for the mechanisms."""
        mechanism, _, initial = argument.strip(b" \t").partition(b" ")
        self._check_encrypted()
        if not mechanism:
            return self.replies.say_all("+OK", *self.options.offered)
        name = mechanism.decode("latin-1").upper()
        if name not in self.options.offered:
            raise CommandFailed("mechanism not offered here; CAPA lists those that are")
        self._exchange = AuthExchange(name, self.options, self)
        return self._exchange.begin(initial.strip(b" \t") or None)

    def _check_passwords_allowed(self) -> None:
        self._check_encrypted()
        if not self.options.user:
            raise CommandFailed(
                "passwords are not accepted here; use AUTH"
                if self.options.offered
                else "passwords are not accepted here; use APOP",
                "SYS/PERM",
            )

    def _check_encrypted(self) -> None:
        if not self.options.passwords:
            raise CommandFailed(
                "logins are accepted on an encrypted or a local connection only; say STLS first"
                if self.options.starttls
                else "logins are accepted on an encrypted or a local connection only",
                "SYS/PERM",
            )

    def challenge(self, line: bytes) -> None:
        self.replies.say(b"+ " + line)

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
        self.replies.fail(failure)
        if isinstance(failure, LoginRefused):
            self._failed_logins += 1
            if self._failed_logins >= self._limits.logins:
                self._close()

    def _entered(self, entered: Entered) -> None:
        self._exchange = None
        self.options = entered.options
        self.state = "transaction"
        self.transaction.begin(entered.listing, utf8=self.utf8)

    # -- in both states --------------------------------------------------------------

    def _capa(self, argument: bytes) -> None:
        no_argument(argument)
        if self.state == "authorization" and not self.options.known:
            self.ask(Announce(), self._announce, self.replies.fail)
        else:
            self._announce(self.options)

    def _announce(self, options: POP3Options) -> None:
        self.options = options
        self.replies.ok("what postoffice can do")
        self.replies.say_all(*options.capabilities(inside=self.state == "transaction"))

    def _lang(self, argument: bytes) -> None:
        """RFC 6856 §3.2."""
        wanted = argument.strip().decode("latin-1")
        if not wanted:
            self.replies.ok("languages follow")
            return self.replies.say_all(*(f"{tag} {name}" for tag, name in LANGUAGES.items()))
        tag = chosen(wanted)
        if tag is None:
            raise CommandFailed("this language is not available; LANG lists those that are")
        self.replies.language = tag
        said = translated("replies are in English now", tag)
        return self.replies.say(f"+OK {tag} {said}".encode())

    def _quit(self, argument: bytes) -> None:
        no_argument(argument)
        if self.state == "authorization":
            self.replies.ok("goodbye")
            self._close()
        else:
            self.state = "update"
            listing = self.transaction.listing
            update = Update(listing.marked(), listing.collected())
            self.ask(update, self._updated, self._not_updated)

    def _updated(self, removed: int) -> None:
        """UPDATE (RFC 1939 §6): the reply says how many messages were really deleted."""
        self.replies.ok("{deleted} deleted, goodbye", deleted=removed)
        self._close()

    def _not_updated(self, failure: PostOfficeError) -> None:
        removed = failure.removed if isinstance(failure, NotAllRemoved) else 0
        self.replies.no("{deleted} deleted; not all could be removed", "SYS/TEMP", deleted=removed)
        self._close()


#: Every command, the states that allow it, and its method.
COMMANDS: dict[bytes, tuple[frozenset[str], Callable[[POP3Session], Callable[[bytes], None]]]] = {
    b"USER": (AUTHORIZATION, lambda session: session._user_name),
    b"PASS": (AUTHORIZATION, lambda session: session._pass),
    b"APOP": (AUTHORIZATION, lambda session: session._apop),
    b"AUTH": (AUTHORIZATION, lambda session: session._auth),
    b"STLS": (AUTHORIZATION, lambda session: session._stls),
    b"UTF8": (AUTHORIZATION, lambda session: session._utf8),
    b"STAT": (TRANSACTION, lambda session: session.transaction.stat),
    b"LIST": (TRANSACTION, lambda session: session.transaction.list),
    b"RETR": (TRANSACTION, lambda session: session.transaction.retr),
    b"DELE": (TRANSACTION, lambda session: session.transaction.dele),
    b"RSET": (TRANSACTION, lambda session: session.transaction.rset),
    b"TOP": (TRANSACTION, lambda session: session.transaction.top),
    b"UIDL": (TRANSACTION, lambda session: session.transaction.uidl),
    b"NOOP": (TRANSACTION, lambda session: session.transaction.noop),
    b"LANG": (ANYWHERE, lambda session: session._lang),
    b"CAPA": (ANYWHERE, lambda session: session._capa),
    b"QUIT": (ANYWHERE, lambda session: session._quit),
}
#: … and their names, for the log.
VERBS = frozenset(verb.decode() for verb in COMMANDS)
