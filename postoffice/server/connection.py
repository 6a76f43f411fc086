"""One client on a transport and its session: input, output, timeouts, and typed questions."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from copy import copy
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar, Generic

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.model import log_event, log_events
from postoffice.model.envelope import Client
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.model.log_event import tell, tell_failure
from postoffice.server import tls
from postoffice.server.client_timer import ClientTimer
from postoffice.server.connection_setup import LINGER, ConnectionFactory, ConnectionSetup
from postoffice.server.question_loop import A, Q, QuestionLoop, Session
from postoffice.server.tcp import keep_alive, send_now, unacknowledged
from postoffice.util.event_log import EventLogger
from postoffice.util.networks import client_address

log = EventLogger("postoffice")

#: Unread octets of input from which on we stop reading from the transport.
READ_AHEAD = 64 << 10
#: As ``LINGER``, but over TLS, where our last octets may not have been sent yet.
LINGER_TLS = 30.0
#: Octets that a client may send after we have hung up; they are discarded unread.
DISCARD_MAXIMUM = 1 << 20


#: Session ids count up from the time of the daemon's start, so that no id is used twice.
_numbers = count(time.time_ns() >> 20)


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class Connection(TwistedProtocol, Generic[Q, A]):
    """
    A client, and the session that holds the rules.

    Before the session begins, a load balancer may name the real client (PROXY),
    and TLS may be negotiated.  A subclass makes the session (``_new_session``),
    answers the session's questions (``ask``), releases what the client held when
    the connection is lost (``_client_gone``), and ends the session from our side
    (``_end_session``).
    """

    transport: Any
    session: Session[Q, A] | None = None  # after the PROXY header and the implicit TLS handshake
    factory: ConnectionFactory
    timeout: ClassVar[float] = 300

    def __init__(self, factory: ConnectionFactory) -> None:
        self.factory = factory
        self.client = Client()
        self.counted_as: str | None = None  # the address that ConnectionLimits counts
        self.id = f"{next(_numbers):x}"
        self._clock = factory.clock
        self.loop: QuestionLoop[Q, A] = QuestionLoop(self, factory.reactor_shares)
        self._paused = False  # we do not read from the transport
        self._input_ended = False  # the client has closed its side: no more input
        self._closing = False  # the daemon is stopping: end the session once it is idle
        self._hung_up = False  # our side is closed: no more output
        self.lost = False  # the connection is lost
        self._discarded = 0  # octets that arrived after we hung up
        self._progress = 0  # ``session.progress`` at the last check
        self._handshaking = False
        self._tls = ""  # version and cipher
        self._bindings: Mapping[str, bytes] = {}  # TLS channel bindings
        self._connected_at = time.time()  # wall clock, for ``described()``
        self.timer = ClientTimer(self._clock)
        self.setup = ConnectionSetup(self, factory)

    # -- what a subclass provides --------------------------------------------------

    def _new_session(self) -> Session[Q, A]:
        """Make the session, now that the client's address is known."""
        raise AssertionError("the subclass must make a session")

    def ask(self, question: Q) -> A | Awaitable[A]:
        """Return the answer, or an awaitable if the answer must wait.  Raises PostOfficeError."""
        raise AssertionError("the subclass must answer its session's questions")

    def _client_gone(self) -> None:
        """The connection is lost: release what the client held."""

    def _end_session(self, *, silent: bool) -> None:
        """End the session: the client timed out (``silent``), or the daemon is stopping."""

    def _tls_started(self) -> None:
        """TLS began after STARTTLS or STLS: forget what the client said before."""

    def _is_idle(self) -> bool:
        """Whether the session can be ended now without interrupting anything."""
        return not self.loop.running

    # -- what Twisted tells us -----------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        peer = transport.getPeer()
        self.client = Client(client_address(peer), port=getattr(peer, "port", 0) or 0)
        if self.client.address:
            transport.setTcpNoDelay(True)
            keep_alive(transport)
        transport.registerProducer(self, True)
        self.factory.connections.add(self)
        self.setup.begin()

    def dataReceived(self, data: bytes) -> None:
        if self._hung_up:
            self._discarded += len(data)
            if self._discarded > DISCARD_MAXIMUM:
                self.abort()
            return
        if self.session is None:
            self.setup.receive(data)
            return
        self.session.receive(data)
        if not self.loop.running:
            self._run()
        elif self.session.unread > READ_AHEAD and not self._paused:
            self.pause_reading()

    def readConnectionLost(self) -> None:
        """The client has closed its side; the client may still read its replies."""
        self._input_ended = True
        if self.session is None:
            self.abort()
        elif self._hung_up:
            self.transport.loseConnection()
        elif not self.loop.running:
            self._hang_up()

    def writeConnectionLost(self) -> None:
        """After ``_hang_up``: all output is sent.  Otherwise nothing can be sent any more."""
        if self._hung_up:
            self.timer.set(LINGER, self.abort)
        else:
            self.abort()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True
        self.factory.left(self)
        self.timer.stop()
        if self._handshaking:
            self.setup.log_tls_failure(reason)
        elif self.session is None:
            self.setup.log_failure()
        self.loop.cancel()
        if self.session is not None:
            self._client_gone()

    def pauseProducing(self) -> None:
        """The transport's send buffer is full."""
        self.loop.block()

    def resumeProducing(self) -> None:
        self.timer.note_activity()
        self.loop.unblock()

    def stopProducing(self) -> None:
        """The transport is closing; ``connectionLost`` follows."""

    # -- before the session --------------------------------------------------------

    def renamed(self, client: Client) -> bool:
        """A load balancer says that this is the real client; return whether it may connect."""
        self.client = client
        return self.factory.recount(self, client.address)

    def reject(self, said: bytes) -> None:
        """Send a refusal and close; with implicit TLS, whose clients expect no text, only close."""
        self._hung_up = True
        self.transport.write(b"" if self.factory.listener_options.implicit else said)
        self.transport.loseConnection()

    def set_up(self, rest: bytes) -> None:
        """Begin TLS or the session; ``rest`` is input that has arrived already."""
        if self.factory.listener_options.implicit:
            self._begin_tls(rest)
        else:
            self._begin_session()
            if rest:
                self.dataReceived(rest)

    def _begin_session(self) -> None:
        self.timer.start(self.timeout, self._check_timeout)
        self.session = self._new_session()
        self._run()

    # -- TLS -------------------------------------------------------------------------

    def _begin_tls(self, rest: bytes = b"") -> None:
        self._handshaking = True
        self.setup.limit_time()
        self.transport.startTLS(self.factory.listener_options.certificates)
        if rest:
            self.transport.protocol.dataReceived(rest)

    def handshakeCompleted(self) -> None:
        """The TLS handshake is over."""
        connection: SSL.Connection = self.transport.getHandle()
        self._handshaking = False
        self._tls = tls.describe(connection)
        self._bindings = tls.bindings(connection)
        self.client = replace(self.client, encrypted=True)
        if self.session is None:
            self._begin_session()
            return
        self.timer.start(self.timeout, self._check_timeout)
        self._tls_started()
        self.session.secured(self._bindings)
        self._run()

    def log(self, event: log_event.Event, /, **fields: object) -> None:
        """Log an event of this connection."""
        tell(log, event, **self._log_fields(fields))

    def _log_fields(self, fields: dict[str, object]) -> dict[str, object]:
        """Add to ``fields`` those that every event of this connection has."""
        service, client = self.factory.listener_options.service, self.client.address or "local"
        return {"id": self.id, "service": service, "client": client, **fields}

    # -- answering questions -------------------------------------------------------

    def _run(self) -> None:
        assert self.session is not None
        self.loop.run(self.session)

    def failed(self, error: Exception) -> PostOfficeError:
        """Log a failure; if it has a reason, return it with the session id in its reply."""
        if not isinstance(error, PostOfficeError):
            fault = Failure(error)  # type: ignore[no-untyped-call]
            tell_failure(log, log_events.FAULT, fault, **self._log_fields({}))
            error = TemporaryFailure()
        elif str(error):
            self.log(log_events.FAILED, why=str(error))
        else:
            return error
        told = copy(error)
        told.reply = replace(error.reply, text=f"{error.reply.text} ({self.id})")
        return told

    def flush(self) -> None:
        assert self.session is not None
        output = self.session.take_output()
        if output:
            sent = 0 if self.client.encrypted else send_now(self.transport, output)
            if sent < len(output):
                self.transport.write(output[sent:])

    def burst_ended(self, failure: Failure | None) -> None:
        assert self.session is not None
        if self.session.progress != self._progress:
            self._progress = self.session.progress
            self.timer.note_activity()
        if failure is not None:
            if not isinstance(failure.value, CancelledError):
                why = "the session failed and was aborted"
                tell_failure(log, log_events.FAULT, failure, **self._log_fields({"why": why}))
                self.transport.abortConnection()
            return
        if self._closing and self._is_idle():
            self._end_session(silent=False)
        if self.session.closed or self._input_ended:
            self._hang_up()
            return
        if self.session.upgrading:
            self._begin_tls()
        if self._paused:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Read no more input from the transport."""
        self._paused = True
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read again, but later: a transport may call dataReceived at once, inside this call."""
        self._clock.callLater(0, self._listen_again)

    def _listen_again(self) -> None:
        if self._paused and not self.lost:
            self._paused = False
            self.transport.resumeProducing()

    # -- ending --------------------------------------------------------------------

    def leave(self) -> None:
        """The daemon is stopping: end the session as soon as it is idle."""
        self._closing = True
        if self.setup.waiting:
            self.setup.stop_waiting()
        elif self.session is None or self._handshaking:
            self.abort()
        elif self._is_idle():
            self._end_session(silent=False)
            self._hang_up()

    def described(self) -> dict[str, str | float]:
        """Describe this session for ``postoffice sessions``."""
        if self.session is None or self._handshaking:
            doing = "waiting" if self.setup.waiting else "handshake"
        elif self.loop.blocked:
            doing = "sending"
        else:
            doing = "working" if self.loop.running else "idle"
        return {
            "id": self.id,
            "service": self.factory.listener_options.service,
            "account": self._account(),
            "client": self.client.address,
            "tls": self._tls,
            "since": self._connected_at,
            "doing": doing,
        }

    def _account(self) -> str:
        """The address of the account that has logged in; empty if none has."""
        return ""

    def abort(self) -> None:
        """Close the connection at once, without sending what waits."""
        if not self.lost:
            self.transport.abortConnection()

    def _hang_up(self) -> None:
        """
        Close our side, and read on until the client closes its own.

        A full close while input of the client is unread would reset the TCP
        connection, and the client might never receive our last reply.
        """
        if self._hung_up:
            return
        self._hung_up = True
        self.flush()
        self.transport.unregisterProducer()
        self._listen_again()
        if self._input_ended or self.client.encrypted:
            # TLS sends its own close_notify, and waits for that of the client.
            self.transport.loseConnection()
            if self.client.encrypted:
                self.timer.set(LINGER_TLS, self.abort)
        else:
            self.transport.loseWriteConnection()

    def _check_timeout(self) -> None:
        """One timer per client: it is set again when it fires, not for each octet."""
        silent = self._silent_for()
        if silent < self.timeout:
            self.timer.set(self.timeout - silent, self._check_timeout)
        elif self.loop.running or self._hung_up:
            self.abort()  # the client does not take our output
        else:
            self._end_session(silent=True)
            self.timer.set(self.timeout, self.abort)
            self._hang_up()

    def _silent_for(self) -> float:
        """Seconds since the client last sent a command or took some of our output."""
        if self.loop.running and not self.loop.blocked:
            return 0.0  # the client waits for our answer
        return self.timer.silent_for()

    def _measure_silence(self) -> float:
        """The same, but octets in the kernel's send buffer count as not taken."""
        self.timer.acknowledge(unacknowledged(self.transport))
        return self._silent_for()
