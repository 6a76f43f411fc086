"""A visit: one request together with who asks, as handlers get it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postoffice.model.address import Account
from postoffice.web.languages import translated
from postoffice.web.sessions import WebSession
from postoffice.web.values import WebRequest


@dataclass
class Visit:
    """
    One request, and who makes it.

    ``account`` is the session's account as it is now; handlers ask only for what belongs to it.
    ``administrator`` is whether this visit may administer; ``confirmed`` whether the password was
    given a short while ago.  ``parts`` are the parts of the path that the route has in braces.
    """

    request: WebRequest
    language: str
    session: WebSession | None = None
    account: Account | None = None
    administrator: bool = False
    confirmed: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    def text(self, english: str, **facts: object) -> str:
        """Return a text in the language of the visit, with its ``%(name)s`` filled in."""
        return translated(english, self.language, **facts)

    def filled(self, name: str) -> str:
        """Return a field of the form, without space around it."""
        return self.request.filled(name).strip()

    @property
    def owner(self) -> Account:
        """The account; only for routes that demand one."""
        assert self.account is not None
        return self.account

    @property
    def own_session(self) -> WebSession:
        """The session; only for routes that demand one."""
        assert self.session is not None
        return self.session
