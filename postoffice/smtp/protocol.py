"""SMTP on a transport: carries the session's questions to the avatar that the client holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from twisted.cred.credentials import Anonymous
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.conversation import Conversation, Counter, Doors
from postoffice.envelope import Envelope
from postoffice.interfaces import IDelivery, IReception
from postoffice.reply import SHUTTING_DOWN, TIMED_OUT, TOO_MANY_CONNECTIONS, Reply
from postoffice.smtp.session import (
    Abort,
    Begin,
    End,
    Mail,
    Question,
    Recipient,
    SMTPLimits,
    SMTPSession,
    Text,
)

log = Logger()


class SMTPConversation(Conversation):
    """One client that posts."""

    session: SMTPSession
    factory: SMTPFactory

    def __init__(self, factory: SMTPFactory) -> None:
        super().__init__(factory)
        self._reception: IReception | None = None
        self._envelope: Envelope | None = None
        self._delivery: IDelivery | None = None
        self._messages = 0

    def _open(self) -> SMTPSession:
        return SMTPSession(self.factory.hostname, self.factory.limits)

    def _ask(self, question: Question) -> Any:
        return self._ANSWERS[type(question)](self, question)

    async def _mail(self, question: Mail) -> Reply:
        if self._reception is None:
            self._reception = await self.factory.reception()
        self._messages += 1
        envelope = Envelope(
            id=f"{self.id}.{self._messages}",
            client=self.client,
            hello=question.hello,
            protocol=question.protocol,
            sender=question.sender,
            size=question.size,
            utf8=question.utf8,
        )
        said = await self._reception.sender(envelope)
        if said.positive:
            self._envelope = envelope
        return said

    async def _recipient(self, question: Recipient) -> Reply:
        assert self._reception is not None
        assert self._envelope is not None
        return await self._reception.recipient(self._envelope, question.address)

    async def _begin(self, question: Begin) -> None:
        assert self._reception is not None
        assert self._envelope is not None
        self._delivery = await self._reception.begin(self._envelope)

    def _text(self, question: Text) -> Awaitable[None]:
        assert self._delivery is not None
        return self._delivery.write(question.octets)

    async def _end(self, question: End) -> Reply:
        envelope, delivery = self._envelope, self._delivery
        assert envelope is not None
        assert delivery is not None
        try:
            await delivery.commit()
        finally:
            self._abort(Abort())
        log.info(
            "{id} taken: from {client} <{sender}> to {recipients}",
            id=envelope.id,
            client=self.client.address or "local",
            sender=envelope.sender or "",
            recipients=", ".join(f"<{one.address}>" for one in envelope.recipients),
        )
        return Reply(250, "2.0.0", f"Taken, {envelope.id}")

    def _abort(self, question: Abort) -> None:
        delivery, self._delivery, self._envelope = self._delivery, None, None
        if delivery is not None:
            delivery.abort()

    def _gone(self) -> None:
        self._abort(Abort())
        log.info(
            "{id} SMTP session of {client} ends: {taken} taken",
            id=self.id,
            client=self.client.address or "local",
            taken=self.session.taken,
        )

    def _farewell(self, *, silent: bool) -> None:
        self.session.dismiss(TIMED_OUT if silent else SHUTTING_DOWN)

    def _at_rest(self) -> bool:
        return super()._at_rest() and not self.session.in_text

    _ANSWERS: ClassVar[dict[type, Callable[..., Any]]] = {
        Mail: _mail,
        Recipient: _recipient,
        Begin: _begin,
        Text: _text,
        End: _end,
        Abort: _abort,
    }


class SMTPFactory(Counter):
    """The receiving counter: one SMTP service."""

    full = TOO_MANY_CONNECTIONS.wire

    def __init__(
        self,
        portal: Portal,
        *,
        hostname: str,
        limits: SMTPLimits,
        clock: IReactorTime,
        doors: Doors | None = None,
    ) -> None:
        super().__init__(portal, clock, doors)
        self.hostname = hostname
        self.limits = limits

    def _conversation(self) -> SMTPConversation:
        return SMTPConversation(self)

    async def reception(self) -> IReception:
        """The avatar of a client that nobody knows yet."""
        _, avatar, _ = await self.portal.login(Anonymous(), None, IReception)
        return cast(IReception, avatar)
