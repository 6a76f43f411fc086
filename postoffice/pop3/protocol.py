"""POP3 on a transport: carries the session's questions to the portal and to the maildrop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Any, ClassVar

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.counter import Doors, Entrance
from postoffice.dialogue import Secure
from postoffice.entering import Admission, Entering, LoginCounter, Salts
from postoffice.envelope import Client, Visit
from postoffice.interfaces import ICollection, IMaildrop, IText
from postoffice.pop3 import texts
from postoffice.pop3.questions import (
    Enough,
    Enter,
    Entered,
    Fetch,
    More,
    Question,
    Update,
)
from postoffice.pop3.session import POP3Session
from postoffice.pop3.terms import POP3Limits, Terms
from postoffice.sasl import Prove, SaltOf

log = Logger()

#: Where nobody says how clients log in: by their passwords, which everybody has.
BY_PASSWORD = Admission(("PLAIN", "LOGIN"))


class POP3Conversation(Entering):
    """One client that collects."""

    session: POP3Session | None = None
    factory: POP3Factory
    timeout = 600  # RFC 1939 §3: at least ten minutes; then the link closes without UPDATE
    starttls = "STLS"

    def __init__(self, factory: POP3Factory) -> None:
        super().__init__(factory)
        self._collection: ICollection | None = None
        self._logout: Callable[[], Any] | None = None
        self._text: IText | None = None

    def _open(self) -> POP3Session:
        self._visit_anew()
        terms = self.factory.terms(self.client, self._bindings)
        return POP3Session(terms, self.factory.limits)

    def _renewed(self) -> None:
        """TLS has begun: whoever was shown before it was shown in clear."""
        self._release()
        self._visit_anew()

    def _visit_anew(self) -> None:
        self._visit = Visit(self.id, self.factory.entrance.service, self.client, tls=self._tls)

    def _ask(self, question: Question) -> Any:
        return self._ANSWERS[type(question)](self, question)

    # -- who it is -----------------------------------------------------------------

    async def _prove(self, question: Prove) -> None:
        self._release()  # whoever was shown before, and did not come in
        self._collection, self._logout = await self._show(question, IMaildrop)

    async def _enter(self, question: Enter) -> Entered:
        session, collection = self.session, self._collection
        assert session is not None
        assert collection is not None
        try:
            listing = await collection.open()
        except BaseException:
            self._release()
            raise
        self._entered(collection.account.address)
        return Entered(listing, session.terms)

    # -- its mail ------------------------------------------------------------------

    async def _fetch(self, question: Fetch) -> bytes:
        assert self._collection is not None
        text = self._text = await self._collection.fetch(question.entry)
        octets = await text.read()
        if len(octets) == question.entry.size:
            self._enough()
        return octets

    async def _more(self, question: More) -> bytes:
        assert self._text is not None
        return await self._text.read()

    def _enough(self, question: Enough | None = None) -> None:
        text, self._text = self._text, None
        if text is not None:
            text.close()

    async def _update(self, question: Update) -> None:
        """Remove, and give the lock back before the reply: the next login may follow at once."""
        assert self._collection is not None
        try:
            await self._collection.update(question.entries, question.collected, self.id)
        finally:
            self._release()

    def _release(self) -> None:
        self._enough()
        logout, self._logout, self._collection = self._logout, None, None
        if logout is not None:
            logout()

    def _gone(self) -> None:
        assert self.session is not None
        self._release()
        super()._gone()
        log.info(
            "{id} POP3 session of {user!r} from {client}{tls} ends: {retrieved} retrieved",
            id=self.id,
            user=self._visit.login,
            tls=f" ({self._tls})" if self._tls else "",
            client=self.client.address or "local",
            retrieved=self.session.retrieved,
        )

    def _farewell(self, *, silent: bool) -> None:
        """Nothing is said to who was silent for too long (RFC 1939 §3)."""
        assert self.session is not None
        self.session.dismiss(None if silent else texts.CLOSING, "SYS/TEMP")

    def _hang_up(self) -> None:
        assert self.session is not None
        if self.session.broken:
            self._transport.abortConnection()
        else:
            super()._hang_up()

    _ANSWERS: ClassVar[dict[type, Callable[..., Any]]] = {
        Secure: Entering._secure,
        SaltOf: Entering._salt,
        Prove: _prove,
        Enter: _enter,
        Fetch: _fetch,
        More: _more,
        Enough: _enough,
        Update: _update,
    }


class POP3Factory(LoginCounter):
    """
    The serving counter: one POP3 service.

    ``hostname`` stands in stamps and challenges; ``admission`` says how clients
    log in, by APOP, too, if that is among its mechanisms.
    """

    full = b"-ERR [SYS/TEMP] too many connections; try again later\r\n"

    def __init__(
        self,
        portal: Portal,
        *,
        clock: IReactorTime,
        hostname: str = "localhost",
        admission: Admission = BY_PASSWORD,
        limits: POP3Limits | None = None,
        doors: Doors | None = None,
        entrance: Entrance | None = None,
        salts: Salts | None = None,
    ) -> None:
        super().__init__(portal, clock, doors, entrance or Entrance("pop3"), salts)
        self.hostname = hostname
        self.admission = admission
        self.limits = limits or POP3Limits()

    def _conversation(self) -> POP3Conversation:
        return POP3Conversation(self)

    def terms(self, client: Client, bindings: Mapping[str, bytes]) -> Terms:
        """On which terms a client is here, over the link that it has."""
        mechanisms = self.admission.mechanisms
        return Terms(
            hostname=self.hostname,
            mechanisms=tuple(name for name in mechanisms if name != "APOP"),
            passwords=self.admission.takes_passwords(client),
            starttls=self.entrance.certificates is not None and not client.encrypted,
            encrypted=client.encrypted,
            bindings=bindings,
            stamp=f"<{token_urlsafe(24)}@{self.hostname}>" if "APOP" in mechanisms else "",
        )
