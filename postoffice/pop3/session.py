"""
The rules of one POP3 dialogue (RFC 1939), pure: octets in, questions out; answers in, octets out.

Three states, one table.  Only a login, a message's text and QUIT are
questions; all else is answered from the Listing that was taken at login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple

from postoffice import __version__
from postoffice.errors import (
    LoginRefused,
    MaildropLocked,
    PermanentFailure,
    PostOfficeError,
)
from postoffice.listing import Entry, Listing
from postoffice.wire import (
    MOUTHFUL,
    BareLineEnd,
    Breath,
    DotWriter,
    LineReader,
    LineTooLong,
    TopReader,
)

#: Octets of a command line, CRLF included: 255 by RFC 2449 §4, and room for long passwords.
COMMAND_MAXIMUM = 1024
#: Wrong commands, and wrong passwords, before we hang up.
ERRORS_MAXIMUM = 20
LOGINS_MAXIMUM = 5
#: Lines of LIST or UIDL that are made at once.
SLICE = 1000

AUTHORIZATION = frozenset({"authorization"})
TRANSACTION = frozenset({"transaction"})
ANYWHERE = AUTHORIZATION | TRANSACTION


@dataclass(frozen=True)
class Login:
    """Who is it?  The Listing of the maildrop, which is locked now, or what is in the way."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login({self.user!r}, …)"  # the password stays out of logs


class Fetch(NamedTuple):
    """A message's text: its first octets, or what is in the way."""

    entry: Entry


@dataclass(frozen=True)
class More:
    """Its next octets, or what is in the way."""


@dataclass(frozen=True)
class Enough:
    """No more of it; not asked where the first octets were all.  None."""


@dataclass(frozen=True)
class Update:
    """
    QUIT: remove these, and give the lock back.  None, or what went wrong.

    ``collected`` are those that were sent whole, by RETR, and stay.
    """

    entries: tuple[Entry, ...]
    collected: tuple[Entry, ...] = ()


Question = Login | Fetch | More | Enough | Update | Breath
Answer = Listing | bytes | PostOfficeError | None


class No(Exception):
    """What goes wrong with a command; one place says ``-ERR``."""


class _Sending:
    """A text on its way to the client."""

    __slots__ = ("dots", "left", "number", "top", "whole")

    def __init__(self, number: int, entry: Entry, top: TopReader | None = None) -> None:
        self.number = number
        self.left = entry.size  # octets of it that have not come yet
        self.dots = DotWriter()
        self.top = top
        self.whole = False  # whether all came at once


