"""
The seams of the house: what each room asks of its neighbours.

All methods that return an Awaitable may be ``async def``; none blocks.  What
goes wrong is raised as a ``PostOfficeError``; any other exception is a fault
of the implementation, logged with its traceback, and "later" to the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from zope.interface import Attribute, Interface

from postoffice import moved
from postoffice.model.address import Account, Address, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.config_values import Key
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Entry, Listing
from postoffice.model.mail_policy import KeepTimes, MailPolicy
from postoffice.model.reply import Reply

T = TypeVar("T")


class Executor(Protocol):
    """Where blocking functions run: never on the reactor's thread."""

    def run(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """
        Call ``function(*args)`` elsewhere; the result, or what it raised.

        It runs to its end even if nobody waits any more: whoever is cancelled
        while waiting for a thing that must be given back sees to that.
        """


class ChildProcess(Executor, Protocol):
    """
    Workers in a process of their own, for what computes while others should.

    There, something was made once; it is the first argument of all that runs.
    A process that has died may be started again; what it was doing fails with
    a TemporaryFailure, and may have been done.
    """

    @property
    def ready(self) -> bool:
        """Whether it is there; only then is it asked for something."""

    def start(self) -> None:
        """Begin to get ready, if it does not yet, and has not died just now."""

    async def stop(self) -> None:
        """Do what was asked, close what was made, and end."""


class MakeChildProcess(Protocol):
    """Makes such workers; they start when they are asked to."""

    def __call__(self, name: str, make: Callable[..., Any], *args: Any) -> ChildProcess:
        """``make(*args)`` is called there, and has a ``close()``; all of it can be pickled."""


# -- keeping ------------------------------------------------------------------


class IDelivery(Interface):
    """
    One message on its way in: written, then committed or aborted; one text for all recipients.

    The text is as it shall lie in the maildrop: CRLF line ends, trace fields
    first, without dot-stuffing.  One that knows under which UIDL the message
    will lie with all its recipients may have an attribute ``uidl`` (str) that
    says so, for the log.
    """

    def write(data: bytes) -> Awaitable[None]:
        """
        Add to the text.

        It returns when more may be written; a slow disk makes it wait, and
        memory stays bounded whatever the size.
        """

    def commit() -> Awaitable[None]:
        """
        Make the message durable in the maildrop of each recipient, all or none.

        When it returns, the message is on stable storage and can be collected.
        When it raises, no recipient has it, and trying again may help.
        """

    def commit_each() -> Awaitable[Sequence[PostOfficeError | None]]:
        """
        Make the message durable in the maildrop of each recipient for whom that can be done.

        For each of ``envelope.recipients``, in order: None, or what was in the
        way (LMTP, RFC 2033 §4.2).  It does not raise for what concerns single
        recipients; whoever has None has it as after ``commit()``.
        """

    def text() -> Awaitable[IText]:
        """
        Read all that was written so far, from its start; nothing is written meanwhile.

        It is for those who look at a message before it is committed; closed
        before anything else is asked.
        """

    def prepend(fields: bytes) -> Awaitable[None]:
        """
        Put header fields (whole lines with CRLF) before all that was written so far.

        It may cost as much as writing the text again.
        """

    def abort() -> None:
        """
        Forget the message; allowed at any time, also twice, and after commit (does nothing).

        What is on disk already is cleaned up in the background.
        """


class IDestination(Interface):
    """Where a delivery can begin: a store of maildrops; later, a queue."""

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """
        Begin a delivery to ``envelope.recipients`` (at least one, by their ``account.maildrop``).

        Each account's ``quota`` is whole: none of it is None.

        Raises TemporaryFailure if it is known already that it cannot be kept.
        """

    def admit(account: Account, size: int) -> Awaitable[None]:
        """
        See whether a message of that many octets (0: who knows) has room with this account.

        It may say that there is room where there is none: whoever commits is
        told.  Raises MaildropFull, MaildropFullNow, as ``account.quota.over``
        says, and TemporaryFailure.
        """


class IMaildrop(Interface):
    """
    One account's mail, as a POP3 session sees it: open, fetch, remove, release.

    One object serves one session; the lock is the maildrop's.
    """

    def open(login_delay: float = 0) -> Awaitable[Listing]:
        """
        Take the maildrop's lock and number what is in it, oldest first.

        The Listing stays as it is until ``release()``; mail that arrives
        meanwhile waits for the next login.  Sizes are octets as they will be
        sent: CRLF line ends, before dot-stuffing (RFC 1939 §4, §11).  No message
        is opened for that, nor for its size in another form
        (``Entry.downgraded``), but once at the most.

        The lock excludes every other session in every process, and is gone at
        once when its holder dies.  Cancelled while it waits, it leaves no lock.

        Raises MaildropLocked if another session holds the lock, LoginTooSoon
        if somebody has opened it less than ``login_delay`` seconds ago; who
        was refused has not opened it.  Where both are so, LoginTooSoon is
        better: who comes too soon shall neither wait nor take over.
        """

    def fetch(entry: Entry) -> Awaitable[IText]:
        """
        Begin to read one message of the Listing.

        Raises MessageGone if it is no longer there, or cannot be sent in
        exactly ``entry.size`` octets.
        """

    def remove(entries: Sequence[Entry], session: str = "") -> Awaitable[None]:
        """
        Remove messages (UPDATE state); durable when it returns.

        What is gone already counts as removed.  ``session`` is the id of who
        does it; by that a store that keeps removed mail for a while finds it
        again.  Raises TemporaryFailure if some are still there: NotAllRemoved
        says how many are gone; any other, that none is.
        """

    def release() -> None:
        """Give the lock back; allowed at any time, also twice, also without ``open()``."""


class IMailbox(IMaildrop):
    """
    The avatar that serves mail: an account's maildrop, on the account's terms.

    The ``mind`` of its login is the session's ``SessionInfo``.  ``open()`` keeps to
    what ``serving`` says of other sessions and of the time between logins;
    it raises LoginTooSoon besides what it raises already.
    """

    def open(
        login_delay: float = 0,
        give_way: Callable[[], bool] | None = None,
        gone: Callable[[], bool] | None = None,
    ) -> Awaitable[Listing]:
        """
        As ``IMaildrop.open``, and as ``serving`` says where another session holds the maildrop.

        ``give_way`` is called when another login may take over: it ends this
        session, with ``release()``, and says True; or says that it does not
        end now.  Without it this session stays.  ``gone`` says whether its
        client would do nothing with the maildrop: then nobody waits for it.
        """

    account = Attribute("Account: whose it is")
    serving = Attribute("Serving: none of it is None")
    announced = Attribute("Announced: what its client is told")

    def update(
        removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> Awaitable[int]:
        """
        The session ends with QUIT: remove what was marked deleted, as ``remove`` does.

        ``collected`` are messages that were sent whole, by RETR, and are not
        among ``removed``; what becomes of them is said in ``serving``.
        Returns how many messages are gone; raises as ``remove``.
        """


class IText(Interface):
    """The text of one message, read in pieces."""

    def read() -> Awaitable[bytes]:
        """
        The next octets, as they are sent before dot-stuffing; ``b""`` at the end.

        Together they are exactly ``entry.size`` octets, every line ends in
        CRLF, and an implementation may read ahead, within bounds.  Raises
        MessageGone if that cannot be kept.
        """

    def close() -> None:
        """No more will be read; allowed at any time, also twice."""


class IMailStore(IDestination):
    """All maildrops."""

    def start() -> Awaitable[None]:
        """
        Get ready: called once, before anything else; by the command, too.

        Raises TemporaryFailure or StartupError if the store cannot be used.
        """

    def stop() -> Awaitable[None]:
        """No more calls will come: finish what is under way, and let go of all."""

    def maildrop(name: str) -> IMaildrop:
        """The maildrop of that name (``account.maildrop``); made when first needed."""

    def count(name: str) -> Awaitable[tuple[int, int]]:
        """How many messages lie in a maildrop, and their octets; without its lock."""

    def discard(name: str, keep: bool) -> Awaitable[str]:
        """
        Empty a maildrop whose account is going: set its mail aside (``keep``), or delete it.

        Afterwards a maildrop of that name starts empty.  Returns where what
        was set aside lies, or "".  Raises MaildropLocked while a session holds it.
        """


#: Is told, while a function works, how many steps are done, and of how many.
Step = Callable[[int, int], object]


@dataclass(frozen=True)
class MaildropUsage:
    """
    What lies in a maildrop, and in the vault beside it.

    ``oldest`` is when its oldest message came, ``login`` when somebody collected
    last: seconds since 1970, or None.
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
    Which messages may go: older than so many seconds, larger than so many octets;
    and the oldest of the rest, until it is within ``quota``.
    """

    older_than: float | None = None
    larger_than: int | None = None
    quota: Quota | None = None


@dataclass(frozen=True)
class VaultSession:
    """What one session took out of a maildrop, and can be brought back."""

    session: str
    time: float
    messages: int
    octets: int


@dataclass(frozen=True)
class Finding:
    """Something in a maildrop that is not as it should be, and whether it was mended."""

    path: str
    what: str
    mended: bool


class IMaildropMaintenance(Interface):
    """
    What a store may offer to whoever looks after it; the command asks for it.

    Names are those of maildrops (``account.maildrop``).  While a session holds
    a maildrop, what would change it raises MaildropLocked.
    """

    def holdings(step: Step | None = None) -> Awaitable[Sequence[MaildropUsage]]:
        """All maildrops, also those of accounts that are gone; a step is one of them."""

    def strays() -> Awaitable[Sequence[Finding]]:
        """What lies where no account's maildrop can be."""

    def purge(
        name: str, which: PurgeCriteria, dry: bool, step: Step | None = None
    ) -> Awaitable[tuple[int, int]]:
        """
        Let messages go, or (``dry``) see which would; how many, and their octets.

        Steps are messages.
        """

    def kept(name: str) -> Awaitable[Sequence[VaultSession]]:
        """What can be brought back, oldest first."""

    def undelete(name: str, session: str, since: float) -> Awaitable[int]:
        """
        Bring back what one session took out, or ("") all that was since then; how many messages.

        Dates and UIDLs are as they were.
        """

    def verify(
        name: str, quota: Quota, repair: bool, step: Step | None = None
    ) -> Awaitable[Sequence[Finding]]:
        """
        Look at all that belongs to a maildrop, and (``repair``) mend what is safe.

        A step is a message.
        """


class Piece(NamedTuple):
    """
    A file of a store: its name there, ``DOMAIN/LOCALPART/…``, and where it lies just now.

    ``uidl`` is that of a message, which never changes; ``empty``: only its time matters.
    """

    name: str
    path: str
    uidl: str = ""
    empty: bool = False


class IStoreBackup(Interface):
    """What a store of files may offer so that ``postoffice backup`` and ``restore`` work."""

    path = Attribute("str: the folder of all maildrops")

    def settle() -> Awaitable[None]:
        """See that all mail that was taken in can be seen.  Raises TemporaryFailure."""

    def folder_of(name: str) -> str:
        """``DOMAIN/LOCALPART`` of a maildrop."""

    def folders() -> Awaitable[Sequence[tuple[str, int]]]:
        """Of all maildrops, with about how many files each has."""

    def pieces(folder: str) -> Awaitable[Sequence[Piece]]:
        """All files of a maildrop.  Raises TemporaryFailure."""

    def find_again(piece: Piece) -> Piece | None:
        """Where a message is now that is not there any more; None where it is gone."""

    def removed() -> Iterator[Piece]:
        """The mail of accounts that are gone, where it was set aside."""

    def staging(folder: str) -> Awaitable[str]:
        """A new folder where messages are laid that shall come into a maildrop."""

    def put_back(folder: str, staging: str) -> Awaitable[tuple[int, int]]:
        """
        Let these come into it, but not those that are there; how many of each.

        Raises MaildropLocked while a session runs.
        """


class IRetention(Interface):
    """
    What a store may offer so that mail goes by itself when its time has come.

    Where a store does not, mail stays for as long as nobody deletes it, and
    clients are told so.
    """

    def collect(
        name: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
    ) -> Awaitable[Sequence[Entry]]:
        """
        Remember that a device has collected these; which of them count as collected now.

        ``device`` is as in ``Account.device``, ``devices`` as in ``KeepTimes``.  A
        session of that maildrop asks, which holds its lock.  What is
        remembered may get lost: then mail stays longer, and never goes early.
        """

    def expire(name: str, keep: KeepTimes, dry: bool) -> Awaitable[tuple[int, int]]:
        """
        Let messages go, or (``dry``) see which would; how many, and their octets.

        Raises MaildropLocked while a session holds the maildrop, if there is
        anything to go.
        """


# -- knowing ------------------------------------------------------------------


class IAccountDirectory(Interface):
    """Who has an account here.  Names and domains are in normal form (``Address.normal``)."""

    def start() -> Awaitable[None]:
        """Get ready; as ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """No more calls will come."""

    def find(name: str) -> Awaitable[Account | None]:
        """
        The account that this address leads to, as it is now, or None.

        Where the account has no quota of its own, its ``quota`` is its
        domain's, as far as that has one; so it is with each value of its
        ``serving``.  Raises TemporaryFailure if the directory cannot say.
        """

    def serves(domain: str) -> Awaitable[bool]:
        """Whether the domain is one of ours, as of now.  Raises as ``find``."""


class IAccountSettings(Interface):
    """
    What a directory may offer whose accounts are served each in their own way.

    Of one that does not, clients are told before they log in what the
    configuration says.
    """

    def sayings() -> Awaitable[Collection[tuple[Quota, MailPolicy]]]:
        """``quota`` and ``serving`` of all accounts, as ``find`` tells them; each pair once."""


class IAppPasswords(Interface):
    """What a directory may offer besides: accounts have devices, with passwords of their own."""

    def devices(name: str) -> Awaitable[Sequence[AppPassword]]:
        """
        All devices of an account, as they are now, sorted by their names; expired ones, too.

        None of them where there is no such account.  Raises as ``find``.
        """


class IAccountRegister(IAccountDirectory, IAppPasswords):
    """A directory that the ``postoffice`` command can write to."""

    def domains() -> Awaitable[list[str]]:
        """All domains, sorted."""

    def accounts(domain: str | None = None) -> Awaitable[list[Account]]:
        """All accounts, or those of one domain, sorted by address."""

    def add_domain(domain: str) -> Awaitable[bool]:
        """Add a domain; False if it is there already."""

    def remove_domain(domain: str) -> Awaitable[bool]:
        """Remove a domain; False if it is not there.  Raises NotEmpty while accounts remain."""

    def add(
        name: str, secret: str | None, scram: str | None = None, maildrop: str | None = None
    ) -> Awaitable[bool]:
        """
        Add an account in a domain of ours; False if it is there already.

        ``secret`` and ``scram`` are as in ``Account``; ``maildrop`` too, for
        one that comes back; else it is as ``maildrop_for`` says.

        Raises LookupError if the domain is not ours.
        """

    def maildrop_for(name: str) -> Awaitable[str]:
        """
        The name of the maildrop that a new account of this name gets.

        It is the account's, but where another account has that, which was
        renamed: nobody gets another's mail.
        """

    def rename(name: str, new: str) -> Awaitable[bool]:
        """
        Give an account another name; its maildrop and its devices, and all else, stay.

        False if there is no such account, or one of the new name.  Raises
        LookupError if the domain is not ours.
        """

    def set_secret(name: str, secret: str | None, scram: str | None = None) -> Awaitable[bool]:
        """
        Set or take away an account's password: its hash, and the SCRAM keys of the same.

        False if there is no such account.
        """

    def keep_scram(name: str, secret: str, scram: str) -> Awaitable[bool]:
        """Keep the SCRAM keys of a password, if its hash is still ``secret``; False if not."""

    def set_shared(name: str, shared: str | None) -> Awaitable[bool]:
        """
        Set or take away an account's shared secret; False if there is no such account.

        It is what CRAM-MD5 needs in clear: it is encrypted where it lies.
        """

    def add_device(name: str, device: AppPassword) -> Awaitable[bool]:
        """
        Give an account a device; False if it has one of that name already.

        Raises LookupError if there is no such account.
        """

    def remove_device(name: str, device: str) -> Awaitable[bool]:
        """Take a device away; its password fails at once.  False if there is none."""

    def set_quota(name: str, quota: Quota) -> Awaitable[bool]:
        """
        Set what an account's maildrop may hold; False if there is no such account.

        It is the whole of the account's own quota: what is None in it is as
        its domain says, or else as the configuration says.
        """

    def account_quota(name: str) -> Awaitable[Quota | None]:
        """What was set for this account alone; None if there is no such account."""

    def account_quotas(domain: str | None = None) -> Awaitable[Mapping[str, Quota]]:
        """What was set for single accounts, of all or of one domain; others are left out."""

    def set_domain_quota(domain: str, quota: Quota) -> Awaitable[bool]:
        """The same for all accounts of a domain that have none; False if it is not there."""

    def domain_quota(domain: str) -> Awaitable[Quota | None]:
        """What was set for this domain; None if it is not there."""

    def set_serving(name: str, serving: MailPolicy) -> Awaitable[bool]:
        """
        Set how an account's mail is served; False if there is no such account.

        It is the whole of what the account itself says, as with ``set_quota``.
        """

    def account_serving(name: str) -> Awaitable[MailPolicy | None]:
        """What was set for this account alone; None if there is no such account."""

    def set_domain_serving(domain: str, serving: MailPolicy) -> Awaitable[bool]:
        """The same for all accounts of a domain that say nothing; False if it is not there."""

    def domain_serving(domain: str) -> Awaitable[MailPolicy | None]:
        """What was set for this domain; None if it is not there."""

    def set_state(name: str, state: str) -> Awaitable[bool]:
        """
        Set an account's state, one of ``model.address.STATES``; False if there is no such account.
        """

    def remove(name: str) -> Awaitable[bool]:
        """
        Remove an account and its devices; False if there is none.

        Its mail is the store's matter.
        """


# -- receiving ----------------------------------------------------------------


class IReception(Interface):
    """
    The avatar that takes in mail: what one client may do here, for one session.

    The ``mind`` of its login is the session's ``SessionInfo``.  Answers are
    replies; a positive one to ``recipient`` means that it has been added to
    ``envelope.recipients`` and ``envelope.named``.
    """

    login = Attribute("str: the address of the account whose avatar it is; empty for strangers")

    def connected() -> Awaitable[Reply | None]:
        """The client is there, and was not greeted yet: None, or why it shall go."""

    def hello() -> Awaitable[Reply | None]:
        """EHLO, HELO or LHLO: ``session_info.hello`` is set: None, or a refusal."""

    def sender(envelope: Envelope) -> Awaitable[Reply]:
        """MAIL: ``envelope.sender`` is set."""

    def recipient(envelope: Envelope, address: Address | None) -> Awaitable[Reply]:
        """RCPT: None is ``<Postmaster>`` without a domain (RFC 5321 §4.5.1)."""

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """DATA: a delivery to all recipients, its trace fields written already."""

    def judge(envelope: Envelope, delivery: IDelivery) -> Awaitable[Reply | None]:
        """
        The text is whole, and not yet committed: None, or a refusal.

        Header fields that are added to it are in the delivery when it returns.
        """


@dataclass(frozen=True)
class Fields:
    """Header fields that a policy adds to the top of a message: whole lines, each with CRLF."""

    octets: bytes


#: What a policy says: nothing, a refusal (4yz or 5yz), or fields to add.
Opinion = Reply | Fields | None


class IPolicy(Interface):
    """
    Asked whether mail may come in; one objection each.

    Only the methods named in ``stages`` are called.  A refusal ends the
    question; the policies behind it are not asked.  Any method may raise
    TemporaryFailure where it cannot say: what then happens is a setting
    (``on_failure``), and so is how long it may take (``timeout``).
    """

    stages = Attribute("Collection[str]: of connect, hello, sender, recipient, text")

    def start() -> Awaitable[None]:
        """Get ready; as ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """No more questions will come."""

    def connect(session_info: SessionInfo) -> Awaitable[Opinion]:
        """A client has come, and was not greeted yet; a refusal ends the session."""

    def hello(session_info: SessionInfo) -> Awaitable[Opinion]:
        """EHLO or HELO: what it calls itself is ``session_info.hello``."""

    def sender(envelope: Envelope) -> Awaitable[Opinion]:
        """MAIL: ``envelope.sender``."""

    def recipient(envelope: Envelope, recipient: Recipient) -> Awaitable[Opinion]:
        """RCPT: an account of ours, not yet among ``envelope.recipients``."""

    def text(envelope: Envelope, text: IText) -> Awaitable[Opinion]:
        """The whole message, as it will lie in the maildrop; a refusal is for all recipients."""


# -- plugins ------------------------------------------------------------------


@dataclass(frozen=True)
class PluginContext:
    """
    What a maker may use: all that is outside of a room.

    A store warns the owners of maildrops when they are so full as ``warnings``
    say, in per cent of their quota, in the words of ``warning_text`` (its
    subject, an empty line, and the text; with $address, $percent, $used and
    $limit), or in its own where that is empty.  ``child_process`` is there where work
    may go to a process of its own: in a daemon, not in a command.
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
    Makes a room from its settings; found by ``twisted.plugin.getPlugins``.

    What it makes is imported when it is made, not before.
    """

    kind = Attribute("str: the word that ``kind:`` gives in the YAML")
    keys: Sequence[Key] = Attribute("its further keys; read and checked before ``make``")


class IStoreMaker(IMaker):
    """Makes an IMailStore, for ``store:``."""

    def make(options: Mapping[str, Any], context: PluginContext) -> IMailStore:
        """
        Make the store; no file is touched before its ``start()``.

        ``options`` holds a value for each of ``keys``.  Raises SettingError.
        """


class IDirectoryMaker(IMaker):
    """Makes an IAccountDirectory, for ``accounts:``."""

    def make(options: Mapping[str, Any], context: PluginContext) -> IAccountDirectory:
        """As ``IStoreMaker.make``."""


class IPolicyMaker(IMaker):
    """
    Makes an IPolicy, for ``policies:``.

    Every policy has the keys ``services`` (where it is asked), ``timeout`` and
    ``on_failure`` besides its own; a maker that has a key of that name gives
    it another default.
    """

    def make(options: Mapping[str, Any], context: PluginContext) -> IPolicy:
        """As ``IStoreMaker.make``."""


#: What had another name in 0.1: plugins can use it for one version.
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
