"""The whole site: its routes, its menu, and the application that answers."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.web.access_pages import AccessPages
from postoffice.web.admin_pages import AdminPages
from postoffice.web.application import Application
from postoffice.web.context import WebContext
from postoffice.web.forward_pages import ForwardPages
from postoffice.web.login_pages import FACTOR_PAGE, LoginPages
from postoffice.web.mailbox_pages import MailboxPages
from postoffice.web.owner_pages import OwnerPages
from postoffice.web.pages import Pages
from postoffice.web.routes import Route, Routes
from postoffice.web.sending_pages import SendingPages
from postoffice.web.settings_pages import SettingsPages
from postoffice.web.visit import Visit

#: The menu: pages by their paths, with their English names.  A page without a route is left out.
OWNER_MENU = (
    ("/", "Overview"),
    ("/mail", "Mail"),
    ("/sending", "Sent mail"),
    ("/forward", "Forward"),
    ("/devices", "Devices"),
    ("/programs", "Mail programs"),
    ("/kept", "How long mail is kept"),
    ("/password", "Password"),
)
#: For administrators, also before they may see the pages of administrators.
FACTOR_MENU = ((FACTOR_PAGE, "Second factor"),)
ADMINISTRATOR_MENU = (
    ("/admin/overview", "State of the server"),
    ("/admin/accounts", "Accounts"),
    ("/admin/aliases", "Aliases"),
    ("/admin/domains", "Domains"),
    ("/admin/maildrops", "Maildrops"),
    ("/admin/queue", "Queue"),
    ("/admin/destinations", "Destinations"),
    ("/admin/sessions", "Sessions"),
    ("/admin/log", "Log"),
    ("/admin/explain", "Way of an address"),
    ("/admin/settings", "Settings"),
)

Menu = Sequence[tuple[str, Sequence[tuple[str, str]]]]


def make_application(context: WebContext) -> Application:
    """Return the application of the whole site."""
    pages = Pages(context.hostname, context.state.now)
    pages.menu = menu
    return Application(context, pages, Routes(all_routes(context, pages)))


def all_routes(context: WebContext, pages: Pages) -> Sequence[Route]:
    """Return every route of the site."""
    mail = (OwnerPages, MailboxPages, SendingPages, ForwardPages)
    kinds = (LoginPages, *mail, AccessPages, SettingsPages, AdminPages)
    return [route for kind in kinds for route in kind(context, pages).routes()]


def menu(visit: Visit) -> Menu:
    """Return the menu of a visit: groups of pages, each with its title."""
    if visit.session is None or visit.session.pending:
        return ()
    own = [*OWNER_MENU, *(FACTOR_MENU if visit.session.administrator else ())]
    groups = [(visit.text("My mailbox"), _entries(visit, own))]
    if visit.administrator and ADMINISTRATOR_MENU:
        groups.append((visit.text("Administration"), _entries(visit, ADMINISTRATOR_MENU)))
    return groups


def _entries(visit: Visit, pages: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return [(path, visit.text(name)) for path, name in pages]
