"""Requests and responses as values, without sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from postoffice.model.envelope import Client

#: Methods that change nothing (RFC 9110 §9.2.1).
SAFE = ("GET", "HEAD")
#: The names of this machine itself.
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True)
class WebRequest:
    """
    One request, read completely.

    ``path`` is decoded, and begins with a slash.  ``query`` and ``form`` have all values of each
    name; ``headers`` the first value, by lower-case name.  ``client`` is the browser's machine,
    also behind a proxy; its ``encrypted`` says whether the browser speaks HTTPS.  ``direct`` is
    False if a proxy stands between, one of ours or not.  ``body`` is what came if it was no form.
    """

    method: str
    path: str
    client: Client
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    form: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    direct: bool = True
    body: bytes = field(default=b"", repr=False)

    def asked(self, name: str) -> str:
        """Return the first value of a name in the query, or ""."""
        return next(iter(self.query.get(name, ())), "")

    def filled(self, name: str) -> str:
        """Return the first value of a field of the form, or ""."""
        return next(iter(self.form.get(name, ())), "")

    @property
    def host(self) -> str:
        """The host name of the Host header in lower case, without its port."""
        return host_of(self.headers.get("host", ""))

    @property
    def at_the_machine(self) -> bool:
        """
        Whether the browser runs on this machine, and nothing stands between.

        Such a browser asks for a name of the machine itself; a web server in front that hands on
        the public name, or the origin of the public page, is not taken for one.
        """
        named = self.host in LOOPBACK
        origin = self.headers.get("origin", "")
        if origin and origin.partition("://")[2].lower() != self.headers.get("host", "").lower():
            named = False
        return self.direct and self.client.local and named


@dataclass(frozen=True)
class Response:
    """An answer; ``headers`` are added to those that every answer has, or replace them."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()


class NotServed(Exception):
    """The request cannot be served; the text goes to the browser, as a page with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def redirect(path: str, cookies: Sequence[str] = ()) -> Response:
    """Return an answer that leads to another page of ours, with GET (RFC 9110 §15.4.4)."""
    return Response(303, headers={"Location": path}, cookies=cookies)


def host_of(authority: str) -> str:
    """Return the host of ``host:port`` or ``[v6]:port``, in lower case, without its last dot."""
    host = authority.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0].removesuffix(".")
