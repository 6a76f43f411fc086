"""One connection to another server: it connects, and sends one transaction after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import TimeoutError  # noqa: A004
from twisted.internet.interfaces import IConnector, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces.store import IText
from postoffice.model import log_events
from postoffice.model.errors import PostOfficeError
from postoffice.model.hop import NONE, VERIFY, Hop, PeerReply, Result, Transaction
from postoffice.model.log_event import tell_failure
from postoffice.protocol.wire import OUTPUT_QUANTUM
from postoffice.server import tls
from postoffice.server.client_tls import ClientContexts, Handshake, misfit
from postoffice.server.deadline import Deadline
from postoffice.server.dialer import CONNECT, dial
from postoffice.server.tcp import keep_alive, send_now
from postoffice.smtp import client_states as states
from postoffice.smtp.client import SMTPClientSession
from postoffice.smtp.client_options import SMTPClientOptions
from postoffice.smtp.client_reply import TLS_BROKEN
from postoffice.util.event_log import EventLogger
from postoffice.util.maybe_awaitable import at_once
from postoffice.util.reactor import IReactor

log = EventLogger("postoffice")

#: Recipients of one transaction at most, whatever the server takes.
RECIPIENTS = 50


class ConnectFailed(Exception):
    """A server does not get so far that it takes messages; ``reply`` says why."""

    def __init__(self, reply: PeerReply) -> None:
        super().__init__(f"{reply.phase}: {reply.code or ''} {reply.text}")
        self.reply = reply


class HandshakeFailed(ConnectFailed):
    """TLS did not begin, or not as it must; on level OPPORTUNISTIC, try again with NONE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """
    What all our connections to other servers have in common.

    ``hostname`` is our name.  ``sources`` are our IPv4 and IPv6 address, "" for any.
    """

    reactor: IReactor
    hostname: str
    sources: tuple[str, str] = ("", "")
    contexts: ClientContexts = field(default_factory=ClientContexts)


async def connect(hop: Hop, options: ConnectOptions) -> ClientConnection:
    """
    Connect to a server, begin TLS as the hop says, and log in.

    Raises ConnectFailed; HandshakeFailed if only TLS failed.
    """
    connection = ClientConnection(hop, options)
    await connection.connect()
    return connection


