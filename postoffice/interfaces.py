"""
The plugin interfaces: what a store, an account directory and a policy must do.

A method that returns an Awaitable may be ``async def``. No method blocks. A method
reports a failure by raising a ``PostOfficeError``. Any other exception counts as a bug in
the implementation: the daemon logs the traceback, and the client gets a temporary error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any, NamedTuple, Protocol, TypeVar, TypeVarTuple

from zope.interface import Attribute, Interface

from postoffice import moved
from postoffice.model.address import NO_NOTE, Account, Address, Quota, StateNote
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.config_values import Key
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Entry, Listing
from postoffice.model.mail_policy import KeepTimes, MailPolicy
from postoffice.model.reply import Reply

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Executor(Protocol):
    """Runs blocking functions outside of the reactor's thread."""

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Awaitable[T]:
        """
        Call ``function(*args)`` on another thread; return its result, or raise what it raised.

        Cancelling the wait does not stop the function. If the function acquires something
        that must be released, the caller releases it, even when the caller's wait was
        cancelled.
        """


class Closeable(Protocol):
    """What a child process makes."""

    def close(self) -> None:
        """Release what it holds; nothing runs any more."""


Made = TypeVar("Made", bound=Closeable, covariant=True)


class ChildProcess(Protocol[Made]):
    """
    Runs functions in a process of its own, for work that needs much CPU.

    The child process makes one object when it starts, and passes that object as the first
    argument to each function. If the child dies, calls in progress fail with a
    TemporaryFailure, although the child may have done them; the child may be started
    again.

    ``memory`` is shared with the child: octets that both can read and write at any time,
    without a copy through a pipe.  Which part belongs to which call is up to the caller.
    """

    memory: mmap

    @property
    def ready(self) -> bool:
        """Whether the child process is running; call ``run()`` only if so."""

    def run(self, function: Callable[[Made, *Args], T], *args: *Args) -> Awaitable[T]:
        """Call ``function(made, *args)`` in the child; only while it is ready."""

    def start(self) -> None:
        """Start the child process, unless it is starting or running, or died a moment ago."""

    async def stop(self) -> None:
        """Finish the calls in progress, close the object in the child, and end the child."""


class MakeChildProcess(Protocol):
    """Makes a ChildProcess; the process starts when its ``start()`` is called."""

    def __call__(
        self, name: str, make: Callable[[*Args, mmap], Made], *args: *Args, memory: int
    ) -> ChildProcess[Made]:
        """
        The child calls ``make(*args, memory)`` to make an object that has ``close()``.

        All can be pickled.  ``memory``: how many octets of memory both share; the child
        gets them as an ``mmap``.
        """


# -- storing mail -------------------------------------------------------------


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
        or the error (LMTP, RFC 2033 §4.2). It does not raise errors that concern single
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


