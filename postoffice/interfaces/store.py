"""A store of mail, its maildrops, deliveries into them, and texts read from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from zope.interface import Attribute, Interface

from postoffice.model.address import Account
from postoffice.model.envelope import Envelope
from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Entry, Listing


class IDelivery(Interface):
    """
    One incoming message: written, then committed or aborted; one text for all recipients.

    The text is written in the form that the maildrop keeps: CRLF line ends, trace fields
    first, no dot-stuffing. If all recipients get the message under one UIDL and the
    delivery knows it, it may offer it as an attribute ``uidl`` (str), for the log.
    """

    def write(data: bytes) -> Awaitable[None]:
        """
        Append to the text.

        It returns when the caller may write more. A slow disk delays the return, so that
        memory use stays bounded whatever the size of the message.
        """

    def commit() -> Awaitable[None]:
        """
        Make the message durable in the maildrops of all recipients, or of none.

        When it returns, the message is on stable storage and POP3 clients can fetch it.
        When it raises, no recipient has the message, and trying again may help.
        """

    def commit_each() -> Awaitable[Sequence[PostOfficeError | None]]:
        """
        Make the message durable in the maildrop of each recipient for whom this is possible.

        Returns one item for each of ``envelope.recipients``, in order: None for success,
        or the error (LMTP, RFC 2033 §4.2). One more item, at the end, is for the queue if
        ``envelope.queued`` is not empty. It does not raise errors that concern single
        recipients. For a recipient with None the message is as durable as after
        ``commit()``.
        """

    def text() -> Awaitable[IText]:
        """
        Read all that was written so far, from the start.

        For policies and others that examine a message before it is committed. The caller
        writes nothing while it reads, and closes the text before it calls another method.
        """

    def prepend(fields: bytes) -> Awaitable[None]:
        """
        Insert header fields (whole lines with CRLF) before all that was written so far.

        It may cost as much as writing the text again.
        """

    def abort() -> None:
        """
        Discard the message; allowed at any time, also twice; does nothing after a commit.

        The store cleans up what is already on disk in the background.
        """


class IQueuedDelivery(Interface):
    """Optional interface of a delivery that is for the queue, too."""

    def withdraw() -> None:
        """
        Do not put the message into the queue after all.

        It is called before the commit, and only if there are recipients with maildrops.
        """


class IDestination(Interface):
    """Takes deliveries: a store of maildrops."""

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """
        Begin a delivery to ``envelope.recipients``, by their ``account.maildrop``.

        If ``envelope.queued`` is not empty, the message is for the store's queue too
        (``IQueueStore``), or for that alone; else there is at least one recipient. No field of
        any account's ``quota`` is None.

        Raises TemporaryFailure if the store already knows that it cannot keep the
        message.
        """

    def admit(account: Account, size: int) -> Awaitable[None]:
        """
        Check whether a message of ``size`` octets (0: unknown) fits the account's quota.

        The answer is a hint: it may be yes although the commit will fail, and then the
        commit raises the error. Raises MaildropFull or MaildropFullNow, by
        ``account.quota.over``, and TemporaryFailure.
        """


class IMaildrop(Interface):
    """
    One account's mail, as a POP3 session uses it: open, fetch, remove, release.

    One object serves one session; all sessions of a maildrop share its one lock.
    """

    def open(login_delay: float = 0) -> Awaitable[Listing]:
        """
        Lock the maildrop and list its messages, oldest first.

        The Listing does not change until ``release()``; mail that arrives meanwhile
        appears at the next login. Sizes are in octets as sent: CRLF line ends, before
        dot-stuffing (RFC 1939 §4, §11). The store opens a message file at most once in
        its life to learn these sizes, and the size of its downgraded form
        (``Entry.downgraded``).

        The lock excludes every other session in every process. If its holder dies, the
        lock is free at once. If ``open()`` is cancelled while it waits, it leaves no
        lock.

        Raises MaildropLocked if another session holds the lock, and LoginTooSoon if the
        maildrop was opened less than ``login_delay`` seconds ago; an attempt that was
        refused does not count as opening. If both apply, raise LoginTooSoon: a client
        that comes too soon must neither wait for the lock nor take it over.
        """

    def fetch(entry: Entry) -> Awaitable[IText]:
        """
        Begin to read one message of the Listing.

        Raises MessageGone if the message no longer exists, or cannot be sent in exactly
        ``entry.size`` octets.
        """

    def remove(entries: Sequence[Entry], session: str = "") -> Awaitable[None]:
        """
        Remove messages (UPDATE state); the removal is durable when this returns.

        A message that is already gone counts as removed. ``session`` is the id of the
        session that removes; a store that keeps removed mail for a while finds the
        messages again by this id. Raises NotAllRemoved, which tells how many are gone, if
        some remain; any other TemporaryFailure means that no message was removed.
        """

    def release() -> None:
        """Release the lock; allowed at any time, also twice, also without ``open()``."""


class IMailbox(IMaildrop):
    """
    The avatar of a POP3 login: an account's maildrop, with the account's settings applied.

    The ``mind`` of the login is the session's ``SessionInfo``. ``open()`` applies what
    ``mail_policy`` says about other sessions and about the time between logins; so it may
    raise LoginTooSoon even if ``login_delay`` is 0.
    """

    def open(
        login_delay: float = 0,
        give_way: Callable[[], bool] | None = None,
        gone: Callable[[], bool] | None = None,
    ) -> Awaitable[Listing]:
        """
        Like ``IMaildrop.open``; ``mail_policy`` says what happens if another session has the lock.

        This session calls ``give_way`` when another login may take over. The function
        ends this session, with ``release()``, and returns True; or it returns False if
        this session does not end now. Without ``give_way`` nothing takes over this
        session. ``gone`` returns whether the client has left; then this login does not
        wait for the lock.
        """

    account = Attribute("Account: the owner of the maildrop")
    mail_policy = Attribute("MailPolicy: the policy that applies; no field is None")
    announced = Attribute("AnnouncedPolicy: what CAPA tells the client")

    def update(
        removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> Awaitable[int]:
        """
        End the session after QUIT: remove the messages marked deleted, as ``remove`` does.

        ``collected`` are messages that RETR sent whole and that are not among
        ``removed``; ``mail_policy`` decides what happens to them. Returns how many messages
        were removed; raises as ``remove``.
        """


class IText(Interface):
    """
    The text of one message, read in pieces.

    If one piece is all of it, it may offer an attribute ``following`` (Sequence[bytes]): the
    whole texts of the next entries of the Listing, if they are in memory already. The caller
    does not fetch these entries again.
    """

    def read() -> Awaitable[bytes]:
        """
        Return the next octets, before dot-stuffing; ``b""`` at the end.

        All pieces together are exactly ``entry.size`` octets, and every line ends in
        CRLF. An implementation may read ahead, within bounds. Raises MessageGone if it
        cannot deliver that.
        """

    def close() -> None:
        """End reading; allowed at any time, also twice."""


class IMailStore(IDestination):
    """All maildrops."""

    def start() -> Awaitable[None]:
        """
        Get ready; the daemon or the command calls this once, before anything else.

        Raises TemporaryFailure or StartupError if the store cannot be used.
        """

    def stop() -> Awaitable[None]:
        """Finish what is in progress and release all resources; no calls come after this one."""

    def maildrop(name: str) -> IMaildrop:
        """
        Return the maildrop of that name (``account.maildrop``); it is created when first needed.
        """

    def count(name: str) -> Awaitable[tuple[int, int]]:
        """Return how many messages a maildrop holds, and their octets; takes no lock."""

    def discard(name: str, keep: bool) -> Awaitable[str]:
        """
        Empty a maildrop whose account is being removed: keep its mail elsewhere, or delete it.

        Afterwards a maildrop of that name starts empty. Returns the path of the mail that
        was kept (``keep``), or "". Raises MaildropLocked while a session holds the
        maildrop.
        """
