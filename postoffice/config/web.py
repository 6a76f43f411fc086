"""The settings of ``web``: where the web page is served, and to whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from postoffice.config.schema import key
from postoffice.config.source import Source
from postoffice.model import config_values as kinds
from postoffice.util.networks import Network

#: The modules of the extra ``web``.
MODULES = ("jinja2", "pyotp", "segno")
_PORT = re.compile(r":(?:port=)?(\d+)(?::|\Z)")
_LOOPBACK = re.compile(r"interface=(?:127\.[0-9.]+|\\:\\:1|localhost)(?::|\Z)")


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """
    The web page for administrators and for the owners of accounts; see docs/web.rst. Without this
    section there is none. It needs the extra `web`: pip install 'postoffice[web]'.

    listen: The endpoint on which the page is served.
    hosts: The host names by which browsers reach the page; requests for other names are refused.
        Without this key it is `hostname`. On a loopback address localhost and the addresses of this
        machine are allowed, too.
    tls: Whether browsers speak HTTPS with the page itself, with the certificates of `tls`. Without
        TLS the page is served only on a loopback address, on a UNIX socket, or to `proxies`.
    proxies: Web servers in front of the page, which speak HTTPS with the browsers. They must set
        X-Forwarded-For and X-Forwarded-Proto. All others are taken for browsers, and their fields
        of these names are not believed.
    """

    listen: str = key(kinds.ENDPOINT, "tcp:8025:interface=127.0.0.1")
    hosts: tuple[str, ...] = key(kinds.list_of(kinds.HOSTNAME), (), "[mail.example.net]")
    tls: bool = key(kinds.TRUTH, False)
    proxies: tuple[Network, ...] = key(kinds.list_of(kinds.NETWORK), (), "[192.0.2.1]")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return bool(_LOOPBACK.search(self.listen)) or self.listen.startswith("unix:")

    def address(self, port: int = 0) -> str:
        """
        Return the address of the page for browsers, without a slash at its end.

        ``port`` is the port that was opened, if ``listen`` leaves it to the system.
        """
        host = self.hosts[0] if self.hosts else "localhost"
        if self.proxies or self.listen.startswith("unix:"):
            return f"https://{host}"
        found = _PORT.search(self.listen)
        port = port or (int(found[1]) if found else 0)
        if not self.tls:
            return f"http://localhost:{port}"
        return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def available() -> bool:
    """Return whether the extra is installed."""
    return not _missing()


def _missing() -> Sequence[str]:
    return [name for name in MODULES if find_spec(name) is None]


def complete(web: WebSettings, hostname: str, certificates: object, source: Source) -> WebSettings:
    """Check the section when all keys were read; what is wrong goes to ``source``."""
    if missing := _missing():
        source.complain(
            "web",
            f"the extra web is not installed ({', '.join(missing)} missing): "
            "pip install 'postoffice[web]', or Debian's packages of these names",
        )
    if web.tls and not certificates:
        source.complain("web.tls", "needs a certificate; add one under tls: certificates:")
    if not (web.tls or web.on_loopback or web.proxies):
        source.complain(
            "web.listen",
            f"{web.listen!r} can be reached from other machines, and passwords would be sent in "
            "clear: add tls: true, or the web servers in front as proxies:, or listen on "
            "tcp:8025:interface=127.0.0.1",
        )
    return replace(web, hosts=tuple(one.lower() for one in web.hosts) or (hostname.lower(),))