class IDestination(Interface):
    """Takes deliveries: a store of maildrops."""

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """
        Begin a delivery to ``envelope.recipients`` (at least one, by their ``account.maildrop``).

        No field of any account's ``quota`` is None.

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
    ``serving`` says about other sessions and about the time between logins; so it may
    raise LoginTooSoon even if ``login_delay`` is 0.
    """

    def open(
        login_delay: float = 0,
        give_way: Callable[[], bool] | None = None,
        gone: Callable[[], bool] | None = None,
    ) -> Awaitable[Listing]:
        """
        Like ``IMaildrop.open``; ``serving`` decides what happens if another session has the lock.

        This session calls ``give_way`` when another login may take over. The function
        ends this session, with ``release()``, and returns True; or it returns False if
        this session does not end now. Without ``give_way`` nothing takes over this
        session. ``gone`` returns whether the client has left; then this login does not
        wait for the lock.
        """

    account = Attribute("Account: the owner of the maildrop")
    serving = Attribute("MailPolicy: the policy that applies; no field is None")
    announced = Attribute("Announced: what CAPA tells the client")

    def update(
        removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> Awaitable[int]:
        """
        End the session after QUIT: remove the messages marked deleted, as ``remove`` does.

        ``collected`` are messages that RETR sent whole and that are not among
        ``removed``; ``serving`` decides what happens to them. Returns how many messages
        were removed; raises as ``remove``.
        """


class IText(Interface):
    """The text of one message, read in pieces."""

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


#: Progress callback: called with the number of steps done, and the number of all steps.
Step = Callable[[int, int], object]


@dataclass(frozen=True)
class MaildropUsage:
    """
    What a maildrop holds, and what its vault holds (the vault keeps removed mail for a while).

    ``oldest`` is when the oldest message arrived, ``login`` when a client last logged in:
    seconds since 1970, or None.
    """

    name: str
    messages: int
    octets: int
    oldest: float | None = None
    login: float | None = None
    vault_messages: int = 0
    vault_octets: int = 0


@dataclass(frozen=True)
class PurgeCriteria:
    """
    Which messages a purge removes.

    Messages older than so many seconds, messages larger than so many octets, and then the
    oldest of the rest until the maildrop is within ``quota``.
    """

    older_than: float | None = None
    larger_than: int | None = None
    quota: Quota | None = None


@dataclass(frozen=True)
class VaultSession:
    """The messages that one session removed from a maildrop and that can be restored."""

    session: str
    time: float
    messages: int
    octets: int


@dataclass(frozen=True)
class Finding:
    """A problem in a maildrop, and whether it was repaired."""

    path: str
    what: str
    mended: bool


class IMaildropMaintenance(Interface):
    """
    Optional interface of a store: maintenance by the ``postoffice`` command.

    Names are names of maildrops (``account.maildrop``). While a session holds a maildrop,
    a method that would change that maildrop raises MaildropLocked.
    """

    def holdings(step: Step | None = None) -> Awaitable[Sequence[MaildropUsage]]:
        """Return the usage of all maildrops, also of removed accounts; a step is one maildrop."""

    def strays() -> Awaitable[Sequence[Finding]]:
        """Return the files that lie where no account's maildrop can be."""

    def purge(
        name: str, which: PurgeCriteria, dry: bool, step: Step | None = None
    ) -> Awaitable[tuple[int, int]]:
        """
        Remove messages, or with ``dry`` only select them; return how many, and their octets.

        A step is one message.
        """

    def kept(name: str) -> Awaitable[Sequence[VaultSession]]:
        """Return the sessions whose removed messages can be restored, oldest first."""

    def undelete(name: str, session: str, since: float) -> Awaitable[int]:
        """
        Restore what one session removed, or if it is "" all that was removed since a time.

        Returns how many messages were restored. They keep their dates and UIDLs.
        """

    def verify(
        name: str, quota: Quota, repair: bool, step: Step | None = None
    ) -> Awaitable[Sequence[Finding]]:
        """
        Check all files of a maildrop; with ``repair`` also make the repairs that are safe.

        A step is one message.
        """


class Piece(NamedTuple):
    """
    A file of a store: its name in the backup, ``DOMAIN/LOCALPART/…``, and its path on disk now.

    ``uidl`` is the UIDL if the file is a message; it never changes. ``empty`` means that
    the file has no content and only its time matters.
    """

    name: str
    path: str
    uidl: str = ""
    empty: bool = False
    aside: bool = False


class IStoreBackup(Interface):
    """Optional interface of a store of files: ``postoffice backup`` and ``restore`` need it."""

    path = Attribute("str: the folder of all maildrops")

    def settle() -> Awaitable[None]:
        """Wait until all accepted mail is visible in the folders. Raises TemporaryFailure."""

    def folder_of(name: str) -> str:
        """Return the folder of a maildrop, as ``DOMAIN/LOCALPART``."""

    def folders() -> Awaitable[Sequence[tuple[str, int]]]:
        """Return the folders of all maildrops, each with about how many files it has."""

    def pieces(folder: str) -> Awaitable[Sequence[Piece]]:
        """Return all files of a maildrop. Raises TemporaryFailure."""

    def find_again(piece: Piece) -> Piece | None:
        """Return where a message that has moved is now; None if the message is gone."""

    def removed() -> Iterator[Piece]:
        """Return the kept mail of removed accounts."""

    def staging(folder: str) -> Awaitable[str]:
        """Make a new folder for messages that will be restored into a maildrop; return its path."""

    def put_back(folder: str, staging: str) -> Awaitable[tuple[int, int]]:
        """
        Move the staged messages into the maildrop, except those that it already has.

        Returns how many were moved and how many were there already. Raises MaildropLocked
        while a session holds the maildrop.
        """


class IRetention(Interface):
    """
    Optional interface of a store: expire mail.

    Without it mail stays until somebody deletes it, and POP3 clients are told so (EXPIRE
    NEVER).
    """

    def collect(
        name: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
    ) -> Awaitable[Sequence[Entry]]:
        """
        Record that a device has collected these messages; return those that now count as collected.

        ``device`` is as in ``Account.device``, ``devices`` as in ``KeepTimes``. The
        caller is the session that holds the lock of this maildrop. The record may get
        lost; mail then stays longer than set, and never goes early.
        """

    def expire(name: str, keep: KeepTimes, dry: bool) -> Awaitable[tuple[int, int]]:
        """
        Remove expired messages, or with ``dry`` only select them; return their number and octets.

        Raises MaildropLocked if there are expired messages and a session holds the
        maildrop.
        """


# -- accounts -----------------------------------------------------------------


class IAccountDirectory(Interface):
    """Finds accounts and local domains. Names and domains are normalized (``Address.normal``)."""

    def start() -> Awaitable[None]:
        """Get ready; see ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """Release all resources; no calls come after this one."""

    def find(name: str) -> Awaitable[Account | None]:
        """
        Return the account that receives mail for this address, as it is now, or None.

        Each value of ``quota`` and of ``serving`` that the account does not set comes
        from its domain, if the domain sets it. Raises TemporaryFailure if the directory
        cannot answer.
        """

    def serves(domain: str) -> Awaitable[bool]:
        """Return whether the domain is a local one, as of now. Raises as ``find``."""


class IAccountSettings(Interface):
    """
    Optional interface of a directory whose accounts may have settings of their own.

    If a directory does not provide it, POP3 clients see the configured settings in CAPA
    before they log in.
    """

    def sayings() -> Awaitable[Collection[tuple[Quota, MailPolicy]]]:
        """
        Return the ``quota`` and ``serving`` of all accounts, as ``find`` does; each pair once.
        """


class IAppPasswords(Interface):
    """Optional interface of a directory: accounts have devices, each with an app password."""

    def devices(name: str) -> Awaitable[Sequence[AppPassword]]:
        """
        Return all devices of an account, as they are now, sorted by name, also expired ones.

        Returns none if there is no such account. Raises as ``find``.
        """


class IAccountRegister(IAccountDirectory, IAppPasswords):
    """A directory that the ``postoffice`` command can write to."""

    def domains() -> Awaitable[list[str]]:
        """Return all domains, sorted."""

    def accounts(domain: str | None = None) -> Awaitable[list[Account]]:
        """Return all accounts, or those of one domain, sorted by address."""

    def add_domain(domain: str) -> Awaitable[bool]:
        """Add a domain; False if it exists already."""

    def remove_domain(domain: str) -> Awaitable[bool]:
        """
        Remove a domain; False if it does not exist.

        Raises NotEmpty while it has accounts or aliases, or another domain is the same as it.
        """

    def add(
        name: str, secret: str | None, scram: str | None = None, maildrop: str | None = None
    ) -> Awaitable[bool]:
        """
        Add an account in a local domain; False if an account or an alias has this name already.

        ``secret``, ``scram`` and ``maildrop`` are as in ``Account``. Give ``maildrop``
        for a restored account; otherwise the name comes from ``maildrop_for``.

        Raises LookupError if the domain is not local.
        """

    def maildrop_for(name: str) -> Awaitable[str]:
        """
        Return the name of the maildrop that a new account of this name gets.

        It is the account's name, unless a renamed account still uses the maildrop of that
        name: no account may get another's mail.
        """

    def rename(name: str, new: str) -> Awaitable[bool]:
        """
        Give an account another name; it keeps its maildrop, its devices and all else.

        Targets of aliases, forwards and catch-alls that were this account follow it.

        False if there is no such account, or if the new name is taken. Raises LookupError
        if the domain is not local.
        """

    def set_secret(name: str, secret: str | None, scram: str | None = None) -> Awaitable[bool]:
        """
        Set or remove an account's password: its hash, and the SCRAM keys of the same password.

        False if there is no such account.
        """

    def keep_scram(name: str, secret: str, scram: str, new: str | None = None) -> Awaitable[bool]:
        """
        Store the SCRAM keys of a password if its hash is still ``secret``; False if it is not.

        ``new`` is another hash of the same password, which replaces ``secret`` at the same
        moment.
        """

    def set_shared(name: str, shared: str | None) -> Awaitable[bool]:
        """
        Set or remove an account's shared secret; False if there is no such account.

        CRAM-MD5 needs this secret in clear; the directory stores it encrypted.
        """

    def add_device(name: str, device: AppPassword) -> Awaitable[bool]:
        """
        Add a device to an account; False if the account has one of that name already.

        Raises LookupError if there is no such account.
        """

    def remove_device(name: str, device: str) -> Awaitable[bool]:
        """
        Remove a device; its app password stops working at once. False if there is no such device.
        """

    def set_quota(name: str, quota: Quota) -> Awaitable[bool]:
        """
        Set an account's own quota; False if there is no such account.

        It replaces all of the account's own quota. A value of None means that the
        domain's value applies, or else the configured one.
        """

    def account_quota(name: str) -> Awaitable[Quota | None]:
        """Return the account's own quota; None if there is no such account."""

    def account_quotas(domain: str | None = None) -> Awaitable[Mapping[str, Quota]]:
        """
        Return the accounts' own quotas, of all or of one domain; accounts without one are left out.
        """

    def set_domain_quota(domain: str, quota: Quota) -> Awaitable[bool]:
        """
        Set the quota of a domain, for accounts without their own; False if there is no such domain.
        """

    def domain_quota(domain: str) -> Awaitable[Quota | None]:
        """Return the domain's quota; None if there is no such domain."""

    def set_serving(name: str, serving: MailPolicy) -> Awaitable[bool]:
        """
        Set an account's own mail policy; False if there is no such account.

        It replaces all of the account's own policy; None works as in ``set_quota``.
        """

    def account_serving(name: str) -> Awaitable[MailPolicy | None]:
        """Return the account's own mail policy; None if there is no such account."""

    def set_domain_serving(domain: str, serving: MailPolicy) -> Awaitable[bool]:
        """
        Set a domain's policy, for accounts without their own; False if there is no such domain.
        """

    def domain_serving(domain: str) -> Awaitable[MailPolicy | None]:
        """Return the domain's mail policy; None if there is no such domain."""

    def set_state(name: str, state: str, note: StateNote = NO_NOTE) -> Awaitable[bool]:
        """
        Set an account's state, one of ``model.address.STATES``, and who set it, when and why.

        False if there is no such account.
        """

    def remove(name: str) -> Awaitable[bool]:
        """
        Remove an account and its devices; False if there is no such account.

        Aliases that have it as a target stay as they are; see ``pointing_to``.

        It does not touch the account's mail; see ``IMailStore.discard``.
        """


class IAddresses(Interface):
    """
    Optional interface of a directory: it knows aliases, forwards and the settings of domains.

    A directory without this interface has accounts and plain domains; it is asked with
    ``find`` and ``serves``.
    """

    def look_up(name: str) -> Found | Awaitable[Found]:
        """
        Return the record of a name's domain, and the account or alias of exactly this name.

        ``name`` is in normal form; "@DOMAIN" asks for the domain only. The account is
        what ``find`` returns, and the domain is not None if ``serves`` returns True. A
        directory that knows the answer already returns it at once, otherwise it returns
        an awaitable; tags, aliases and catch-alls are followed by the caller
        (``accounts.addresses``). Raises TemporaryFailure, now or when awaited, if the
        directory cannot answer.
        """


class IAddressRegister(IAddresses):
    """
    A directory whose aliases and domains the ``postoffice`` command can write to.

    The command checks what it saves with ``accounts.address_checks`` before.
    """

    def aliases(
        domain: str | None = None, after: str = "", most: int = 1000
    ) -> Awaitable[list[Alias]]:
        """Return aliases with names after ``after``, of all domains or of one, sorted by name."""

    def add_alias(alias: Alias) -> Awaitable[bool]:
        """
        Add an alias; False if an account or an alias has this name already.

        Raises LookupError if the domain is not local.
        """

    def set_alias(alias: Alias) -> Awaitable[bool]:
        """Replace an alias; False if there is none of this name."""

    def remove_alias(name: str) -> Awaitable[bool]:
        """Remove an alias; False if there is none of this name."""

    def set_forward(name: str, forward: Sequence[Address], keep_copy: bool) -> Awaitable[bool]:
        """Set where an account's mail goes; False if there is no such account."""

    def set_domain(domain: Domain) -> Awaitable[bool]:
        """Replace what ``Domain`` says of a domain; False if there is no such domain."""

    def pointing_to(name: str) -> Awaitable[list[str]]:
        """
        Return what has this address as a target, sorted: aliases, accounts that forward to it.

        A catch-all is called ``*@DOMAIN``. For "@DOMAIN" the answer is what has targets
        anywhere in this domain, and "@OTHER" for each domain that is the same as it.
        """


# -- receiving ----------------------------------------------------------------


class IReception(Interface):
    """
    The avatar of an SMTP or LMTP session: receives mail from one client.

    The ``mind`` of its login is the session's ``SessionInfo``. Methods return replies. If
    ``recipient`` returns a positive reply, it has named the recipient in the envelope
    (``Envelope.name``).
    """

    login = Attribute("str: the address of the account that logged in; empty without a login")

    def connected() -> Awaitable[Reply | None]:
        """
        The client has connected and has no greeting yet: None, or a reply that disconnects it.
        """

    def hello() -> Awaitable[Reply | None]:
        """EHLO, HELO or LHLO, with the name in ``session_info.hello``: None, or a refusal."""

    def sender(envelope: Envelope) -> Awaitable[Reply]:
        """MAIL, with the sender in ``envelope.sender``."""

    def recipient(envelope: Envelope, address: Address | None) -> Awaitable[Reply]:
        """RCPT; the address None stands for ``<Postmaster>`` without a domain (RFC 5321 §4.5.1)."""

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """DATA: begin a delivery to all recipients, and write its trace fields."""

    def judge(envelope: Envelope, delivery: IDelivery) -> Awaitable[Reply | None]:
        """
        The text is complete and not yet committed: None, or a refusal.

        When it returns, it has already added the header fields of the policies to the
        delivery.
        """


@dataclass(frozen=True)
class Fields:
    """Header fields that a policy adds to the top of a message: whole lines, each with CRLF."""

    octets: bytes


#: A policy's answer: None (no objection), a refusal (4yz or 5yz), or header fields to add.
Opinion = Reply | Fields | None


class IPolicy(Interface):
    """
    Decides whether to accept mail.

    Only the methods named in ``stages`` are called. After a refusal, the policies that
    come later in the list are not asked. A method that cannot decide may raise
    TemporaryFailure; the setting ``on_failure`` says what happens then, and ``timeout``
    how long a method may take.
    """

    stages = Attribute(
        "Collection[str]: the methods to call, of connect, hello, sender, recipient, text"
    )

    def start() -> Awaitable[None]:
        """Get ready; see ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """Release all resources; no calls come after this one."""

    def connect(session_info: SessionInfo) -> Awaitable[Opinion]:
        """A client has connected and has no greeting yet; a refusal ends the session."""

    def hello(session_info: SessionInfo) -> Awaitable[Opinion]:
        """EHLO or HELO; the client's name for itself is in ``session_info.hello``."""

    def sender(envelope: Envelope) -> Awaitable[Opinion]:
        """MAIL, with the sender in ``envelope.sender``."""

    def recipient(envelope: Envelope, recipient: Recipient) -> Awaitable[Opinion]:
        """RCPT, for a local account that is not yet among ``envelope.recipients``."""

    def text(envelope: Envelope, text: IText) -> Awaitable[Opinion]:
        """The whole message, as the maildrop will keep it; a refusal is for all recipients."""


# -- plugins ------------------------------------------------------------------


@dataclass(frozen=True)
class PluginContext:
    """
    What the daemon or the command passes to a maker.

    A store warns the owner of a maildrop when its usage reaches one of ``warnings``, in
    percent of the quota. ``warning_text`` is the mail to send: its subject, an empty
    line, and the body, with $address, $percent, $used and $limit; if it is empty, the
    store uses its own text. ``child_process`` makes a child process; it is None in a
    command.
    """

    reactor: Any  # IReactorTime, IReactorThreads, …
    executor: Executor
    state: str  # absolute path of the state folder
    hostname: str
    warnings: Sequence[int] = ()
    warning_text: str = ""
    child_process: MakeChildProcess | None = None

    @property
    def workers(self) -> Executor:
        """The executor, by the name that it had in 0.1."""
        return self.executor

    @property
    def apart(self) -> MakeChildProcess | None:
        """``child_process``, by the name that it had in 0.1."""
        return self.child_process


class IMaker(Interface):
    """
    Makes a store, a directory or a policy from its settings.

    ``twisted.plugin.getPlugins`` finds makers. A maker imports the code of what it makes
    in ``make()``, not earlier.
    """

    kind = Attribute("str: the value of ``kind:`` in the YAML that selects this maker")
    keys: Sequence[Key] = Attribute("the other keys; they are checked before ``make`` is called")


class IStoreMaker(IMaker):
    """Makes an IMailStore, for ``store:``."""

    def make(options: Mapping[str, Any], context: PluginContext) -> IMailStore:
        """
        Make the store; it touches no file before its ``start()``.

        ``options`` has a value for each of ``keys``. Raises SettingError.
        """


class IDirectoryMaker(IMaker):
    """Makes an IAccountDirectory, for ``accounts:``."""

    def make(options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        """See ``IStoreMaker.make``."""


class IPolicyMaker(IMaker):
    """
    Makes an IPolicy, for ``policies:``.

    Every policy has the keys ``services`` (the services whose mail it checks),
    ``timeout`` and ``on_failure`` besides its own. If a maker has a key of the same name,
    the default of that key replaces the common one.
    """

    def make(options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        """See ``IStoreMaker.make``."""


#: Names of 0.1 and what they are now; plugins can use the old names for one version.
_RENAMED = {
    "Workers": "Executor",
    "Surroundings": "PluginContext",
    "IDevices": "IAppPasswords",
    "IAccountSayings": "IAccountSettings",
    "IMaildropCare": "IMaildropMaintenance",
    "ICollection": "IMailbox",
    "Holding": "MaildropUsage",
    "Old": "PurgeCriteria",
    "Kept": "VaultSession",
}


def __getattr__(name: str) -> Any:
    return moved.renamed(__name__, name, _RENAMED, globals())
