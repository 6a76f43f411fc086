"""POP3 on a transport: carries the session's questions to the portal and to the maildrop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.accounts.credentials import credentials_of
from postoffice.conversation import Conversation
from postoffice.counter import Counter, Doors, Entrance
from postoffice.envelope import Client, Visit
from postoffice.errors import LoginRefused
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
from postoffice.pop3.terms import Terms
from postoffice.sasl import Prove

log = Logger()

#: Octets of a name that nobody has proved, in the log.
NAME = 200


class POP3Conversation(Conversation):
    """One client that collects."""

    session: POP3Session | None = None
    factory: POP3Factory
    timeout = 600  # RFC 1939 §3: at least ten minutes; then the link closes without UPDATE

    def __init__(self, factory: POP3Factory) -> None:
        super().__init__(factory)
        self._login = ""
        self._collection: ICollection | None = None
        self._logout: Callable[[], Any] | None = None
        self._text: IText | None = None

    def _open(self) -> POP3Session:
        return POP3Session(self.factory.terms(self.client, self._bindings))

    def _ask(self, question: Question) -> Any:
        return self._ANSWERS[type(question)](self, question)

    # -- who it is -----------------------------------------------------------------

    async def _prove(self, question: Prove) -> None:
        service = self.factory.entrance.service
        visit = Visit(self.id, service, self.client, mechanism=question.mechanism, tls=self._tls)
        credentials = credentials_of(question.claim, self.client, service)
        self._release()  # whoever was proved before, and did not come in
        try:
            _, avatar, logout = await self.factory.portal.login(credentials, visit, IMaildrop)
        except UnauthorizedLogin:
            log.info(
                "{id} login refused: {user!r} from {client}",
                id=self.id,
                user=question.claim.user[:NAME],
                client=self.client.address or "local",
            )
            raise LoginRefused from None
        self._collection, self._logout = cast(ICollection, avatar), logout

    async def _enter(self, question: Enter) -> Entered:
        assert self.session is not None
        assert self._collection is not None
        try:
            listing = await self._collection.open()
        except BaseException:
            self._release()
            raise
        self._login = self._collection.account.address
        return Entered(listing, self.session.terms)

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
        log.info(
            "{id} POP3 session of {user!r} from {client} ends: {retrieved} retrieved",
            id=self.id,
            user=self._login,
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
        Prove: _prove,
        Enter: _enter,
        Fetch: _fetch,
        More: _more,
        Enough: _enough,
        Update: _update,
    }


class POP3Factory(Counter):
    """
    The serving counter: one POP3 service.

    ``plaintext_login`` says where passwords are taken in clear: never,
    on a link that nobody else can listen to (loopback), or always.
    """

    full = b"-ERR [SYS/TEMP] too many connections; try again later\r\n"

    def __init__(
        self,
        portal: Portal,
        *,
        clock: IReactorTime,
        plaintext_login: str = "loopback",
        doors: Doors | None = None,
        entrance: Entrance | None = None,
    ) -> None:
        super().__init__(portal, clock, doors, entrance or Entrance("pop3"))
        self._plaintext_login = plaintext_login

    def _conversation(self) -> POP3Conversation:
        return POP3Conversation(self)

    def terms(self, client: Client, bindings: Mapping[str, bytes]) -> Terms:
        """On which terms a client is here, over the link that it has."""
        return Terms(
            passwords=self.takes_passwords(client), encrypted=client.encrypted, bindings=bindings
        )

    def takes_passwords(self, client: Client) -> bool:
        """Whether this client may send its password over the link that it has."""
        if client.encrypted or self._plaintext_login == "always":
            return True
        return self._plaintext_login == "loopback" and client.local
