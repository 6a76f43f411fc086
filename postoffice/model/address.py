"""Mail addresses: local part, domain, and what counts as the same mailbox."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import idna

from postoffice import moved
from postoffice.model.cached_property import cached_property
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy

#: Octets of a local part and of a domain at most (RFC 5321 §4.5.3.1.1, §4.5.3.1.2).
LOCAL_MAXIMUM = 64
DOMAIN_MAXIMUM = 255

#: A character of a local part that needs no quotes (RFC 5321 §4.1.2 atext, RFC 6531 §3.3): any but
#: controls, spaces and specials.  (A range to U+10FFFF would take 4 ms to compile, at each start.)
ATEXT = r"""[^\x00-\x20"(),.:;<>@\[\\\]\x7f]"""
DOT_STRING = re.compile(rf"{ATEXT}+(?:\.{ATEXT}+)*\Z")
#: A domain that a header field can hold unquoted: of ASCII, letters, digits and ``.-_`` only.
_ONE_WORD = re.compile(r"(?:[^\x00-,/:-@\[-^`{-\x7f]+|\[[A-Za-z0-9.:%_-]+\])\Z")
_ASCII_LABELS = re.compile(r"(?!-)[a-z0-9_-]+(?<!-)(?:\.(?!-)[a-z0-9_-]+(?<!-))*\Z")


class NotAnAddress(ValueError):
    """This text is not a mail address, or not a domain; the message says why."""


@lru_cache(maxsize=4096)
def normal_domain(domain: str) -> str:
    """
    The form in which domains are compared and kept: lower case, A-labels (RFC 5891).

    An address literal (``[192.0.2.1]``) is only lowercased.  Raises NotAnAddress if
    the text is no host name.
    """
    if domain.startswith("["):
        return domain.lower()
    if len(domain) > DOMAIN_MAXIMUM:
        raise NotAnAddress(f"{domain[:80]!r}... is not a domain: over {DOMAIN_MAXIMUM} octets")
    plain = domain.lower()
    if not plain.isascii():
        try:
            plain = idna.encode(domain, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError) as error:
            raise NotAnAddress(f"{domain!r} is not a domain: {error}") from error
    if len(plain) > DOMAIN_MAXIMUM or not _ASCII_LABELS.match(plain):
        raise NotAnAddress(f"{domain!r} is not a domain")
    if any(len(label) > 63 for label in plain.split(".")):
        raise NotAnAddress(f"{domain!r} is not a domain: a label has more than 63 octets")
    return plain


@dataclass(frozen=True, slots=False)
class Address:
    """
    A mailbox's address as it was given: ``local`` without quotes, and ``domain``.

    In addresses of other domains either part may be any text.  ``domain`` is empty
    if only a name was given.  Two addresses are the same mailbox if their
    ``normal`` forms are equal.
    """

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read ``local@domain`` as people and files write it (the wire has its own grammar).

        Raises NotAnAddress.
        """
        local, at, domain = text.rpartition("@")
        if not at or not local or not domain:
            raise NotAnAddress(f"{text!r} is not an address: it needs a name, an @ and a domain")
        if local.startswith('"') and local.endswith('"') and len(local) > 2:
            local = re.sub(r"\\(.)", r"\1", local[1:-1])
        elif not DOT_STRING.match(local):
            raise NotAnAddress(f"{text!r} is not an address: {local!r} is no local part")
        if not local.isprintable():
            raise NotAnAddress(f"{text!r} is not an address: control characters before the @")
        if len(local.encode()) > LOCAL_MAXIMUM:
            raise NotAnAddress(
                f"{text!r} is not an address: over {LOCAL_MAXIMUM} octets before the @"
            )
        normal_domain(domain)
        return cls(local, domain)

    @cached_property
    def normal(self) -> str:
        """
        The form in which mailboxes are compared and kept: ``local@domain``, unquoted.

        Letter case, quotes, and the form of the domain (U-label, A-label) do not matter.
        """
        local = self.local.lower() if self.local.isascii() else _folded(self.local)
        if not self.domain:
            return local
        try:
            return f"{local}@{normal_domain(self.domain)}"
        except NotAnAddress:  # another domain's address, which may have any domain part
            return f"{local}@{self.domain.lower()}"

    @property
    def ascii(self) -> bool:
        """Whether the address can be sent without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii() and self.domain.isascii()

    def __str__(self) -> str:
        """The address as in angle brackets, quoted where necessary."""
        return self._text

    @cached_property
    def _text(self) -> str:
        if not self.domain:
            return _word(self.local)
        if not _ONE_WORD.match(self.domain):
            return _word(f"{self.local}@{self.domain}")
        return f"{_word(self.local)}@{self.domain}"


def _folded(local: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())


def _word(text: str) -> str:
    """Quote a text if it needs quotes."""
    if DOT_STRING.match(text):
        return text
    quoted = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{quoted}"'


@dataclass(frozen=True)
class Quota:
    """
    What a maildrop may hold: octets of its files, and messages; 0 is no limit.

    ``over`` says what happens to a message that does not fit: ``reject`` (permanent
    failure), ``defer`` (temporary failure) or ``make-room`` (the oldest messages
    are removed).  None means not set here: a default applies.
    """

    octets: int | None = None
    messages: int | None = None
    over: str | None = None

    def or_else(self, other: Quota) -> Quota:
        """This quota, completed with the values of ``other`` where this one has None."""
        return Quota(
            other.octets if self.octets is None else self.octets,
            other.messages if self.messages is None else self.messages,
            self.over or other.over,
        )

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self.octets or self.messages)

    def holds(self, octets: int, messages: int) -> bool:
        """Whether so many octets and messages are within the limits."""
        return (not self.octets or octets <= self.octets) and (
            not self.messages or messages <= self.messages
        )

    def share(self, octets: int, messages: int) -> float | None:
        """The share of the quota that is used (1.0 is full); None if there is no limit."""
        limits = ((octets, self.octets), (messages, self.messages))
        return max((have / most for have, most in limits if most), default=None)


