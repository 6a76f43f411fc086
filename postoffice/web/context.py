"""What the pages work with; the daemon passes it as plain arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.directories import Directories
from postoffice.accounts.login_history import LoginHistory, LoginMethod
from postoffice.interfaces import Executor, IMailStore
from postoffice.model import log_events
from postoffice.model.address import Account, Quota
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.model.log_event import tell
from postoffice.model.mail_policy import MailPolicy
from postoffice.queue.manager import QueueManager
from postoffice.queue.sending_limits import SendingLimits
from postoffice.util.token_bucket import TokenBucket
from postoffice.web.administration import Administration
from postoffice.web.mail_programs import Access
from postoffice.web.sessions import WebSessions
from postoffice.web.turns import Turns
from postoffice.web.values import NotServed
from postoffice.web.visit import Visit
from postoffice.web.web_db import WebDB

log = Logger("postoffice")

#: Requests of one client (an IPv4 address or an IPv6 /64) in a minute, and changes of one.
REQUESTS, CHANGES = 1200, 120
#: Messages to targets of forwards that are sent for one account in a day, at most.
LETTERS = 5
#: Requests of one account that are worked on at once: mail needs the threads, too.
AT_ONCE = 2
#: Codes of the second factor of one account in ten minutes.
CODES = 10


class WebState:
    """
    What stays over all reloads: sessions, the database, and the counts of requests.

    Requests of an account take ``turns``; changes of its forwards take ``forward_turns``, too,
    because each one reads the account first.
    """

    def __init__(
        self, state: str, executor: Executor, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self.executor = executor
        self.now = now
        self.web_db = WebDB(state, now)
        self.sessions = WebSessions(clock.seconds)
        self.requests = TokenBucket(REQUESTS, 60, clock.seconds)
        self.changes = TokenBucket(CHANGES, 60, clock.seconds)
        self.codes = TokenBucket(CODES, 600, clock.seconds)
        self.letters = TokenBucket(LETTERS, 86400, clock.seconds)
        self.turns = Turns(AT_ONCE)
        self.forward_turns = Turns(1)
        self._open = False

    async def start(self) -> None:
        """Open the database, once.  Raises StartupError."""
        if not self._open:
            await self.executor.run(self.web_db.open)
            self._open = True

    async def stop(self) -> None:
        """Close the database."""
        if self._open:
            self._open = False
            await self.executor.run(self.web_db.close)


def _no_logins(_: str) -> Sequence[tuple[LoginMethod, float]]:
    """Return no unwritten logins."""
    return ()


def _nobody() -> QueueManager | None:
    """Return no queue manager."""
    return None


async def _send_nothing(*_: object) -> None:
    """Raise TemporaryFailure: no message can be delivered."""
    raise TemporaryFailure("nothing delivers letters")


@dataclass
class WebContext:
    """
    What all handlers share; a reload makes a new one over the same ``state``.

    ``check`` is the login checker: it returns the account of a password, and raises what
    ``Checker.requestAvatarId`` raises.  ``note_login`` records a login.  ``hosts`` are the names
    under which the page is served.  ``accesses`` is where mail programs connect; deleted mail is
    kept for ``undelete`` seconds (0: not at all).  Accounts that set nothing themselves have
    ``default_quota`` and ``mail_policy``; ``postmaster`` has ``postmaster_quota``.
    ``administration`` is what administrators work with.  ``page`` is the URL of the page, for
    links in messages; ``send_letter`` delivers a message (its id, its recipient, its text), and
    raises PostOfficeError.  ``way_out`` is whether mail can be sent to other domains; ``sending``
    counts what accounts send; ``manager`` returns the queue manager, None if nothing is sent.
    ``unwritten_logins`` returns the logins of an account that are not in the history yet.
    """

    state: WebState
    directory: Directories
    check: Callable[[PlainLogin], Awaitable[Account]]
    note_login: Callable[[Account, SessionInfo], None]
    login_history: LoginHistory
    hostname: str
    hosts: Sequence[str]
    store: IMailStore
    accesses: Sequence[Access]
    undelete: float
    default_quota: Quota
    postmaster_quota: Quota
    postmaster: str
    mail_policy: MailPolicy
    administration: Administration | None = None
    page: str = ""
    send_letter: Callable[[str, str, bytes], Awaitable[None]] = _send_nothing
    way_out: bool = False
    sending: SendingLimits | None = None
    manager: Callable[[], QueueManager | None] = _nobody
    unwritten_logins: Callable[[str], Sequence[tuple[LoginMethod, float]]] = _no_logins

    def quota_of(self, account: Account) -> Quota:
        """Return the quota that applies to an account; no field is None."""
        if account.address == self.postmaster:
            return self.postmaster_quota
        return account.quota.or_else(self.default_quota)

    def mail_policy_of(self, account: Account) -> MailPolicy:
        """Return the policy that applies to an account; no field is None."""
        return account.mail_policy.or_else(self.mail_policy)

    @property
    def office(self) -> Administration:
        """What administrators work with.  Raises NotServed if the daemon handed none over."""
        if self.administration is None:
            raise NotServed(404, "There is no such page.")
        return self.administration

    @property
    def executor(self) -> Executor:
        """Runs what blocks."""
        return self.state.executor

    def note_change(self, visit: Visit, what: str, account: str = "", by: str = "") -> None:
        """
        Write the audit line of a change: who did what to which account.

        The default of ``account`` is the visit's own, that of ``by`` the session's.
        """
        session = visit.session
        tell(
            log,
            log_events.WEB_CHANGE,
            id=session.id if session is not None else "",
            service="web",
            client=visit.request.client.address or "local",
            account=account or visit.owner.address,
            by=by or visit.own_session.account,
            what=what,
        )
