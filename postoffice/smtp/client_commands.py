"""The commands of an SMTP client, and what the server offers for them (EHLO)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.model.hop import CHECK, PeerReply, Transaction
from postoffice.model.queued_message import QueuedRecipient

#: Characters that an address may not have on the wire: they could end the command.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
#: A parameter of DSN (RFC 3461 §4), in ASCII or with SMTPUTF8 (RFC 6533 §4).
_VALUE = re.compile(r"[!-<>-~]{1,500}\Z")
_VALUE_UTF8 = re.compile(r"[!-<>-~\x80-\ud7ff\ue000-\U0010ffff]{1,500}\Z")


@dataclass(frozen=True, slots=True)
class Offers:
    """
    What a server says in answer to EHLO or LHLO: its ``name``, and ``extensions`` by keyword.

    ``size``, ``recipients`` and ``messages`` are its limits (RFC 1870, RFC 9422); 0 is none.
    """

    name: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    recipients: int = 0
    messages: int = 0

    @classmethod
    def read(cls, lines: Sequence[bytes], *, extended: bool) -> Offers:
        """Read the lines of a reply to EHLO, or of one to HELO, which offers nothing."""
        texts = [line.decode("ascii", "replace").strip() for line in lines]
        found: dict[str, str] = {}
        for text in texts[1:] if extended else ():
            # "AUTH=" is what servers said before there was a standard
            keyword, _, value = re.sub(r"\AAUTH=", "AUTH ", text, flags=re.I).partition(" ")
            known = found.get(keyword.upper(), "")
            found[keyword.upper()] = f"{known} {value.strip()}".strip()
        limits = dict(word.partition("=")[::2] for word in found.get("LIMITS", "").split())
        return cls(
            texts[0].partition(" ")[0],
            found,
            size=_number(found.get("SIZE", "").partition(" ")[0]),
            recipients=_number(limits.get("RCPTMAX", "")),
            messages=_number(limits.get("MAILMAX", "")),
        )

    def has(self, keyword: str) -> bool:
        """Whether the server has an extension."""
        return keyword in self.extensions

    @property
    def mechanisms(self) -> list[str]:
        """The SASL mechanisms."""
        return self.extensions.get("AUTH", "").upper().split()


def objections(
    transaction: Transaction, offers: Offers, *, verified: bool
) -> list[PeerReply | None]:
    """Return for each recipient why the message cannot be sent through this server, or None."""
    refusal = _objection(transaction, offers, verified=verified)
    utf8 = offers.has("SMTPUTF8")
    return [
        refusal
        or (BAD_ADDRESS if _UNSAFE.search(one.address) else None)
        or (None if utf8 or _is_ascii(one.address) else NO_UTF8)
        for one in transaction.recipients
    ]


def _objection(transaction: Transaction, offers: Offers, *, verified: bool) -> PeerReply | None:
    """Why the message cannot be sent to any recipient through this server."""
    if transaction.requiretls and not (verified and offers.has("REQUIRETLS")):
        return NO_REQUIRETLS
    if offers.size and transaction.size > offers.size:
        told = f"The message has {transaction.size} octets, the server takes {offers.size}"
        return PeerReply(552, "5.3.4", told, CHECK)
    if _UNSAFE.search(transaction.sender):
        return BAD_ADDRESS
    needed = transaction.utf8 or not _is_ascii(transaction.sender)
    return NO_UTF8 if needed and not offers.has("SMTPUTF8") else None


def mail(transaction: Transaction, offers: Offers, *, utf8: bool) -> bytes:
    """The MAIL command; ``utf8``: with SMTPUTF8."""
    words = [f"MAIL FROM:<{_path(transaction.sender)}>"]
    if offers.has("SIZE"):
        words.append(f"SIZE={transaction.size}")
    if transaction.eight_bit and offers.has("8BITMIME"):
        words.append("BODY=8BITMIME")
    if utf8:
        words.append("SMTPUTF8")
    if transaction.requiretls:
        words.append("REQUIRETLS")
    if offers.has("DSN"):
        words += [f"RET={transaction.ret}"] if _VALUE.match(transaction.ret) else []
        words += [f"ENVID={transaction.envid}"] if _VALUE.match(transaction.envid) else []
    return " ".join(words).encode() + b"\r\n"


def rcpt(recipient: QueuedRecipient, offers: Offers, *, utf8: bool) -> bytes:
    """The RCPT command; ``utf8``: MAIL said SMTPUTF8."""
    line = f"RCPT TO:<{_path(recipient.address)}>"
    if offers.has("DSN"):
        fits = _VALUE_UTF8 if utf8 else _VALUE
        line += f" NOTIFY={recipient.notify}" if _VALUE.match(recipient.notify) else ""
        line += f" ORCPT={recipient.orcpt}" if fits.match(recipient.orcpt) else ""
    return line.encode() + b"\r\n"


def uses_utf8(transaction: Transaction, offers: Offers) -> bool:
    """Whether SMTPUTF8 is offered, and the header, the sender or a recipient needs it."""
    return offers.has("SMTPUTF8") and (
        transaction.utf8
        or not _is_ascii(transaction.sender)
        or not all(_is_ascii(one.address) for one in transaction.recipients)
    )


def _is_ascii(address: str) -> bool:
    """Whether an address needs no SMTPUTF8; its domain can be sent as A-labels."""
    return address.isascii() or _path(address).isascii()


def _path(address: str) -> str:
    """The address as it is sent: its domain in A-labels."""
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    try:
        return f"{local}{at}{normal_domain(domain)}"
    except NotAnAddress:
        return address


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


#: Why a recipient is refused before the server is asked.
NO_UTF8 = PeerReply(553, "5.6.7", "The server does not take addresses or fields in UTF-8", CHECK)
NO_REQUIRETLS = PeerReply(550, "5.7.30", "The server cannot keep REQUIRETLS", CHECK)
BAD_ADDRESS = PeerReply(553, "5.1.3", "The address has control characters", CHECK)