#: A quota that limits nothing.
UNLIMITED = Quota(0, 0, "reject")


#: The states of an account.  An enabled one may do everything.  A disabled one may not log in and
#: gets no mail; the mail that it has stays.  The others may not send; besides, a collect-only one
#: gets no new mail, and a receive-only one may not log in.
ENABLED, DISABLED, COLLECT_ONLY, RECEIVE_ONLY, HELD = STATES = (
    "enabled",
    "disabled",
    "collect-only",
    "receive-only",
    "held",
)


@dataclass(frozen=True)
class StateNote:
    """Who set the state of an account, when (seconds since 1970; 0: not known), and why."""

    by: str = ""
    when: float = 0
    why: str = ""


#: The note of a state that nobody has set.
NO_NOTE = StateNote()


@moved.old_fields(serving="mail_policy")
@dataclass(frozen=True)
class Account:
    """
    One account, as a directory returns it.

    ``address`` is its name, in normal form.  ``maildrop`` is the name of its maildrop
    in the store, in the same form; it comes from the directory, never from a client.
    ``secret`` is its password hash in PHC string form, or None if no password can be
    used.  ``scram`` are the SCRAM-SHA-256 keys of the same password
    (``protocol.scram.Keys``), or None.  ``shared`` is a secret in clear, for CRAM-MD5
    and APOP only.  ``quota`` is what its maildrop may hold, ``mail_policy`` its mail
    policy.  ``device`` is the device whose own password was used in this login;
    empty for the account's password.  ``state`` is one of STATES, ``state_note`` says who
    set it.  ``forward`` are addresses to which its mail goes; with ``keep_copy`` its own
    maildrop gets the mail, too.  ``networks`` are those from which it may log in, as for
    ``AppPassword``; with "local" also over UNIX sockets.
    """

    address: str
    maildrop: str
    secret: str | None = None
    scram: str | None = None
    shared: str | None = None
    quota: Quota = Quota()
    mail_policy: MailPolicy = UNSPECIFIED
    device: str = ""
    state: str = ENABLED
    state_note: StateNote = NO_NOTE
    forward: tuple[Address, ...] = ()
    keep_copy: bool = True
    networks: tuple[str, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether the account may log in, collect, send and get mail."""
        return self.state == ENABLED

    @property
    def receives(self) -> bool:
        """Whether the account gets mail."""
        return self.state not in (DISABLED, COLLECT_ONLY)

    @property
    def logs_in(self) -> bool:
        """Whether the account may log in, and collect its mail."""
        return self.state not in (DISABLED, RECEIVE_ONLY)

    @property
    def sends(self) -> bool:
        """Whether the account may send mail, once it has logged in."""
        return self.state == ENABLED

    def __repr__(self) -> str:
        return f"<Account {self.address}>"  # the secret stays out of logs
