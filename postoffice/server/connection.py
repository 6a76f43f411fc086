"""One client on a transport, with its session: octets, the idle timer, one question at a time."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from copy import copy
from dataclasses import replace
from fcntl import ioctl
from inspect import isawaitable
from itertools import count
from termios import TIOCOUTQ
from types import coroutine
from typing import Any, ClassVar, Protocol

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.model import log_events
from postoffice.model.envelope import Client
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.model.log_events import tell, tell_failure
from postoffice.protocol.proxy import NotProxied, ProxyReader
from postoffice.protocol.wire import OUTPUT_QUANTUM, Yield
from postoffice.server import tls
from postoffice.server.factory import ServerFactory
from postoffice.server.fair_share import ClientShare
from postoffice.util.networks import client_address, within

log = Logger("postoffice")

#: Seconds that a client which comes while the office starts waits for its greeting.
EARLY = 20.0
#: Octets that may wait unread before we stop reading.
READ_AHEAD = 64 << 10
#: Seconds that a client has to close its side when we have closed ours.
LINGER = 5.0
#: The same over TLS, where the last octets may have to be sent yet.
LINGER_TLS = 30.0
#: A silent client is asked after so many seconds whether it is still there, again after so many,
#: and is gone when it has not answered so often.
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
#: Octets that it may send meanwhile, which nobody looks at.
DREGS_MAXIMUM = 1 << 20


class Session(Protocol):
    """What a conversation asks of the rules."""

    closed: bool
    upgrading: bool
    progress: int

    @property
    def unread(self) -> int: ...
    @property
    def unsent(self) -> int: ...
    def receive(self, data: bytes) -> None: ...
    def next_question(self) -> Any: ...
    def answer(self, answer: Any) -> None: ...
    def take_output(self) -> bytes: ...


class _AtOnce:
    """Stands for talking that has not had to wait: nobody can come in between to cancel it."""

    def cancel(self) -> None:
        """It is over before anybody else has a turn."""


AT_ONCE = _AtOnce()


@coroutine
def _go_on(begun: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that was begun by hand, and waits for this now."""
    try:
        while True:
            try:
                result = yield waits_for
            except BaseException as error:
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(result)
    except StopIteration:
        return


#: Clients are numbered on from the time of the start: an id in the log is seen once.
_numbers = count(time.time_ns() >> 20)


def _sent_at_once(transport: Any, output: bytes) -> int:
    """
    Send without a turn of the reactor what the socket takes now; how many octets that was.

    Twisted would ask the poller first, for every reply.  This is for plain TCP
    where nothing waits to be sent already; a transport that is not made so
    (TLS, a test's) sends in its own way.
    """
    try:
        if transport._tempDataBuffer or transport.offset != len(transport.dataBuffer):
            return 0
        if not transport.connected or transport.disconnecting:
            return 0
        sent = transport.writeSomeData(output)
    except AttributeError:
        return 0
    return sent if isinstance(sent, int) else 0  # else an exception: write() finds out as well