class POP3Session:
    """
    One dialogue with a client that collects; used as SMTPSession is.

    ``broken`` means: hang up at once, what is unsent must not look whole.
    """

    def __init__(self, *, plaintext: bool = True) -> None:
        self.closed = False
        self.broken = False
        self.retrieved = 0
        self.progress = 0
        self.upgrading = False
        self.state = "authorization"
        self._plaintext = plaintext
        self._lines = LineReader(COMMAND_MAXIMUM)
        self._output: list[bytes] = []
        self._unsent = 0
        self._errors = 0
        self._logins = 0
        self._user: bytes | None = None
        self._listing = Listing(())
        self._sending: _Sending | None = None
        self._listed: Iterator[bytes] | None = None
        self._asked: Question | None = None
        self._next: Question | None = None
        self._say(b"+OK postoffice ready")

    # -- the outside -----------------------------------------------------------

    @property
    def unread(self) -> int:
        """Octets that have arrived and were not looked at yet."""
        return self._lines.unread

    @property
    def unsent(self) -> int:
        """Octets that ``take_output`` would give."""
        return self._unsent

    def receive(self, data: bytes) -> None:
        """Octets have arrived; what comes after the end is not looked at."""
        if not self.closed:
            self._lines.receive(data)

    def next_question(self) -> Question | None:
        """The next question, or None: nothing to ask until more arrives."""
        assert self._asked is None, "a question is still open"
        while self._next is None and not self.closed and self._step():
            if self._unsent > MOUTHFUL and self._next is None:
                self._next = Breath()
        self._asked, self._next = self._next, None
        return self._asked

    def answer(self, answer: Answer) -> None:
        """Answer the question that was asked last."""
        question, self._asked = self._asked, None
        assert question is not None, "no question is open"
        self._ANSWERED[type(question)](self, question, answer)

    def take_output(self) -> bytes:
        """What is to be sent."""
        output = b"".join(self._output)
        self._output.clear()
        self._unsent = 0
        return output

    def dismiss(self, why: bytes | None) -> None:
        """End the dialogue from our side: say why, if anything, and close; nothing is removed."""
        if not self.closed:
            if why is not None:
                self._say(b"-ERR " + why)
            self._close()

    # -- reading ---------------------------------------------------------------

    def _step(self) -> bool:
        """Look at a little more; False if there is no more."""
        if self._listed is not None:
            return self._list_on(self._listed)
        try:
            line = self._lines.next()
            if line is None:
                return False
            self.progress += 1
            self._obey(line)
        except No as no:
            self._refuse(str(no))
        except LineTooLong:
            self._refuse("line too long")
        except BareLineEnd:
            self._refuse("a line ends with CR LF, both, and has neither inside")
        return True

    def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        command = self.COMMANDS.get(verb.upper())
        if command is None:
            raise No("unknown command")
        states, obey = command
        if self.state not in states:
            raise No("not in this state")
        obey(self, argument)

    def _say(self, line: bytes) -> None:
        self._send(line + b"\r\n")

    def _send(self, octets: bytes) -> None:
        self._output.append(octets)
        self._unsent += len(octets)

    def _refuse(self, why: str) -> None:
        """Say no; to one too many, goodbye."""
        self._errors += 1
        if self._errors > ERRORS_MAXIMUM:
            self.dismiss(b"too many errors")
        else:
            self._say(b"-ERR " + why.encode("ascii", "replace"))

    def _close(self) -> None:
        self.closed = True
        self._listed = None
        self._lines.take()

    # -- commands: AUTHORIZATION -----------------------------------------------

    def _user_name(self, argument: bytes) -> None:
        self._may_log_in()
        if not argument:
            raise No("USER needs a name")
        self._user = argument
        self._say(b"+OK")  # whoever it is (RFC 1939 §13)

    def _pass(self, argument: bytes) -> None:
        """The rest of the line is the password, spaces and all (RFC 1939 §7)."""
        self._may_log_in()
        if self._user is None:
            raise No("USER first")
        self._next = Login(self._user, argument)
        self._user = None

    def _may_log_in(self) -> None:
        if not self._plaintext:
            raise No("[SYS/PERM] passwords are taken on an encrypted or a local link only")

    # -- commands: TRANSACTION -------------------------------------------------

    def _stat(self, argument: bytes) -> None:
        _nothing(argument)
        self._say(b"+OK %d %d" % (len(self._listing), self._listing.octets))

    def _list(self, argument: bytes) -> None:
        if argument:
            number, entry = self._message(argument)
            self._say(b"+OK %d %d" % (number, entry.size))
        else:
            count, octets = len(self._listing), self._listing.octets
            self._say(b"+OK %d messages (%d octets)" % (count, octets))
            self._listed = (b"%d %d\r\n" % (n, entry.size) for n, entry in self._listing.numbered())

    def _uidl(self, argument: bytes) -> None:
        if argument:
            number, entry = self._message(argument)
            self._say(b"+OK %d %s" % (number, entry.uidl.encode("ascii")))
        else:
            self._say(b"+OK")
            self._listed = (
                b"%d %s\r\n" % (n, entry.uidl.encode("ascii"))
                for n, entry in self._listing.numbered()
            )

    def _retr(self, argument: bytes) -> None:
        number, entry = self._message(argument)
        self._sending = _Sending(number, entry)
        self._next = Fetch(entry)

    def _top(self, argument: bytes) -> None:
        message, _, lines = argument.partition(b" ")
        number, entry = self._message(message)
        self._sending = _Sending(number, entry, TopReader(_whole(lines)))
        self._next = Fetch(entry)

    def _dele(self, argument: bytes) -> None:
        """Mark a message; it is removed at QUIT and only then (RFC 1939 §5)."""
        number, _ = self._message(argument)
        self._listing.delete(number)
        self._say(b"+OK message %d deleted" % number)

    def _rset(self, argument: bytes) -> None:
        _nothing(argument)
        self._listing.reset()
        self._say(b"+OK %d messages (%d octets)" % (len(self._listing), self._listing.octets))

    # -- commands: ANYWHERE ----------------------------------------------------

    def _noop(self, argument: bytes) -> None:
        _nothing(argument)
        self._say(b"+OK")

    def _capa(self, argument: bytes) -> None:
        """The same before and after login, but for what only policy changes (RFC 2449 §5)."""
        _nothing(argument)
        capabilities = [b"+OK what postoffice can do", b"TOP", b"UIDL"]
        if self._plaintext:
            capabilities.append(b"USER")
        capabilities += [b"PIPELINING", b"RESP-CODES", b"AUTH-RESP-CODE", b"EXPIRE NEVER"]
        capabilities.append(b"IMPLEMENTATION postoffice-%s" % __version__.encode())
        self._say(b"\r\n".join([*capabilities, b"."]))

    def _quit(self, argument: bytes) -> None:
        _nothing(argument)
        if self.state == "authorization":
            self._say(b"+OK goodbye")
            self._close()
        else:
            self.state = "update"
            self._next = Update(tuple(self._listing.marked()), tuple(self._listing.collected()))

    def _message(self, argument: bytes) -> tuple[int, Entry]:
        number = _whole(argument)
        entry = self._listing.get(number)
        if entry is None:
            raise No("no such message")
        return number, entry

    # -- long replies ----------------------------------------------------------

    def _list_on(self, listed: Iterator[bytes]) -> bool:
        """The next slice of LIST or UIDL."""
        lines = list(islice(listed, SLICE))
        self._send(b"".join(lines))
        if len(lines) < SLICE:
            self._listed = None
            self._say(b".")
        return True

    def _send_on(self, data: bytes) -> None:
        """Send the next octets of a text: exactly as many as LIST promised, or the link breaks."""
        sending = self._sending
        assert sending is not None
        sending.left -= len(data)
        if sending.left < 0 or (sending.left and not data):
            return self._break_off()
        if sending.top is not None:
            data = sending.top.feed(data)
        self._send(sending.dots.write(data))
        if sending.left and not (sending.top and sending.top.done):
            self._next = More()
        else:
            self._end_sending(sending)
        return None

    def _end_sending(self, sending: _Sending) -> None:
        self._send(sending.dots.end())
        self._sending = None
        if not sending.whole:
            self._next = Enough()
        if sending.top is None:
            self.retrieved += 1
            self._listing.collect(sending.number)

    def _break_off(self) -> None:
        """The rest cannot be had: the client must not take what it has for the whole."""
        self.broken = True
        self._sending = None
        self._close()

    # -- answers ---------------------------------------------------------------

    def _answered_login(self, question: Login, answer: Listing | PostOfficeError) -> None:
        if isinstance(answer, Listing):
            self._listing = answer
            self.state = "transaction"
            self._say(b"+OK %d messages (%d octets)" % (len(answer), answer.octets))
            return
        self._say(b"-ERR " + _why(answer))
        if isinstance(answer, LoginRefused):
            self._logins += 1
            if self._logins >= LOGINS_MAXIMUM:
                self._close()

    def _answered_fetch(self, question: Fetch, answer: bytes | PostOfficeError) -> None:
        sending = self._sending
        assert sending is not None
        if isinstance(answer, PostOfficeError):
            self._sending = None
            self._say(b"-ERR " + _why(answer))
            return
        self._say(b"+OK" if sending.top else b"+OK %d octets" % question.entry.size)
        sending.whole = len(answer) == question.entry.size
        self._send_on(answer)

    def _answered_more(self, question: More, answer: bytes | PostOfficeError) -> None:
        if isinstance(answer, PostOfficeError):
            self._break_off()
        else:
            self._send_on(answer)

    def _answered_update(self, question: Update, answer: PostOfficeError | None) -> None:
        if answer is None:
            self._say(b"+OK %d deleted, goodbye" % len(question.entries))
        else:
            self._say(b"-ERR [SYS/TEMP] some deleted messages were not removed")
        self._close()

    def _answered_nothing(self, question: Question, answer: None) -> None:
        pass

    _ANSWERED: ClassVar[dict[type, Callable[..., None]]] = {
        Login: _answered_login,
        Fetch: _answered_fetch,
        More: _answered_more,
        Enough: _answered_nothing,
        Update: _answered_update,
        Breath: _answered_nothing,
    }

    #: Every command, where it may be given, and who answers it.
    COMMANDS: ClassVar[dict[bytes, tuple[frozenset[str], Callable[[POP3Session, bytes], None]]]] = {
        b"USER": (AUTHORIZATION, _user_name),
        b"PASS": (AUTHORIZATION, _pass),
        b"STAT": (TRANSACTION, _stat),
        b"LIST": (TRANSACTION, _list),
        b"RETR": (TRANSACTION, _retr),
        b"DELE": (TRANSACTION, _dele),
        b"RSET": (TRANSACTION, _rset),
        b"TOP": (TRANSACTION, _top),
        b"UIDL": (TRANSACTION, _uidl),
        b"NOOP": (TRANSACTION, _noop),
        b"CAPA": (ANYWHERE, _capa),
        b"QUIT": (ANYWHERE, _quit),
    }


def commands_of(states: frozenset[str]) -> list[bytes]:
    """The commands that may be given in exactly these states."""
    return [verb for verb, (where, _) in POP3Session.COMMANDS.items() if where == states]


def _nothing(argument: bytes) -> None:
    if argument.strip():
        raise No("this command takes no argument")


def _whole(argument: bytes) -> int:
    argument = argument.strip()
    if not argument.isdigit() or len(argument) > 10:
        raise No("a number is needed")
    return int(argument)


def _why(failure: PostOfficeError) -> bytes:
    """A failure with its response code (RFC 2449 §8, RFC 3206)."""
    if isinstance(failure, MaildropLocked):
        return b"[IN-USE] another session holds this maildrop"
    if isinstance(failure, LoginRefused):
        return b"[AUTH] wrong name or password"
    code = b"[SYS/PERM] " if isinstance(failure, PermanentFailure) else b"[SYS/TEMP] "
    return code + failure.reply.text.encode("ascii", "replace")
