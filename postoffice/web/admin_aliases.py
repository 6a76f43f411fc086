"""The administrators' pages of aliases: the list, and one alias with what can be changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from urllib.parse import quote

from postoffice.accounts.account_changes import ChangeRefused
from postoffice.accounts.account_pages import aliases_after
from postoffice.accounts.address_checks import TARGETS, AddressRefused
from postoffice.accounts.alias_changes import (
    add_alias,
    find_alias,
    goes_to,
    once_each,
    pointing_lines,
    remove_alias,
    set_alias,
)
from postoffice.accounts.directories import Directories
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Address, NotAnAddress
from postoffice.model.alias import DISCARD, FORWARD, KINDS, REFUSE, Alias
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ADMINISTRATOR, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit

#: Aliases of one page.
PAGE = 100
_LIST, _ONE = "/admin/aliases", "/admin/aliases/one"


class AliasPages(PageGroup):
    """The aliases, changed by the same functions as by ``postoffice alias``."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", _LIST, ADMINISTRATOR, self.aliases),
            Route("GET", _ONE, ADMINISTRATOR, self.alias),
            Route("POST", f"{_LIST}/add", ADMINISTRATOR, self.add, confirm=_LIST),
            Route("POST", f"{_ONE}/set", ADMINISTRATOR, self.set, confirm=_LIST),
            Route("POST", f"{_ONE}/remove", ADMINISTRATOR, self.remove, confirm=_LIST),
        )

    async def aliases(self, visit: Visit) -> Response:
        """List the aliases, page by page."""
        wanted = visit.request.asked("q").strip().lower()[:255]
        after = visit.request.asked("after")[:512]
        ones = await aliases_after(self._context.office.directories, after, PAGE + 1, wanted)
        following = ones[PAGE - 1].address if len(ones) > PAGE else ""
        return self._pages.page(
            visit, "admin/aliases.html", aliases=ones[:PAGE], wanted=wanted, after=after,
            following=following, may_change=self._register is not None,
            new=Alias(""), most=TARGETS,
        )  # fmt: skip

    async def alias(self, visit: Visit) -> Response:
        """Show one alias, what leads to it, and the form that changes it."""
        name = visit.request.asked("name").strip().lower()
        answer = self._directory.look_up(name)
        found = (answer if isinstance(answer, tuple) else await answer).entry
        if not isinstance(found, Alias):
            raise NotServed(404, "There is no such alias.")
        register = self._register
        own = register is not None and await find_alias(register, found.address) is not None
        pointing = await register.pointing_to(found.address) if register is not None else []
        return self._pages.page(
            visit, "admin/alias.html", alias=found, pointing=pointing, may_change=own,
            most=TARGETS,
        )  # fmt: skip

    @property
    def _directory(self) -> Directories:
        return Directories(self._context.office.directories)

    @property
    def _register(self) -> IAddressRegister | None:
        """The directory whose aliases can be written, if there is one."""
        register = self._context.office.register
        return cast(IAddressRegister, register) if IAddressRegister.providedBy(register) else None

    # -- changes -----------------------------------------------------------------------------

    def _writable(self) -> IAddressRegister:
        register = self._register
        if register is None:
            raise NotServed(409, "All directories of aliases are read-only.")
        return register

    async def add(self, visit: Visit) -> Response:
        """Add an alias."""
        register, context = self._writable(), self._context
        try:
            made = _filled(visit, Alias(Address.parse(visit.filled("address")).normal))
            await add_alias(
                register, self._directory, made, context.postmaster, way_out=context.way_out
            )
        except (NotAnAddress, AddressRefused, ChangeRefused) as refusal:
            return _refused(visit, refusal, _LIST)
        self._context.note_change(visit, f"alias added: {goes_to(made)}", made.address)
        visit.own_session.say(visit.text("The alias %(name)s was added.", name=made.address))
        return redirect(_page_of(made.address))

    async def _named(self, visit: Visit, register: IAddressRegister) -> Alias:
        known = await find_alias(register, visit.filled("name"))
        if known is None:
            raise NotServed(404, "There is no such alias.")
        return known

    async def set(self, visit: Visit) -> Response:
        """Change where mail for an alias goes."""
        register, context = self._writable(), self._context
        known = await self._named(visit, register)
        place = _page_of(known.address)
        try:
            now = _filled(visit, known)
            await set_alias(
                register, self._directory, now, context.postmaster, way_out=context.way_out
            )
        except (NotAnAddress, AddressRefused, ChangeRefused) as refusal:
            return _refused(visit, refusal, place)
        what = f"alias: {goes_to(known)} -> {goes_to(now)}"
        if known.send != now.send:
            what += f"; each target may send as it: {'yes' if now.send else 'no'}"
        self._context.note_change(visit, what, now.address)
        visit.own_session.say(visit.text("The alias %(name)s was changed.", name=now.address))
        return redirect(place)

    async def remove(self, visit: Visit) -> Response:
        """Remove an alias, and say what still leads to it."""
        register = self._writable()
        known = await self._named(visit, register)
        name = known.address
        try:
            pointing = await remove_alias(register, name)
        except ChangeRefused as refusal:  # somebody else was faster
            return _refused(visit, refusal, _LIST)
        self._context.note_change(visit, f"alias removed: {goes_to(known)}", name)
        visit.own_session.say(visit.text("The alias %(name)s was removed.", name=name))
        if pointing:
            visit.own_session.say("; ".join(pointing_lines(name, pointing[:10])), "warn")
        return redirect(_LIST)


def _filled(visit: Visit, known: Alias) -> Alias:
    """
    Return an alias as the form has it; fields of the other kinds count for nothing.

    Raises NotAnAddress, NotServed.
    """
    kind = visit.filled("kind")
    if kind not in KINDS:
        raise NotServed(400, "There is no such kind of alias.")
    if kind == REFUSE:
        return Alias(known.address, kind=REFUSE, words=visit.filled("words"))
    if kind == DISCARD:
        return Alias(known.address, kind=DISCARD)
    lines = [line.strip() for line in visit.filled("targets").splitlines()]
    targets = once_each(Address.parse(line) for line in lines if line)
    return Alias(known.address, targets, FORWARD, send=bool(visit.filled("send")))


def _refused(visit: Visit, why: Exception, place: str) -> Response:
    visit.own_session.say(visit.text("This was refused: %(why)s", why=str(why)), "failed")
    return redirect(place)


def _page_of(name: str) -> str:
    return f"{_ONE}?name={quote(name, safe='@')}"
