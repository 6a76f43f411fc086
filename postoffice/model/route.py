"""Where a message for another domain goes next."""

from __future__ import annotations

from dataclasses import dataclass, field

from postoffice.model.hop import VERIFY


@dataclass(frozen=True, slots=True)
class Direct:
    """To the hosts that the recipient's domain names in the DNS (RFC 5321 §5.1)."""


@dataclass(frozen=True, slots=True)
class Host:
    """To one host by its name or IP address; with port 0, ``host`` is the path of a UNIX socket."""

    host: str
    port: int = 25
    lmtp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Smarthost:
    """
    To another mail server, which sends the message on.

    ``name`` is that in the configuration: two smarthosts may be one host with different logins.
    ``level`` is one of ``hop.LEVELS``; ``implicit`` is TLS from the first octet.  ``rate`` is how
    many messages in how many seconds.  ``sign``: the mail gets our DKIM signature.
    """

    name: str
    host: str
    port: int = 587
    login: str = ""
    password: str = field(default="", repr=False)
    level: str = VERIFY
    implicit: bool = False
    rate: tuple[int, float] = (300, 3600.0)
    sign: bool = True


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nowhere: it is refused, with these words."""

    words: str


Route = Direct | Host | Smarthost | Refuse