def keep_alive(transport: Any) -> None:
    """Find out in two minutes, and not in two hours, that a silent client is there no more."""
    transport.setTcpKeepAlive(True)
    found = getattr(transport, "socket", None)
    if isinstance(found, socket.socket):
        for option, value in KEEP_ALIVE.items():
            if hasattr(socket, option):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def not_taken(transport: Any) -> int:
    """How many octets the system holds that the client has not acknowledged, where it says so."""
    try:
        return int.from_bytes(ioctl(transport.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
    except (AttributeError, OSError):
        return 0


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class Connection(TwistedProtocol):
    """
    A client, and the session that holds the rules.

    Before it is met, a balancer may say who it is (PROXY), and TLS may begin.
    A protocol says which session (``_open``), how its questions are answered
    (``_ask``), what to do when the client has gone (``_gone``), and what the
    client hears when we end it (``_farewell``).
    """

    session: Any = None  # a Session, once the client is met
    factory: ServerFactory
    timeout: ClassVar[float] = 300

    def __init__(self, factory: ServerFactory) -> None:
        self.factory = factory
        self.client = Client()
        self.counted_as: str | None = None  # the address under which the doors count it
        self.id = f"{next(_numbers):x}"
        self._clock = factory.clock
        self._talking: Deferred[None] | _AtOnce | None = None
        self._clogged: Deferred[None] | None = None  # the client does not take what we say
        self._paused = False  # we do not take what it says
        self._finished = False  # the client will say no more
        self._leaving = False  # we shall end it as soon as it is at rest
        self._hung_up = False  # we have said all
        self._lost = False  # there is no link any more
        self._dregs = 0  # octets that came all the same
        self._heard_at = self._clock.seconds()
        self._progress = 0  # of the session, when we last looked
        self._not_taken = 0  # octets, when we last looked
        self._proxy: ProxyReader | None = None  # the balancer has not said yet who it is
        self._held: bytes | None = None  # while it waits for the office: what it has said already
        self._why = ""  # the session does not begin
        self._told = False  # that is in the log
        self._handshaking = False
        self._tls = ""  # version and cipher
        self._bindings: Mapping[str, bytes] = {}  # channel bindings of TLS
        self._since = time.time()  # of the day, for people
        self._timer: Any = None

    # -- what a protocol is asked ------------------------------------------------

    def _open(self) -> Session:
        """The session of this client, now that it is known who it is."""
        raise AssertionError("a protocol has a session")

    def _ask(self, question: Any) -> Any:
        """The answer, or a coroutine where it must wait; raises PostOfficeError."""
        raise AssertionError("a protocol answers its session's questions")

    def _gone(self) -> None:
        """The client has gone: let go of what it held."""

    def _farewell(self, *, silent: bool) -> None:
        """Close the session: the client was silent for too long, or the office closes."""

    def _renewed(self) -> None:
        """TLS has begun in the middle: what was known of the client no longer holds."""

    def _at_rest(self) -> bool:
        """Whether nothing is under way that should be finished first."""
        return self._talking is None

    # -- what Twisted tells us -----------------------------------------------------

    def connectionMade(self) -> None:
        transport = self._transport
        peer = transport.getPeer()
        self.client = Client(client_address(peer), port=getattr(peer, "port", 0) or 0)
        if self.client.address:
            transport.setTcpNoDelay(True)
            keep_alive(transport)
        transport.registerProducer(self, True)
        self.factory.connections.add(self)
        if within(self.client.address, self.factory.listener_options.proxies):
            self._proxy = ProxyReader()
            self._set_timer(self.factory.listener_options.handshake, self._too_late)
        else:
            self._come_in(b"")

    def dataReceived(self, data: bytes) -> None:
        if self._hung_up:
            self._dregs += len(data)
            if self._dregs > DREGS_MAXIMUM:
                self.abort()
            return
        if self._proxy is not None:
            self._read_proxy(self._proxy, data)
            return
        self.session.receive(data)
        if self._talking is None:
            self._talk()
        elif self.session.unread > READ_AHEAD and not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The client has said all; what it asked for it may still read."""
        self._finished = True
        if self.session is None:
            self.abort()
        elif self._hung_up:
            self._transport.loseConnection()
        elif self._talking is None:
            self._hang_up()

    def writeConnectionLost(self) -> None:
        """All is sent, if it was we who closed; else nothing can be sent any more."""
        if self._hung_up:
            self._set_timer(LINGER, self.abort)
        else:
            self.abort()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lost = True
        self.factory.left(self)
        self._set_timer(0, None)
        if self._handshaking:
            self._tell_of_tls(reason)
        elif self.session is None:
            self._tell_of_no_session()
        if self._talking is not None:
            self._talking.cancel()
        if self.session is not None:
            self._gone()

    def pauseProducing(self) -> None:
        """The transport holds enough that the client has not taken."""
        if self._clogged is None:
            self._clogged = Deferred()

    def resumeProducing(self) -> None:
        self._heard_at = self._clock.seconds()
        clogged, self._clogged = self._clogged, None
        if clogged is not None:
            clogged.callback(None)

    def stopProducing(self) -> None:
        """The transport is closing; ``connectionLost`` follows."""

    # -- coming in -----------------------------------------------------------------

    def _read_proxy(self, proxy: ProxyReader, data: bytes) -> None:
        """The balancer says for whom it speaks, before anything else is said."""
        try:
            source = proxy.feed(data)
        except NotProxied as error:
            self._log(log_events.PROXY_REFUSED, why=str(error))
            self._told = True
            self.abort()
            return
        if source is None:
            return
        self._proxy = None
        if source.address is not None:
            self.client = Client(source.address, port=source.port)
        if self.factory.recount(self, self.client.address):
            self._come_in(proxy.rest)
        else:
            self.factory.refused(self.client.address)
            self._told = True
            self._turn_away(self.factory.full)

    def _turn_away(self, said: bytes) -> None:
        """There is no session: say so, but not in clear where TLS is expected."""
        self._hung_up = True
        self._transport.write(b"" if self.factory.listener_options.implicit else said)
        self._transport.loseConnection()

    def _too_late(self) -> None:
        """What comes before the greeting has taken too long."""
        self._why = self._why or "timed out"
        self.abort()

    def _tell_of_no_session(self) -> None:
        if self._told:
            return
        why = self._why or "the link was closed"
        if self._proxy is not None:
            octets = self._proxy.octets
            why += f" after {octets} octets of a PROXY header" if octets else ", no PROXY header"
        self._log(log_events.SESSION_FAILED, why=why)

    def _wait_for_the_office(self, rest: bytes) -> None:
        """It has come while the office starts: it is greeted when that is open."""
        self._held = rest
        self._paused = True
        self._transport.pauseProducing()
        self._set_timer(EARLY, self._starts_too_long)

    def _starts_too_long(self) -> None:
        self._held = None
        self._why = "the office is still starting"
        self._turn_away(self.factory.not_yet)
        self._set_timer(LINGER, self.abort)

    def greet(self) -> None:
        """The office is open; whoever waits for that is let in."""
        if self._held is not None:
            rest, self._held = self._held, None
            self._come_in(rest)
            self._clock.callLater(0, self._listen_again)

    def _come_in(self, rest: bytes) -> None:
        """It is known who it is; ``rest`` are octets that came already."""
        if self.factory.starting:
            self._wait_for_the_office(rest)
        elif self.factory.listener_options.implicit:
            self._begin_tls(rest)
        else:
            self._meet()
            if rest:
                self.dataReceived(rest)

    def _meet(self) -> None:
        self._set_timer(self.timeout, self._look_at_the_time)
        self._heard_at = self._clock.seconds()
        self.session = self._open()
        self._talk()

    # -- TLS -------------------------------------------------------------------------

    def _begin_tls(self, rest: bytes = b"") -> None:
        self._handshaking = True
        self._set_timer(self.factory.listener_options.handshake, self._too_late)
        self._transport.startTLS(self.factory.listener_options.certificates)
        if rest:
            self._transport.protocol.dataReceived(rest)

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        connection: SSL.Connection = self._transport.getHandle()
        self._handshaking = False
        self._tls = tls.describe(connection)
        self._bindings = tls.bindings(connection)
        self.client = replace(self.client, encrypted=True)
        if self.session is None:
            self._meet()
            return
        self._set_timer(self.timeout, self._look_at_the_time)
        self._heard_at = self._clock.seconds()
        self._renewed()
        self.session.secured(self._bindings)
        self._talk()

    def _tell_of_tls(self, reason: Failure | None) -> None:
        """Why the handshake did not come to its end."""
        why: object = self._why or "the link was closed"
        if reason is not None and isinstance(reason.value, SSL.Error):
            told = reason.value.args[0] if reason.value.args else ()
            words = [str(one[-1]) for one in told] if isinstance(told, list) else []
            why = "; ".join(words) or "broken off"
        self._log(log_events.TLS_FAILED, why=why)

    def _log(self, event: log_events.Event, /, **fields: object) -> None:
        """Log an event of this connection."""
        tell(log, event, **self._facts(fields))

    def _facts(self, fields: dict[str, object]) -> dict[str, object]:
        """What every event of this connection says, and these."""
        service, client = self.factory.listener_options.service, self.client.address or "local"
        return {"id": self.id, "service": service, "client": client, **fields}

    # -- talking -------------------------------------------------------------------

    @property
    def _transport(self) -> Any:
        return self.transport

    def _talk(self) -> None:
        """
        Answer all that has arrived.

        Most answers are there at once.  A Deferred, which costs as much as they
        do, is only made where one has to be waited for.
        """
        self._talking = AT_ONCE
        talking = self._converse()
        outcome = None
        try:
            waits_for = talking.send(None)
        except StopIteration:
            pass
        except Exception:
            outcome = Failure()  # type: ignore[no-untyped-call]
        else:
            waiting = self._talking = Deferred.fromCoroutine(_go_on(talking, waits_for))
            waiting.addBoth(self._fall_silent)
            return
        self._fall_silent(outcome)

    async def _converse(self) -> None:
        """Answer all that has arrived: one coroutine a burst, however many questions."""
        session, share = self.session, ClientShare(self.factory.reactor_shares)
        await self._taken(share)
        if self.factory.reactor_shares.used_up:
            await self._resume_turn(share, new=True)
        while (question := session.next_question()) is not None:
            try:
                if isinstance(question, Yield):
                    answer: Any = self._yield_turn(question, share)
                else:
                    answer = self._ask(question)
                if isawaitable(answer):
                    share.stop()
                    try:
                        answer = await answer
                    finally:
                        share.go_on()
            except Exception as error:
                if self._lost and isinstance(error, CancelledError):
                    raise
                answer = self._failure(error)
            if self._lost:  # and nobody waits for the answer
                return
            session.answer(answer)
            if session.unsent > OUTPUT_QUANTUM:
                self._flush()
            if self._clogged is not None:
                await self._taken(share)
            if share.had(1):
                await self._resume_turn(share)
        self._flush()  # the replies of a pipelined group, in one write
        share.stop()

    def _yield_turn(self, question: Yield, share: ClientShare) -> Awaitable[None] | None:
        """The session has answered much by itself: is it the others' turn?"""
        if question.steps and not share.had(question.steps):
            return None
        return self._resume_turn(share)

    async def _resume_turn(self, share: ClientShare, *, new: bool = False) -> None:
        """This client has had its share: the others' turn."""
        self._flush()
        await share.wait(new=new)

    async def _taken(self, share: ClientShare) -> None:
        """Wait until the client takes what we say."""
        if self._clogged is not None:
            share.stop()
            await self._clogged
            share.go_on()

    def _failure(self, error: Exception) -> PostOfficeError:
        """What the client hears: its reply, and where there is a reason, the id of that line."""
        if not isinstance(error, PostOfficeError):
            fault = Failure(error)  # type: ignore[no-untyped-call]
            tell_failure(log, log_events.FAULT, fault, **self._facts({}))
            error = TemporaryFailure()
        elif str(error):
            self._log(log_events.FAILED, why=str(error))
        else:
            return error
        told = copy(error)
        told.reply = replace(error.reply, text=f"{error.reply.text} ({self.id})")
        return told

    def _flush(self) -> None:
        output = self.session.take_output()
        if output:
            sent = 0 if self.client.encrypted else _sent_at_once(self._transport, output)
            if sent < len(output):
                self._transport.write(output[sent:])

    def _fall_silent(self, outcome: Failure | None) -> None:
        self._talking = None
        if self.session.progress != self._progress:
            self._progress = self.session.progress
            self._heard_at = self._clock.seconds()
        if isinstance(outcome, Failure):
            if not isinstance(outcome.value, CancelledError):
                why = "the session was ended"
                tell_failure(log, log_events.FAULT, outcome, **self._facts({"why": why}))
                self._transport.abortConnection()
            return
        if self._leaving and self._at_rest():
            self._farewell(silent=False)
        if self.session.closed or self._finished:
            self._hang_up()
            return
        if self.session.upgrading:
            self._begin_tls()
        if self._paused:
            # Not from here: a transport may deliver at once, and we are still inside the answer.
            self._clock.callLater(0, self._listen_again)

    def _listen_again(self) -> None:
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resumeProducing()

    # -- ending --------------------------------------------------------------------

    def leave(self) -> None:
        """The office closes: say goodbye as soon as what is under way is done."""
        self._leaving = True
        if self._held is not None:
            self._starts_too_long()
        elif self.session is None or self._handshaking:
            self.abort()
        elif self._at_rest():
            self._farewell(silent=False)
            self._hang_up()

    def cut_off(self) -> None:
        """It had its time to leave."""
        if not self._lost:
            self.abort()

    def described(self) -> dict[str, Any]:
        """Who it is and what it does, for those who look at the sessions."""
        if self.session is None or self._handshaking:
            doing = "handshake" if self._held is None else "waiting"
        elif self._clogged is not None:
            doing = "sending"
        else:
            doing = "idle" if self._talking is None else "working"
        return {
            "id": self.id,
            "service": self.factory.listener_options.service,
            "account": self._account(),
            "client": self.client.address,
            "tls": self._tls,
            "since": self._since,
            "doing": doing,
        }

    def _account(self) -> str:
        """Whom it has logged in as; "" for nobody."""
        return ""

    def abort(self) -> None:
        """Cut the link."""
        self._transport.abortConnection()

    def _hang_up(self) -> None:
        """
        Close our side, and read on until the client closes its own.

        To close at once, with octets of the client unread, would reset the
        connection, and what we said last might never arrive.
        """
        if self._hung_up:
            return
        self._hung_up = True
        self._flush()
        self._transport.unregisterProducer()
        if self._paused:
            self._listen_again()
        if self._finished or self.client.encrypted:
            # TLS has a farewell of its own, and waits for the client's.
            self._transport.loseConnection()
            if self.client.encrypted:
                self._set_timer(LINGER_TLS, self.abort)
        else:
            self._transport.loseWriteConnection()

    def _look_at_the_time(self) -> None:
        """One timer a client: it is set anew when it rings, not for each octet."""
        silent = self._silent_for()
        if silent < self.timeout:
            self._set_timer(self.timeout - silent, self._look_at_the_time)
        elif self._talking is not None or self._hung_up:
            self.abort()  # it does not take what we say
        else:
            self._farewell(silent=True)
            self._set_timer(self.timeout, self.abort)
            self._hang_up()

    def _silent_for(self) -> float:
        """Seconds since the client last asked for something, or took some of what we sent."""
        if self._talking is not None and self._clogged is None:
            return 0.0  # it waits for us
        return self._clock.seconds() - self._heard_at

    def _silence(self) -> float:
        """
        The same, closely: what the system holds for the client counts as not taken.

        Whether that gets less shows only from one look to the next.
        """
        before, self._not_taken = self._not_taken, not_taken(self._transport)
        if self._not_taken and self._not_taken != before:
            self._heard_at = self._clock.seconds()
        return self._silent_for()

    def _set_timer(self, seconds: float, ring: Callable[[], None] | None) -> None:
        """The one timer of this client rings next for this; None: no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if ring is None else self._clock.callLater(seconds, ring)
