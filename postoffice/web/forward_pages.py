"""
Where an owner's mail goes: forwards, each confirmed by a letter to its target.

Without the letter, a stranger at an open browser could have mail sent to people who do not want it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from secrets import token_hex
from typing import cast

from postoffice.accounts.address_checks import AddressRefused
from postoffice.accounts.forward_changes import save_forward
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Account, Address, NotAnAddress
from postoffice.model.errors import PostOfficeError
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ANYONE, OWNER, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit
from postoffice.web.web_db import FORWARD

FORWARD_PAGE, CONFIRM_PAGE = "/forward", "/forward/confirm"
#: Seconds for which the target of a forward can confirm it, and targets of one account at most.
LASTS, TARGETS = 7 * 86400.0, 10


class ForwardPages(PageGroup):
    """The page of forwards, and the one that their targets see."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", FORWARD_PAGE, OWNER, self.shown),
            Route("POST", FORWARD_PAGE, OWNER, self.propose, confirm=FORWARD_PAGE),
            Route("POST", "/forward/remove", OWNER, self.remove),
            Route("POST", "/forward/copy", OWNER, self.keep_copy, confirm=FORWARD_PAGE),
            Route("GET", CONFIRM_PAGE, ANYONE, self.asked),
            Route("POST", CONFIRM_PAGE, ANYONE, self.confirmed),
        )

    async def shown(self, visit: Visit) -> Response:
        """Show where mail goes, and which targets have not confirmed yet."""
        waiting = await self._state.executor.run(
            self._state.web_db.links_of, FORWARD, visit.owner.address
        )
        known = {one.normal for one in visit.owner.forward}
        return self._pages.page(
            visit,
            "forward.html",
            targets=[str(one) for one in visit.owner.forward],
            waiting=[one for one in waiting if one not in known],
            writable=await self._register(visit.owner) is not None,
        )

    async def _register(self, account: Account) -> IAddressRegister | None:
        found = await self._context.directory.register_of(account.address)
        return cast(IAddressRegister, found) if IAddressRegister.providedBy(found) else None

    async def _change(
        self,
        name: str,
        targets_of: Callable[[Account], Sequence[Address]],
        keep_copy: bool | None = None,
    ) -> bool:
        """
        Save where an account's mail goes, and whether it stays here, too (None: as before).

        ``targets_of`` returns the targets; it gets the account as it is after earlier changes.
        Returns whether the targets have changed.  Raises AddressRefused, NotServed.
        """
        context = self._context

        async def change() -> bool:
            account = await context.directory.find(name)
            register = None if account is None else await self._register(account)
            if account is None or register is None:
                raise NotServed(404, "Your account is kept elsewhere, and cannot be changed here.")
            targets = tuple(targets_of(account))
            keeps = account.keep_copy if keep_copy is None else keep_copy
            await save_forward(
                register, context.directory, account, targets, keeps, context.postmaster,
                way_out=context.way_out,
            )  # fmt: skip
            return targets != account.forward

        return await self._state.forward_turns.take(name, change)

    # -- the owner ---------------------------------------------------------------------------

    async def propose(self, visit: Visit) -> Response:
        """Send a letter to a new target; mail goes there when it is confirmed."""
        session, account = visit.own_session, visit.owner
        try:
            target = Address.parse(visit.filled("target"))
        except NotAnAddress:
            session.say(visit.text("That is no mail address."), "failed")
            return redirect(FORWARD_PAGE)
        if target.normal in {account.address, *(one.normal for one in account.forward)}:
            session.say(visit.text("Mail goes there already."), "failed")
        elif len(account.forward) >= TARGETS or not self._state.letters.spend(account.address):
            text = "These are too many addresses, or too many messages in a day."
            session.say(visit.text(text), "failed")
        else:
            await self._send(visit, target)
        return redirect(FORWARD_PAGE)

    async def _send(self, visit: Visit, target: Address) -> None:
        run, web_db = self._state.executor.run, self._state.web_db
        owner = visit.owner.address
        token = await run(web_db.make_link, FORWARD, owner, target.normal, LASTS)
        link = f"{self._context.page}{CONFIRM_PAGE}?token={token}"
        letter = self._letter(visit, target, link)
        try:
            await self._context.send_letter(f"forward-{token_hex(6)}", target.normal, letter)
        except PostOfficeError:
            await run(web_db.use_link, FORWARD, token)
            text = "The message to this address cannot be delivered, so mail does not go there."
            visit.own_session.say(visit.text(text), "failed")
            return
        self._context.note_change(visit, f"forward to {target.normal} proposed")
        text = "A message is on its way. Mail goes there as soon as the link in it was used."
        visit.own_session.say(visit.text(text))

    def _letter(self, visit: Visit, target: Address, link: str) -> bytes:
        """Write the letter to a target, in the language of the owner."""
        message = EmailMessage(policy=SMTP.clone(utf8=not target.ascii))
        host = self._context.hostname
        message["From"] = f"Postoffice <{self._context.postmaster}>"
        message["To"] = str(target)
        message["Subject"] = visit.text("Do you want the mail of %(who)s?", who=visit.owner.address)
        now = datetime.fromtimestamp(self._state.now()).astimezone()
        message["Date"] = format_datetime(now)
        message["Message-ID"] = f"<{token_hex(12)}@{host}>"
        message["Auto-Submitted"] = "auto-generated"
        facts = {"who": visit.owner.address, "target": str(target), "link": link}
        message.set_content(
            visit.text("%(who)s wants to forward mail to %(target)s.", **facts)
            + "\n\n"
            + visit.text("If you want to get it, open this link within a week:")
            + f"\n\n{link}\n\n"
            + visit.text("If you do not know about this, do nothing: no mail will come.")
            + "\n"
        )
        return bytes(message)

    async def remove(self, visit: Visit) -> Response:
        """Send no mail to a target any more."""
        gone = visit.request.filled("target")
        asked = await self._forget(visit.owner, gone)  # no letter can confirm it any more
        if gone in map(str, visit.owner.forward):
            try:
                await self._change(
                    visit.owner.address,
                    lambda account: [one for one in account.forward if str(one) != gone],
                )
            except AddressRefused as why:
                self._say_refused(visit, why)
                return redirect(FORWARD_PAGE)
            self._context.note_change(visit, f"forward to {gone} removed")
            visit.own_session.say(visit.text("No mail goes there any more."))
        elif asked:
            self._context.note_change(visit, f"forward to {gone} withdrawn")
            visit.own_session.say(visit.text("No mail will go there."))
        return redirect(FORWARD_PAGE)

    async def _forget(self, account: Account, target: str) -> bool:
        """Forget the links by which a target can agree; return whether there was one."""
        try:
            value = Address.parse(target).normal
        except NotAnAddress:
            return False
        forget = self._state.web_db.forget_links
        return bool(await self._state.executor.run(forget, account.address, FORWARD, value))

    async def keep_copy(self, visit: Visit) -> Response:
        """Say whether mail that is forwarded stays here, too."""
        keeps = visit.filled("copy") == "yes"
        try:
            await self._change(
                visit.owner.address, lambda account: account.forward, keep_copy=keeps
            )
        except AddressRefused as why:
            self._say_refused(visit, why)
            return redirect(FORWARD_PAGE)
        self._context.note_change(visit, f"forward keeps a copy: {'yes' if keeps else 'no'}")
        visit.own_session.say(visit.text("That is saved."))
        return redirect(FORWARD_PAGE)

    def _say_refused(self, visit: Visit, why: AddressRefused) -> None:
        text = visit.text("This was refused: %(why)s", why=str(why))
        visit.own_session.say(text, "failed")

    # -- the target --------------------------------------------------------------------------

    async def asked(self, visit: Visit) -> Response:
        """Show whose mail the target of a forward would get; only the button confirms."""
        token = visit.request.asked("token")
        found = await self._state.executor.run(self._state.web_db.look_at_link, FORWARD, token)
        if found is None:
            raise NotServed(404, "This link is unknown, was used before, or is too old.")
        return self._pages.page(
            visit, "confirm.html", owner=found.account, target=found.value, token=token
        )

    async def confirmed(self, visit: Visit) -> Response:
        """Forward mail to the target that has confirmed it."""
        token = visit.request.filled("token")
        found = await self._state.executor.run(self._state.web_db.use_link, FORWARD, token)
        account = None if found is None else await self._context.directory.find(found.account)
        if found is None or account is None:
            raise NotServed(404, "This link is unknown, was used before, or is too old.")
        target = Address.parse(found.value)
        await self._forget(account, found.value)

        def with_target(account: Account) -> Sequence[Address]:
            if target.normal in {one.normal for one in account.forward}:
                return account.forward
            if len(account.forward) >= TARGETS:
                raise NotServed(403, "The mail of this account goes to too many addresses already.")
            return [*account.forward, target]

        try:
            new = await self._change(account.address, with_target)
        except AddressRefused as why:
            raise NotServed(403, str(why)) from why
        if new:
            what = f"forward to {target.normal} confirmed"
            self._context.note_change(visit, what, account.address, by=target.normal)
        return self._pages.page(visit, "confirmed.html", owner=account.address)