@implementer(IPushProducer, IHandshakeListener)
class ClientConnection(TwistedProtocol):
    """
    A server on a transport, and the session that holds the rules.

    A ``RelayConnection``.  ``send`` sends one transaction, when the one before has its result.
    ``usable`` is whether it can be called; ``tls`` is the TLS version and cipher, or "".
    ``on_lost`` is called once the connection has ended, also an idle one.
    """

    transport: Any = None

    def __init__(self, hop: Hop, options: ConnectOptions) -> None:
        self.hop = hop
        self.via = hop.shown
        self.on_lost: Callable[[], object] = bool
        self.lost = False
        self._options = options
        self._clock = options.reactor
        self.session = SMTPClientSession(
            SMTPClientOptions(
                hostname=options.hostname,
                lmtp=hop.lmtp,
                level=NONE if hop.is_unix else hop.level,
                encrypted=hop.implicit,
                verified=hop.implicit and hop.level == VERIFY,
                chosen=hop.chosen,
                login=hop.login,
                password=hop.password,
            )
        )
        self._connector: IConnector | None = None
        self._connecting: Deferred[None] | None = None
        self._sending: Deferred[Result] | None = None
        self._leaving: list[Deferred[None]] = []  # who waits for its end
        self._text: IText | None = None
        self._id = ""  # of the transaction
        self._reading: Deferred[None] | None = None  # the coroutine that reads the text
        self._blocked: Deferred[None] | None = None  # fires when the transport takes more output
        self._deadline = Deadline(options.reactor, self._timed_out)
        self._handshaking = self._hung_up = False
        self.tls = ""  # version and cipher
        self._began = self._connected_in = 0.0  # the time it took, told with the first result

    # -- what the queue calls ----------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the connection stands, has nothing to do, and may have it."""
        return self.session.usable

    @property
    def most(self) -> int:
        """How many recipients a transaction can have."""
        return min(RECIPIENTS, self.session.offers.recipients or RECIPIENTS)

    @property
    def name(self) -> str:
        """The server's name, as the server says it."""
        return self.session.offers.name

    def connect(self) -> Deferred[None]:
        """Connect; it fires once messages can be sent.  Fails with ConnectFailed."""
        waiting = self._connecting = Deferred(lambda _: self.abort())
        self._began = self._clock.seconds()
        reactor, sources = self._options.reactor, self._options.sources
        self._connector = dial(reactor, self.hop, sources, self, self.never_connected)
        return waiting

    def send(self, transaction: Transaction, text: IText) -> Deferred[Result]:
        """
        Send one transaction; the result has a reply for each recipient, whatever happens.

        Closes the text.  A call that is cancelled ends the connection.
        """
        assert self._sending is None, "one transaction at a time"
        if not self.session.usable:
            text.close()
            why = self.session.failed or PeerReply(0, "", "The connection has ended", "mail")
            return succeed(Result([why] * len(transaction.recipients), begun=False))
        sending = self._sending = Deferred(lambda _: self.abort())
        self._text, self._id = text, transaction.id
        self._began = self._clock.seconds()
        self.session.begin(transaction)
        self._go_on()
        return sending

    def close(self) -> Deferred[None]:
        """End the connection politely; it fires once the connection has ended, which is soon."""
        gone: Deferred[None] = Deferred()
        if self.lost:
            gone.callback(None)
            return gone
        self._leaving.append(gone)
        self.session.quit()
        if self.transport is None:
            self.abort()
        else:
            self._go_on()
        return gone

    def abort(self) -> None:
        """End the connection at once."""
        self._fail("The connection was given up")
        if self.transport is not None:
            self.transport.abortConnection()
        elif not self.lost and self._connector:
            self._connector.stopConnecting()

    # -- what Twisted tells us -----------------------------------------------------------

    def never_connected(self, reason: Failure) -> None:
        """There is no connection."""
        if isinstance(reason.value, TimeoutError):
            why = f"The connection timed out: {CONNECT:g} seconds"
        else:
            why = f"The connection failed: {reason.getErrorMessage()}"
        self.session.lost(why)
        self.session.failed = PeerReply(0, "", why, "connect")
        self._ended()

    def connectionMade(self) -> None:
        transport = self.transport
        if not self.hop.is_unix:
            transport.setTcpNoDelay(True)
            keep_alive(transport)
        transport.registerProducer(self, True)
        if self.hop.implicit:
            self._begin_tls()
        self._go_on()

    def dataReceived(self, data: bytes) -> None:
        if not self._hung_up:
            self.session.receive(data)
            self._go_on()

    def connectionLost(self, reason: Failure | None = None) -> None:
        why = tls.why_failed(reason)
        if self._handshaking:
            self._fail(f"The TLS handshake failed: {why or 'the connection was lost'}")
        else:
            self._fail(f"The connection was lost ({why})" if why else "The connection was lost")
        self._ended()

    def pauseProducing(self) -> None:
        """The transport's send buffer is full."""
        if self._blocked is None:
            self._blocked = Deferred()

    def resumeProducing(self) -> None:
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            blocked.callback(None)

    def stopProducing(self) -> None:
        """``connectionLost`` follows."""

    # -- TLS -------------------------------------------------------------------------------

    def _begin_tls(self) -> None:
        self._handshaking = True
        context = self._options.contexts.of(self.hop.level)
        self.transport.startTLS(Handshake(context, self.hop.host))

    def handshakeCompleted(self) -> None:
        """The TLS handshake is over."""
        connection = self.transport.getHandle()
        verified = self.hop.level == VERIFY
        why = misfit(connection, self.hop.host) if verified else ""
        if why:
            self._fail(f"The TLS handshake failed: {why}")
            return self._go_on()
        self._handshaking = False
        self.tls = tls.describe(connection)
        if self.session.state == states.HANDSHAKE:
            self.session.secured(verified=verified)
        return self._go_on()

    # -- going on ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Something has happened: send, begin what is next, and tell who waits."""
        session = self.session
        if session.state == states.TEXT and self._reading is None:
            self._begin_text()
        self._flush()
        state = session.state
        if state == states.CLOSED:
            return self._hang_up()
        if state == states.HANDSHAKE and not self._handshaking:
            self._begin_tls()
        self._watch(state)
        if state == states.READY:
            self._tell()
        return None

    def _flush(self) -> None:
        output = self.session.take_output()
        if output:
            sent = 0 if self.tls else send_now(self.transport, output)
            if sent < len(output):
                self.transport.write(output[sent:] if sent else output)

    def _hang_up(self) -> None:
        if self.lost:
            return
        if self._hung_up or self.session.failed is not None:
            self._deadline.stop()
            self.transport.abortConnection()
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._watch(states.CLOSED)
        self._hung_up = True
        self._tell()

    def _tell(self) -> None:
        """The session is ready, or closed: fire what waits for it."""
        result = self.session.take_result()
        if result is not None:
            self._tell_result(result)
        elif self._connecting is not None and self.session.state == states.READY:
            connecting, self._connecting = self._connecting, None
            self._connected_in = self._clock.seconds() - self._began
            connecting.callback(None)

    def _tell_result(self, result: Result) -> None:
        result.tls = self.tls
        result.times = (0.0, self._connected_in, self._clock.seconds() - self._began)
        self._connected_in = 0.0
        text, self._text = self._text, None
        if self._reading is not None:
            self._reading.cancel()
        if text is not None:
            text.close()
        sending, self._sending = self._sending, None
        if sending is not None and not sending.called:
            sending.callback(result)

    def _ended(self) -> None:
        """The connection is lost, or there never was one."""
        self.lost = True
        self._deadline.stop()
        self.resumeProducing()
        self._tell()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            why = self.session.failed or PeerReply(0, "", "The connection has ended", "connect")
            kind = HandshakeFailed if self._handshaking else ConnectFailed
            if not connecting.called:
                connecting.errback(kind(why))
        else:
            self.on_lost()
        for gone in self._leaving:
            if not gone.called:
                gone.callback(None)

    # -- the text ------------------------------------------------------------------------------

    def _begin_text(self) -> None:
        """Send the text: at once where that need not wait, otherwise in a coroutine."""
        reading: Awaitable[None] | None = at_once(self._send_text())
        if reading is not None:
            self._reading = Deferred.fromCoroutine(self._go_on_with_text(reading))
            self._reading.addErrback(Failure.trap, CancelledError)

    async def _go_on_with_text(self, reading: Awaitable[None]) -> None:
        try:
            await reading
        finally:
            self._reading = None
        self._go_on()

    async def _send_text(self) -> None:
        """Give the text to the session, no faster than the transport takes it."""
        session, text = self.session, self._text
        assert text is not None
        try:
            while session.state == states.TEXT and (piece := await text.read()):
                session.text(piece)
                if session.unsent >= OUTPUT_QUANTUM:
                    await self._drained()
        except CancelledError:
            raise
        except Exception as error:  # without its end, the server does not take the message
            if not isinstance(error, PostOfficeError):
                fault = Failure(error)  # type: ignore[no-untyped-call]
                tell_failure(log, log_events.FAULT, fault, id=self._id)
            session.lost(f"The message could not be read: {error}")
        else:
            session.end_text()

    async def _drained(self) -> None:
        """Send what there is; wait until the transport takes more, and for others' turn."""
        self._flush()
        self._watch(self.session.state)
        if self._blocked is not None:
            await self._blocked
        turn: Deferred[None] = Deferred()
        self._clock.callLater(0, turn.callback, None)
        await turn

    # -- timeouts ------------------------------------------------------------------------------

    def _watch(self, state: str) -> None:
        """See that the server does in time what it has to do next."""
        waits_for_us = state == states.TEXT and self._blocked is None
        awaited = (state, self.session.heard, self._blocked)
        self._deadline.watch(awaited, 0 if waits_for_us else self.session.seconds)

    def _timed_out(self, seconds: float) -> None:
        awaited = "the TLS handshake" if self._handshaking else self.session.state
        self._fail(f"The server timed out: {seconds:g} seconds for {awaited}")
        self._go_on()

    def _fail(self, why: str) -> None:
        """End the session, unless it has ended already: this is why."""
        if self.session.state != states.CLOSED:
            self.session.lost(why)
            if self._handshaking:
                self.session.failed = PeerReply(0, TLS_BROKEN, why, "tls")
