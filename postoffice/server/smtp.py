"""SMTP on a transport: answers the session's questions with the client's IReception avatar."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import assert_never, cast

from twisted.cred.credentials import Anonymous
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from postoffice.interfaces import IDelivery, IReception
from postoffice.model import log_events
from postoffice.model.envelope import Client, Envelope, SessionInfo
from postoffice.model.log_event import portions
from postoffice.model.reply import (
    SHUTTING_DOWN,
    SPOKE_TOO_EARLY,
    TIMED_OUT,
    TOO_MANY_UNKNOWN,
    UNKNOWN_RECIPIENT,
    Reply,
)
from postoffice.protocol.questions import Secure
from postoffice.protocol.refusals import Refusal
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.server.login_connection import LoginConnection, LoginFactory
from postoffice.server.message_log import (
    ROOM,
    addresses_of,
    path_text,
    paths_of,
    queued_among,
    without_parameters,
)
from postoffice.server.smtp_service import SMTPService
from postoffice.smtp.header import MessageIDReader
from postoffice.smtp.options import SMTPOptions
from postoffice.smtp.questions import (
    Abort,
    Answer,
    Begin,
    ClientQuestion,
    Connect,
    End,
    Enter,
    Hello,
    Impersonate,
    Mail,
    Pause,
    Recipient,
    SMTPQuestion,
    Text,
)
from postoffice.smtp.session import SMTPSession
from postoffice.util.maybe_awaitable import later, then
from postoffice.util.networks import network_of


class SMTPConnection(LoginConnection[SMTPQuestion, Answer]):
    """One SMTP, submission or LMTP client."""

    session: SMTPSession | None = None
    starttls = "STARTTLS"

    def __init__(self, factory: LoginFactory, service: SMTPService) -> None:
        super().__init__(factory)
        self._service = service
        self._early: Deferred[bool] | None = None  # fires if the client speaks before its greeting
        self._connect_fields: list[bytes] = []  # fields that policies added at the connect stage
        # the relay itself, and its connect fields, from before XCLIENT
        self._relay: tuple[Client, list[bytes]] | None = None
        self._reception: IReception | None = None
        self._pending: IReception | None = None  # authenticated, login not complete
        self._envelope: Envelope | None = None
        self._delivery: IDelivery | None = None
        self._refused_envelope: Envelope | None = None  # whose refusal is to be logged
        self._message_id_reader: MessageIDReader | None = None
        self._messages = 0

    def _new_session(self) -> SMTPSession:
        self._session_info = SessionInfo(
            self.id, self.factory.listener_options.service, self.client
        )
        return SMTPSession(self._options(), self._service.limits)

    def _options(self) -> SMTPOptions:
        return self._service.options(self.client, self._bindings)

    def _tls_started(self) -> None:
        """TLS began after STARTTLS: forget the login and what XCLIENT said (RFC 3207 §4.2)."""
        if self._relay is not None:
            relay, self._connect_fields = self._relay
            self.client = replace(relay, encrypted=True)
        self._renew_session_info()

    def _renew_session_info(self) -> None:
        self._session_info = SessionInfo(
            self.id, self._session_info.service, self.client, fields=list(self._connect_fields)
        )
        self._reception = self._pending = None

    def dataReceived(self, data: bytes) -> None:
        if self._early is not None:
            early, self._early = self._early, None
            early.callback(True)
        super().dataReceived(data)

    def ask(self, question: SMTPQuestion) -> Answer | Awaitable[Answer]:
        assert self.session is not None
        if self.session.refusals.new:
            self._log_refusals()
        match question:
            case Mail():
                return then(self._avatar(), partial(self._mail, question))
            case Recipient():
                return self._recipient(question)
            case Begin():
                return self._begin()
            case Text():
                return self._text(question)
            case End():
                return self._end()
            case Abort():
                self._abort()
                return None
        return self._ask_about_client(question)

    def _ask_about_client(self, question: ClientQuestion) -> Answer | Awaitable[Answer]:
        match question:
            case Connect():
                return self._connect()
            case Hello():
                return self._hello(question)
            case Secure():
                self._secure()
            case Impersonate():
                return self._impersonate(question)
            case SaltOf():
                return self._salt(question)
            case Prove():
                return self._prove(question)
            case Enter():
                self._enter()
            case Pause():
                return deferLater(self._clock, question.seconds, lambda: None)
            case _:
                assert_never(question)
        return None

    # -- the client ----------------------------------------------------------------

    def _avatar(self) -> IReception | Awaitable[IReception]:
        """The avatar of the client's account, or the anonymous one."""
        return self._anonymous() if self._reception is None else self._reception

    async def _anonymous(self) -> IReception:
        _, avatar, _ = await self.factory.portal.login(Anonymous(), self._session_info, IReception)
        self._reception = cast(IReception, avatar)
        return self._reception

    def _connect(self) -> Reply | Awaitable[Reply | None] | None:
        profile = self._service.profile
        delay = 0.0 if self.client.local else profile.greeting_delay
        if delay or "connect" in profile.judged:
            return self._judge_client(delay)
        return None

    async def _judge_client(self, delay: float) -> Reply | None:
        if delay and await self._speaks_early(delay):
            return SPOKE_TOO_EARLY
        said = None
        if "connect" in self._service.profile.judged:
            said = await (await later(self._avatar())).connected()
        self._connect_fields = list(self._session_info.fields)
        return said

    async def _speaks_early(self, seconds: float) -> bool:
        """Whether the client sends anything before its greeting; spam software often does."""
        early = self._early = Deferred()
        timer = self._clock.callLater(seconds, self._stayed_silent)
        try:
            return await early
        finally:
            if timer.active():
                timer.cancel()

    def _stayed_silent(self) -> None:
        early, self._early = self._early, None
        if early is not None:
            early.callback(False)

    def _hello(self, question: Hello) -> Reply | Awaitable[Reply | None] | None:
        self._session_info.hello = question.name
        if "hello" in self._service.profile.judged:
            return self._judge_hello()
        return None

    async def _judge_hello(self) -> Reply | None:
        self._session_info.fields[:] = self._connect_fields
        return await (await later(self._avatar())).hello()

    def _impersonate(self, question: Impersonate) -> SMTPOptions | Reply:
        """XCLIENT: a trusted relay names the real client.  ConnectionLimits counts the relay."""
        self._relay = self._relay or (self.client, self._connect_fields)
        address = self.client.address if question.address is None else question.address
        self.client = replace(self.client, address=address, port=question.port)
        self._abort()
        self._connect_fields = []
        self._renew_session_info()
        return replace(self._options(), xclient=True)

    async def _prove(self, question: Prove) -> None:
        self._pending, _ = await self._authenticate(question, IReception)

    def _enter(self) -> None:
        assert self._pending is not None
        self._reception, self._pending = self._pending, None
        self._logged_in(self._reception.login)

    # -- a message -----------------------------------------------------------------

    def _mail(self, question: Mail, reception: IReception) -> Reply | Awaitable[Reply]:
        self._messages += 1
        envelope = Envelope(
            id=f"{self.id}.{self._messages}",
            client=self.client,
            hello=question.hello,
            protocol=question.protocol,
            sender=question.sender,
            size=question.size,
            utf8=question.utf8,
            status=question.status,
            eight_bit=question.eight_bit,
            requiretls=question.requiretls,
            service=self._session_info.service,
            login=self._session_info.login,
            device=self._session_info.device,
            fields=list(self._session_info.fields),
        )
        self._refused_envelope = None

        def keep(said: Reply) -> Reply:
            if said.positive:
                self._envelope = envelope
            return said

        return then(reception.sender(envelope), keep)

    def _recipient(self, question: Recipient) -> Reply | Awaitable[Reply]:
        assert self._reception is not None
        assert self._envelope is not None
        said = self._reception.recipient(self._envelope, question.address, question.notify)
        return then(said, self._count_unknown)

    def _count_unknown(self, said: Reply) -> Reply:
        """The reply to RCPT; instead, end the session of a client that guesses names."""
        if said is UNKNOWN_RECIPIENT and not self.client.local:
            unknown = self._service.unknown
            if unknown is not None and not unknown.spend(network_of(self.client.address)):
                return TOO_MANY_UNKNOWN
        return said

    async def _begin(self) -> None:
        assert self._reception is not None
        assert self._envelope is not None
        self._message_id_reader = MessageIDReader()
        self._delivery = await self._reception.begin(self._envelope)

    def _text(self, question: Text) -> Awaitable[None]:
        assert self._delivery is not None
        assert self._message_id_reader is not None
        self._message_id_reader.feed(question.octets)
        return self._delivery.write(question.octets)

    async def _end(self) -> Reply | list[Reply]:
        figures, began = self.factory.figures, perf_counter()
        said = await self._commit()
        if figures is not None:
            figures.delivery.observe(perf_counter() - began)
        return said

    async def _commit(self) -> Reply | list[Reply]:
        envelope, delivery = self._envelope, self._delivery
        assert envelope is not None
        assert delivery is not None
        try:
            if envelope.login or "text" in self._service.profile.judged:
                assert self._reception is not None
                refusal = await self._reception.judge(envelope, delivery)
                if refusal is not None:
                    return refusal
            if self._service.profile.lmtp:
                return await self._commit_each(envelope, delivery)
            await delivery.commit()
        finally:
            self._abort()
        self._log_taken(envelope, paths_of(envelope), delivery)
        return Reply(250, "2.0.0", f"Taken, {envelope.id}")

    async def _commit_each(self, envelope: Envelope, delivery: IDelivery) -> list[Reply]:
        """Commit, and return a reply for each accepted recipient (RFC 2033 §4.2)."""
        outcomes = await delivery.commit_each()
        taken = Reply(250, "2.0.0", f"Taken, {envelope.id}")
        replies = [taken if one is None else self.failed(one).reply for one in outcomes]
        self._log_taken(envelope, paths_of(envelope, outcomes), delivery)
        return [_together([replies[one] for one in named], taken) for named in envelope.named]

    def _log_taken(self, envelope: Envelope, recipients: list[str], delivery: IDelivery) -> None:
        if not recipients:
            return
        read = self._message_id_reader
        message_id = (read and read.found()) or envelope.message_id
        sender, uidl = path_text(envelope.sender), getattr(delivery, "uidl", "")
        to, *others = addresses_of(envelope, recipients, len(sender) + len(message_id))
        self.log(
            log_events.MESSAGE_TAKEN,
            id=envelope.id,
            sender=sender,
            recipients=len(recipients),
            queued=queued_among(recipients, envelope),
            to=to,
            message_id=message_id,
            size=read and read.size,
            uidl=uidl,
            helo=envelope.hello,
        )
        for to in others:
            self.log(log_events.MESSAGE_TAKEN_FOR, id=envelope.id, to=to, uidl=uidl)
        self._refused_envelope = None

    def _log_refusals(self) -> None:
        assert self.session is not None
        of_message = any(one.in_message for one in self.session.refusals.new)
        super()._log_refusals()
        if of_message:
            self._refused_envelope = None

    def _refusal_fields(self, refusal: Refusal) -> dict[str, object]:
        known: dict[str, object] = {"helo": self._session_info.hello}
        envelope = self._envelope or self._refused_envelope
        if refusal.in_message and envelope is not None:
            to = paths_of(envelope)
            known |= {
                "id": envelope.id,
                "sender": path_text(envelope.sender),
                "recipients": len(to) or None,
                "to": next(portions(to, ROOM // 4)),
            }
        field = {"MAIL": "sender", "RCPT": "recipient"}.get(refusal.verb)
        if field is not None:
            known[field] = without_parameters(refusal.argument.partition(":")[2].strip()) or None
        return known

    def _abort(self) -> None:
        if self._envelope is not None:
            assert self.session is not None
            self._refused_envelope = self._envelope if self.session.in_message else None
        delivery, self._delivery, self._envelope = self._delivery, None, None
        if delivery is not None:
            delivery.abort()

    # -- ending --------------------------------------------------------------------

    def _client_gone(self) -> None:
        assert self.session is not None
        self._abort()
        super()._client_gone()

    def _session_counts(self) -> dict[str, object]:
        assert self.session is not None
        return {"helo": self._session_info.hello, "taken": self.session.taken}

    def _login_required(self) -> bool:
        return self._service.profile.submission and not self._session_info.login

    def _end_session(self, *, silent: bool) -> None:
        super()._end_session(silent=silent)
        assert self.session is not None
        self.session.refusals.hear(b"")
        self.session.dismiss(TIMED_OUT if silent else SHUTTING_DOWN)

    def _is_idle(self) -> bool:
        assert self.session is not None
        return super()._is_idle() and not self.session.in_text


def _together(replies: list[Reply], taken: Reply) -> Reply:
    """
    The one reply for a recipient that led to several accounts.

    If an account is to get the message later, the sender must send it again, and the others
    get it twice.  Otherwise it is enough that one has got it.
    """
    failed = [one for one in replies if not one.positive]
    later = [one for one in failed if not one.permanent]
    return (later or (failed if len(failed) == len(replies) else []) or [taken])[0]
