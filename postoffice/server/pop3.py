"""POP3 on a transport: answers the session's questions with the portal and the mailbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from secrets import token_urlsafe
from typing import assert_never

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from postoffice.interfaces import IMailbox, IMaildrop, IText
from postoffice.model import log_events
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.listing import Entry, uidls_of
from postoffice.model.log_event import portions
from postoffice.model.mail_policy import AnnouncedPolicy
from postoffice.pop3.options import POP3Limits, POP3Options
from postoffice.pop3.questions import (
    Announce,
    Answer,
    Enough,
    Enter,
    Entered,
    Fetch,
    More,
    POP3Question,
    Update,
)
from postoffice.pop3.session import POP3Session
from postoffice.protocol.questions import Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.login_connection import LoginConnection, LoginFactory, LoginOptions, Salts

#: Seconds of silence after which another login may take over the session's maildrop.
GIVES_WAY = 10.0
#: Log lines that are written in one turn of the reactor.
SLICE = 200
#: The default: plain passwords, which every account has.
BY_PASSWORD = LoginOptions(("PLAIN", "LOGIN"))


class POP3Connection(LoginConnection[POP3Question, Answer]):
    """One POP3 client."""

    session: POP3Session | None = None
    factory: POP3Factory
    timeout = 600  # RFC 1939 §3: at least ten minutes; then the link closes without UPDATE
    starttls = "STLS"

    def __init__(self, factory: POP3Factory) -> None:
        super().__init__(factory)
        self._mailbox: IMailbox | None = None
        self._logout: Callable[[], object] | None = None
        self._text: IText | None = None
        self._deleted = 0

    def _account(self) -> str:
        """Also the account of a client that is authenticated and waits for its maildrop."""
        waiting = self._mailbox
        return super()._account() or ("" if waiting is None else waiting.account.address)

    def _new_session(self) -> POP3Session:
        self._renew_session_info()
        options = self.factory.options(self.client, self._bindings)
        return POP3Session(options, self.factory.limits)

    def _login_required(self) -> bool:
        return self.session is not None and self.session.state == "authorization"

    def _tls_started(self) -> None:
        """TLS began after STLS: forget the client's earlier authentication, which was in clear."""
        self._release()
        self._renew_session_info()

    def _renew_session_info(self) -> None:
        self._session_info = SessionInfo(
            self.id, self.factory.listener_options.service, self.client, tls=self._tls
        )

    def ask(self, question: POP3Question) -> Answer | Awaitable[Answer]:
        assert self.session is not None
        if self.session.refusals.new:
            self._log_refusals()
        match question:
            case Fetch():
                return self._fetch(question)
            case More():
                return self._more()
            case Enough():
                self._enough()
            case Secure():
                self._secure()
            case SaltOf():
                return self._salt(question)
            case Prove():
                return self._prove(question)
            case Announce():
                return self._announce()
            case Enter():
                return self._enter()
            case Update():
                return self._update(question)
            case _:
                assert_never(question)
        return None

    # -- login ---------------------------------------------------------------------

    async def _prove(self, question: Prove) -> None:
        self._release()  # an earlier authentication whose login was not completed
        self._mailbox, self._logout = await self._authenticate(question, IMaildrop)

    async def _enter(self) -> Entered:
        session, mailbox = self.session, self._mailbox
        assert session is not None
        assert mailbox is not None
        try:
            listing = await mailbox.open(give_way=self._give_way, gone=self._input_closed)
        except BaseException:
            self._release()
            raise
        self._logged_in(mailbox.account.address)
        return Entered(listing, _with_announced(session.options, mailbox.announced))

    async def _announce(self) -> POP3Options:
        assert self.session is not None
        assert self.factory.announced is not None
        return _with_announced(self.session.options, await self.factory.announced())

    # -- messages ------------------------------------------------------------------

    async def _fetch(self, question: Fetch) -> Sequence[bytes]:
        assert self._mailbox is not None
        text = self._text = await self._mailbox.fetch(question.entry)
        octets = await text.read()
        if len(octets) < question.entry.size:
            return [octets]
        self._enough()
        return [octets, *getattr(text, "following", ())]

    async def _more(self) -> bytes:
        assert self._text is not None
        return await self._text.read()

    def _enough(self) -> None:
        text, self._text = self._text, None
        if text is not None:
            text.close()

    async def _update(self, question: Update) -> int:
        """Remove messages; release the lock before the reply, so that the client can reconnect."""
        mailbox = self._mailbox
        assert mailbox is not None
        try:
            removed = await mailbox.update(question.entries, question.collected, self.id)
        finally:
            self._release()
            deleted = getattr(mailbox, "deleted", ())
            self._deleted = len(deleted)
            self._log_deleted(iter(deleted))
        if question.collected:
            gone = set(uidls_of(deleted))
            kept = [uidl for uidl in uidls_of(question.collected) if uidl not in gone]
            self._log_collected(len(kept), portions(kept) if kept else iter(()))
        return removed

    def _log_deleted(self, entries: Iterator[Entry]) -> None:
        """Log each removed message, at most ``SLICE`` in one turn of the reactor."""
        slice_ = list(islice(entries, SLICE))
        for entry in slice_:
            self.log(log_events.MESSAGE_DELETED, uidl=entry.uidl)
        if len(slice_) == SLICE:
            self._clock.callLater(0, self._log_deleted, entries)

    def _log_collected(self, messages: int, uidls: Iterator[str]) -> None:
        """Log what was collected and stays, at most ``SLICE`` messages in one turn."""
        slice_ = list(islice(uidls, SLICE // 20))  # as many as fit into a line
        for portion in slice_:
            self.log(log_events.MESSAGES_COLLECTED, messages=messages, uidls=portion)
        if len(slice_) == SLICE // 20:
            self._clock.callLater(0, self._log_collected, messages, uidls)

    def _input_closed(self) -> bool:
        """
        Whether the client has closed its side and sent nothing after its login.

        TCP does not tell whether such a client is gone.  Its login gets no
        maildrop, and does not end another session.
        """
        assert self.session is not None
        return self._input_ended and not self.session.unread

    def _give_way(self) -> bool:
        """
        End this session for another login, if this client is silent; return whether it ended.

        A client is not silent while it waits for our answer or takes our output.
        No message is removed.  The client is told that the session was taken over.
        """
        assert self.session is not None
        if self._measure_silence() < GIVES_WAY:
            return False
        self.log(log_events.TAKEN_OVER)
        in_the_middle = self.loop.blocked
        self.session.refusals.hear(b"")
        self.session.dismiss(
            None if in_the_middle else "another login has taken over this maildrop", "IN-USE"
        )
        self._release()
        if in_the_middle:
            self.abort()
        else:
            self._hang_up()
        return True

    def _release(self) -> None:
        self._enough()
        if self.session is not None:
            self.session.transaction.end()
        logout, self._logout, self._mailbox = self._logout, None, None
        if logout is not None:
            logout()

    def _client_gone(self) -> None:
        assert self.session is not None
        self._release()
        super()._client_gone()

    def _session_counts(self) -> dict[str, object]:
        assert self.session is not None
        return {"retrieved": self.session.transaction.retrieved, "deleted": self._deleted}

    def _end_session(self, *, silent: bool) -> None:
        """
        End the session; a client that timed out gets no reply (RFC 1939 §3).

        The maildrop is released at once, however long the connection takes to close.
        """
        super()._end_session(silent=silent)
        assert self.session is not None
        self.session.refusals.hear(b"")
        self.session.dismiss(None if silent else "the post office is closing", "SYS/TEMP")
        self._release()

    def _hang_up(self) -> None:
        """Release the maildrop at once, however long the client takes to close its side."""
        assert self.session is not None
        self._release()
        if self.session.broken:
            self.transport.abortConnection()
        else:
            super()._hang_up()


def _with_announced(options: POP3Options, announced: AnnouncedPolicy) -> POP3Options:
    return replace(options, expire=announced.expire, login_delay=announced.login_delay)


class POP3Factory(LoginFactory):
    """
    The factory of one POP3 service.

    ``hostname`` is used in APOP timestamps and SASL challenges.  APOP is offered
    if it is among the mechanisms of ``login_options``.  ``announced`` returns what
    CAPA says before a login.
    """

    full = b"-ERR [SYS/TEMP] too many connections; try again later\r\n"
    not_yet = b"-ERR [SYS/TEMP] the post office is starting; try again later\r\n"

    def __init__(
        self,
        portal: Portal,
        *,
        clock: IReactorTime,
        hostname: str = "localhost",
        login_options: LoginOptions = BY_PASSWORD,
        limits: POP3Limits | None = None,
        connection_limits: ConnectionLimits | None = None,
        listener_options: ListenerOptions | None = None,
        salts: Salts | None = None,
        announced: Callable[[], Awaitable[AnnouncedPolicy]] | None = None,
    ) -> None:
        super().__init__(
            portal, clock, connection_limits, listener_options or ListenerOptions("pop3"), salts
        )
        self.hostname = hostname
        self.login_options = login_options
        self.limits = limits or POP3Limits()
        self.announced = announced

    def _connection(self) -> POP3Connection:
        return POP3Connection(self)

    def options(self, client: Client, bindings: Mapping[str, bytes]) -> POP3Options:
        """The session options for this client on its present connection."""
        mechanisms = self.login_options.mechanisms
        return POP3Options(
            hostname=self.hostname,
            mechanisms=tuple(name for name in mechanisms if name != "APOP"),
            passwords=self.login_options.takes_passwords(client),
            starttls=self.listener_options.certificates is not None and not client.encrypted,
            encrypted=client.encrypted,
            bindings=bindings,
            stamp=f"<{token_urlsafe(24)}@{self.hostname}>" if "APOP" in mechanisms else "",
            known=self.announced is None,
        )
