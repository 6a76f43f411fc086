"""The password of an owner, and the app passwords of devices."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.accounts import password_rules
from postoffice.accounts.account_changes import (
    ChangeRefused,
    add_device,
    device_name,
    set_password,
)
from postoffice.interfaces import IAccountRegister
from postoffice.model.app_password import PROTOCOLS, AppPassword
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import OWNER, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit

PASSWORD_PAGE, DEVICES_PAGE = "/password", "/devices"
#: The faults of a new password, as ``password_rules`` names them; the catalogues translate them.
FAULTS = (
    "is empty",
    f"has over {password_rules.MAXIMUM} octets",
    "has control characters, or several lines",
    f"has less than {password_rules.SHORT} characters",
    "is the address, or a part of it",
    'is "password"',
    'is "passwort"',
    "is one character, again and again",
    "is digits in a row",
)


class AccessPages(PageGroup):
    """The pages of the password and of the devices."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", PASSWORD_PAGE, OWNER, self.password_form),
            Route("POST", PASSWORD_PAGE, OWNER, self.change_password, confirm=PASSWORD_PAGE),
            Route("GET", DEVICES_PAGE, OWNER, self.devices),
            Route("POST", DEVICES_PAGE, OWNER, self.add, confirm=DEVICES_PAGE),
            Route("POST", f"{DEVICES_PAGE}/remove", OWNER, self.remove),
        )

    async def _register(self, visit: Visit) -> IAccountRegister | None:
        return await self._context.directory.register_of(visit.owner.address)

    async def _needed(self, visit: Visit) -> IAccountRegister:
        register = await self._register(visit)
        if register is None:
            raise NotServed(404, "Your account is kept elsewhere, and cannot be changed here.")
        return register

    # -- password ----------------------------------------------------------------------------

    async def password_form(self, visit: Visit) -> Response:
        """Show the form."""
        register = await self._register(visit)
        return self._pages.page(visit, "password.html", writable=register is not None)

    async def change_password(self, visit: Visit) -> Response:
        """Set a new password; all other sessions of the account end."""
        register, session = await self._needed(visit), visit.own_session
        text = visit.request.filled("new_password")
        octets = text.encode("utf-8", "surrogateescape")
        fault = password_rules.mistake(octets) or password_rules.weakness(
            octets, visit.owner.address
        )
        if text != visit.request.filled("again"):
            session.say(visit.text("The two new passwords differ."), "failed")
            return redirect(PASSWORD_PAGE)
        if fault:
            why = visit.text(
                "The new password cannot be used: it %(fault)s.", fault=visit.text(fault)
            )
            session.say(why, "failed")
            return redirect(PASSWORD_PAGE)
        state, account = self._context.state, visit.owner
        await set_password(register, state.executor, account, octets)
        now = await self._context.directory.find(account.address)
        if now is not None:
            state.sessions.rebind(session, now)
        state.sessions.end_all(account.address, but=session)
        await state.executor.run(state.web_db.forget_links, account.address)
        self._context.note_change(visit, "password changed")
        session.say(visit.text("You have a new password. All other browsers are logged out."))
        return redirect(PASSWORD_PAGE)

    # -- devices -----------------------------------------------------------------------------

    async def devices(self, visit: Visit) -> Response:
        """List the devices."""
        return await self._devices(visit)

    async def _devices(self, visit: Visit, made: tuple[str, str] | None = None) -> Response:
        """List the devices, and show the app password of one that was just made."""
        address, register = visit.owner.address, await self._register(visit)
        found: Sequence[AppPassword] = await self._context.directory.app_passwords(address)
        used = await self._state.executor.run(self._context.login_history.used, 0.0, address)
        last = {method.device: (method, when) for method, when in reversed(used)}
        return self._pages.page(
            visit,
            "devices.html",
            devices=found,
            last=last,
            made=made,
            now=self._state.now(),
            writable=register is not None,
        )

    async def add(self, visit: Visit) -> Response:
        """Make an app password, which is shown this once."""
        register, session = await self._needed(visit), visit.own_session
        protocol = visit.filled("protocol")
        try:
            name = device_name(visit.request.filled("name"))
        except ValueError:
            session.say(visit.text("Give the device a name of 1 to 64 letters."), "failed")
            return redirect(DEVICES_PAGE)
        if protocol not in PROTOCOLS:
            return redirect(DEVICES_PAGE)
        try:
            password = await add_device(register, self._state.executor, visit.owner, name, protocol)
        except ChangeRefused:
            text = "There is a device of that name already, or there are too many."
            session.say(visit.text(text), "failed")
            return redirect(DEVICES_PAGE)
        self._context.note_change(visit, f"device {name!r} added")
        return await self._devices(visit, (name, password))

    async def remove(self, visit: Visit) -> Response:
        """Remove a device; its app password stops working at once."""
        register, name = await self._needed(visit), visit.request.filled("name")
        address = visit.owner.address
        if await register.remove_app_password(address, name):
            await self._state.executor.run(self._context.login_history.forget, address, name)
            self._context.note_change(visit, f"device {name!r} removed")
            visit.own_session.say(
                visit.text("The device was removed; its password no longer works.")
            )
        return redirect(DEVICES_PAGE)
