"""The administrators' pages of accounts: the list, and one account with all that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from postoffice.accounts.account_changes import (
    ChangeRefused,
    check_free,
    check_maildrop_empty,
    give_new_password,
    set_account_state,
)
from postoffice.accounts.account_pages import accounts_after
from postoffice.accounts.login_history import LoginMethod
from postoffice.doctor.maildrop_owners import maildrop_of
from postoffice.interfaces import IAccountRegister
from postoffice.model.address import (
    DISABLED,
    RECEIVE_ONLY,
    STATES,
    Account,
    Address,
    NotAnAddress,
    Quota,
)
from postoffice.model.config_values import SIZE
from postoffice.model.errors import PostOfficeError
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ADMINISTRATOR, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit
from postoffice.web.web_db import LOGIN, link_to

#: Accounts of one page.
PAGE = 50
#: What a quota must be less than: databases keep no larger numbers.
LARGEST = 1 << 63


@dataclass(frozen=True)
class AccountLine:
    """An account in the list: its last login, and what its maildrop holds, if that is known."""

    account: Account
    last: tuple[LoginMethod, float] | None
    quota: Quota
    held: tuple[int, int] | None

    @property
    def share(self) -> float | None:
        """The share of the quota that is used, at most 1."""
        if self.held is None:
            return None
        share = self.quota.share(self.held[1], self.held[0])
        return None if share is None else min(share, 1.0)


class AccountPages(PageGroup):
    """The list of accounts, and the page of one."""

    def routes(self) -> Sequence[Route]:
        one, many = "/admin/accounts/one", "/admin/accounts"
        return (
            Route("GET", many, ADMINISTRATOR, self.accounts),
            Route("POST", f"{many}/add", ADMINISTRATOR, self.add),
            Route("GET", one, ADMINISTRATOR, self.account),
            Route("POST", f"{one}/state", ADMINISTRATOR, self.set_state),
            Route("POST", f"{one}/quota", ADMINISTRATOR, self.set_quota),
            Route("POST", f"{one}/password", ADMINISTRATOR, self.new_password, confirm=many),
            Route("POST", f"{one}/link", ADMINISTRATOR, self.link, confirm=many),
            Route("POST", f"{one}/device", ADMINISTRATOR, self.remove_device),
        )

    async def accounts(self, visit: Visit) -> Response:
        """List the accounts whose addresses have what is looked for, page by page."""
        office = self._context.office
        wanted = visit.request.asked("q").strip().lower()[:255]
        after = visit.request.asked("after")[:512]
        found = await accounts_after(office.directories, after, PAGE + 1, wanted)
        names = [one.address for one in found[:PAGE]]
        last = await self._state.executor.run(self._context.login_history.latest, names)
        lines = [
            AccountLine(
                one, last.get(one.address), self._quota(one), await self._held(one.maildrop)
            )
            for one in found[:PAGE]
        ]
        following = names[-1] if len(found) > PAGE else ""
        return self._pages.page(
            visit, "admin/accounts.html", lines=lines, wanted=wanted, after=after,
            following=following,
        )  # fmt: skip

    def _quota(self, account: Account) -> Quota:
        return maildrop_of(self._context.office.settings, account).quota or Quota()

    async def _held(self, maildrop: str) -> tuple[int, int] | None:
        """Return the messages and octets of a maildrop; None if it cannot be read."""
        try:
            messages, octets = await self._context.office.store.count(maildrop)
        except PostOfficeError:
            return None  # `maildrop verify` reports it
        return messages, octets

    async def _named(self, name: str) -> Account:
        found = await self._context.directory.find(name.lower())
        if found is None:
            raise NotServed(404, "There is no account of that name.")
        return found

    async def account(self, visit: Visit) -> Response:
        """Show all of one account."""
        office = self._context.office
        account = await self._named(visit.request.asked("name"))
        name = account.address
        used = await self._state.executor.run(self._context.login_history.used, 0.0, name)
        last = {method.device: when for method, when in reversed(used)}
        register = await self._register_of(account)
        own = await register.account_quota(name) if register is not None else None
        return self._pages.page(
            visit,
            "admin/account.html",
            line=AccountLine(
                account, used[0] if used else None, self._quota(account),
                await self._held(account.maildrop),
            ),
            own=own or Quota(),
            own_size=written_size(own.octets if own is not None else None),
            logins=used[:10],
            last=last,
            devices=await self._context.directory.app_passwords(name),
            sessions=[one for one in office.sessions() if one["account"] == name],
            states=STATES,
            may_change=register is not None,
        )  # fmt: skip

    async def _register_of(self, account: Account) -> IAccountRegister | None:
        """Return the directory that can be written to, if this account is its own."""
        register = self._context.office.register
        if register is None or await register.find(account.address) is None:
            return None
        return register

    async def _changing(self, visit: Visit) -> tuple[Account, IAccountRegister]:
        """Return the account of a form, and its directory.  Raises NotServed."""
        account = await self._named(visit.filled("name"))
        register = await self._register_of(account)
        if register is None:
            raise NotServed(409, "This account is in a read-only directory.")
        return account, register

    # -- changes -----------------------------------------------------------------------------

    async def add(self, visit: Visit) -> Response:
        """Add an account without a password: a one-time link lets its owner choose one."""
        office, register = self._context.office, self._context.office.register
        if register is None:
            raise NotServed(409, "All directories of accounts are read-only.")
        try:
            name = Address.parse(visit.filled("address")).normal
            await check_free(office.directories, register, name)
            await check_maildrop_empty(register, office.store.count, name)
            if not await register.add(name, None):
                raise ChangeRefused(f"{name} is here already")
        except (NotAnAddress, ChangeRefused) as refusal:
            visit.own_session.say(str(refusal), "failed")
            return redirect("/admin/accounts")
        await self._state.executor.run(self._context.login_history.forget, name)  # an earlier one's
        self._context.note_change(visit, "account added", name)
        visit.own_session.say(
            visit.text("The account was added. Make a one-time link for its owner.")
        )
        return redirect(_page_of(name))

    async def set_state(self, visit: Visit) -> Response:
        """Set what the account may do; sessions end if it may not log in."""
        account, register = await self._changing(visit)
        state, name = visit.filled("state"), account.address
        if state not in STATES:
            raise NotServed(400, "There is no such state.")
        postmaster = self._context.office.settings.postmaster.normal
        try:
            await set_account_state(
                register, account, state, visit.owner.address, visit.filled("why")[:200], postmaster
            )
        except ChangeRefused as refusal:
            visit.own_session.say(str(refusal), "failed")
            return redirect(_page_of(name))
        if state in (DISABLED, RECEIVE_ONLY):
            self._context.office.end_sessions(name)
            self._state.sessions.end_all(name, but=visit.own_session)
        self._context.note_change(visit, f"state: {account.state} -> {state}", name)
        visit.own_session.say(visit.text("The state of %(name)s was changed.", name=name))
        return redirect(_page_of(name))

    async def set_quota(self, visit: Visit) -> Response:
        """Set the account's own quota; an empty field takes it away."""
        account, register = await self._changing(visit)
        name = account.address
        try:
            octets = SIZE.read(visit.filled("octets")) if visit.filled("octets") else None
            messages = int(visit.filled("messages")) if visit.filled("messages") else None
            if not 0 <= (messages or 0) < LARGEST or (octets or 0) >= LARGEST:
                raise ValueError
        except ValueError:
            visit.own_session.say(
                visit.text("A quota is a size, such as 2 GiB, and a number of messages."), "failed"
            )
            return redirect(_page_of(name))
        before = await register.account_quota(name) or Quota()
        await register.set_quota(name, Quota(octets, messages, before.over))
        self._context.note_change(
            visit,
            f"quota: {before.octets or 0} octets, {before.messages or 0} messages -> "
            f"{octets or 0} octets, {messages or 0} messages",
            name,
        )
        visit.own_session.say(visit.text("The quota of %(name)s was changed.", name=name))
        return redirect(_page_of(name))

    async def new_password(self, visit: Visit) -> Response:
        """Give the account a new password, and show it this once."""
        account, register = await self._changing(visit)
        name = account.address
        password = await give_new_password(register, self._state.executor, account)
        state = self._context.state
        state.sessions.end_all(name, but=visit.own_session)
        await state.executor.run(state.web_db.forget_links, name)
        self._context.note_change(visit, "a new password was generated", name)
        return self._pages.page(
            visit, "admin/once.html", name=name, secret=password, back=_page_of(name), link=False
        )

    async def link(self, visit: Visit) -> Response:
        """Make a link that logs the owner in once, and show it this once."""
        account, _ = await self._changing(visit)
        name, state = account.address, self._context.state
        token = await state.executor.run(state.web_db.make_link, LOGIN, name)
        web = self._context.office.settings.web
        assert web is not None
        self._context.note_change(visit, "a one-time link was made", name)
        return self._pages.page(
            visit, "admin/once.html", name=name, secret=link_to(web.address(), token),
            back=_page_of(name), link=True,
        )  # fmt: skip

    async def remove_device(self, visit: Visit) -> Response:
        """Remove an app password."""
        account, register = await self._changing(visit)
        name, device = account.address, visit.filled("device")
        if await register.remove_app_password(name, device):
            await self._state.executor.run(self._context.login_history.forget, name, device)
            self._context.note_change(visit, f"app password removed: {device}", name)
            visit.own_session.say(visit.text("The app password was removed."))
        return redirect(_page_of(name))


def written_size(octets: int | None) -> str:
    """Return a size as the form takes it: ``2 GiB``; "" for None."""
    if not octets:
        return "" if octets is None else "0"
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if octets % (1 << power) == 0:
            return f"{octets >> power} {unit}"
    return str(octets)


def _page_of(name: str) -> str:
    return f"/admin/accounts/one?name={quote(name, safe='@')}"
