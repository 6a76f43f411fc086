"""What another server calls the messages of its Maildirs: their UIDLs, and their order.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import md5
from typing import NamedTuple

from postoffice.store.transfer.doveadm_table import Row, is_number

#: Dovecot's default for ``pop3_uidl_format``.
UIDL_FORMAT = "%08Xu%08Xv"
#: A part of a format: in braces, as Dovecot 2.4 has it; or a width, modifiers and a letter; or "%".
_PART = re.compile(r"%(?:(%)|\{([^{}]*)\}|(\d*)([A-Z]*)([a-z]))")
_LETTERS = {"u": "uid", "v": "uidvalidity", "f": "filename", "g": "guid", "m": "md5"}
#: What a format can have, by the kind of the mailbox.
_FACTS = {
    "maildir": ("uid", "uidvalidity", "filename", "guid"),
    "mbox": ("uid", "uidvalidity", "md5", "guid"),
}
_FILTER = re.compile(
    r"(hex|hexlify|lower|upper|md5|truncate|substr)"
    r"(?:\( *([0-9]{1,2}) *(?:[,;] *([0-9]{1,2}) *)?\))?\Z"
)
_NUMBER = re.compile(r"\d{0,18}")
#: Courier writes these, and what cannot be in a UIDL, as "+" and two hex digits.
_COURIER = re.compile(rb"[^!-~]|['\"+]")
_CHANGES: dict[str, Callable[[str], str]] = {
    "L": str.lower,
    "U": str.upper,
    "M": lambda text: md5(_octets(text), usedforsecurity=False).hexdigest(),
    "X": lambda text: f"{int(text):x}",
}


def _octets(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")


class OldName(NamedTuple):
    """
    The UIDL of a message at its old server; ``order`` sorts the messages of one list.

    ``own``: the message has this UIDL by itself, not by a format.  ``received``, in seconds, and
    ``size`` are what a table says.
    """

    uidl: str
    order: tuple[int, int]
    own: bool = False
    received: int | None = None
    size: int | None = None


class OldNames(NamedTuple):
    """
    The old names by ``base_of`` the files, and how many lines of the list were damaged.

    ``missing`` is how many rows of a table are not in the list.
    """

    names: Mapping[str, OldName]
    damaged: int = 0
    missing: int = 0


def base_of(name: str) -> str:
    """The part of a file's name that stays when flags change."""
    return name.partition(":")[0]


# -- Dovecot -----------------------------------------------------------------------------------


def uidl_format(form: str, kind: str = "maildir") -> Callable[[Mapping[str, str]], str]:
    """
    Return what makes a UIDL of uid, uidvalidity, filename or md5, and guid.

    ``form`` is a ``pop3_uidl_format``, of Dovecot before 2.4 or since.  Raises ValueError.
    """

    def make(facts: Mapping[str, str]) -> str:
        return _PART.sub(lambda part: _expanded(part, facts), form)

    try:
        if "%" in _PART.sub("", form):
            raise ValueError("nothing known follows a %")
        one = {**dict.fromkeys(_FACTS[kind], "one"), "uid": "1", "uidvalidity": "1"}
        if make(one) == make({**dict.fromkeys(one, "two"), "uid": "2", "uidvalidity": "1"}):
            raise ValueError("it is the same for all messages")
    except (KeyError, ValueError) as why:
        raise ValueError(f"{form!r} is no pop3_uidl_format that is known here: {why}") from why
    return make


def _expanded(part: re.Match[str], facts: Mapping[str, str]) -> str:
    percent, braces, width, changes, letter = part.groups()
    if percent:
        return "%"
    if braces is not None:
        name, *filters = (word.strip() for word in braces.split("|"))
        value: str | bytes = facts[_LETTERS.get(name, name)]
        for one in filters:
            value = _filtered(value, one)
        return value.hex() if isinstance(value, bytes) else value
    text = facts[_LETTERS[letter]]
    for change in changes:
        text = _CHANGES[change](text)
    if not width:
        return text
    return text.rjust(int(width), "0") if width.startswith("0") else text[: int(width)]


def _filtered(value: str | bytes, name: str) -> str | bytes:
    """Apply a filter of Dovecot 2.4.  Raises ValueError."""
    found = _FILTER.match(name)
    if found is None:
        raise ValueError(f"no filter {name!r} is known")
    first, second = (None if one is None else int(one) for one in found.groups()[1:])
    match found[1]:
        case "hex":
            digits = f"{int(value):x}"
            return digits.rjust(first, "0")[-first:] if first else digits
        case "hexlify":
            digits = _octets(value).hex()
            return digits.rjust(first, "0")[:first] if first else digits
        case "md5":
            return md5(_octets(value), usedforsecurity=False).digest()
        case "truncate":
            return value[:first]
        case "substr":
            return value[first or 0 :][:second]
        case "lower":
            return value.lower()
    return value.upper()


def dovecot(text: str, form: str, table: Mapping[int, Row] | None = None) -> OldNames:
    """
    Read a ``dovecot-uidlist``: ``UID [P<uidl>] [O<place>] [G<guid>] … :NAME`` after a header.

    A P field is the UIDL; without a value, the file name is.  Messages with an O field come
    first, in its order; the others follow by their UIDs.  What ``table`` says of a UID takes
    precedence.
    Raises ValueError.
    """
    table = table or {}
    make, lines = uidl_format(form), text.removesuffix("\n").split("\n")
    version, validity = _dovecot_header(lines[0] if lines else "")
    names: dict[str, OldName] = {}
    damaged = matched = 0
    for line in lines[1:]:
        uid, _, rest = line.partition(" ")
        fields, colon, name = ("", ":", rest) if version == "1" else f" {rest}".partition(" :")
        if not (is_number(uid) and name and colon):
            damaged += 1
            continue
        said = {word[0]: word[1:] for word in fields.split()}
        base = base_of(name)
        facts = {
            "uid": uid,
            "uidvalidity": validity,
            "filename": base,
            "guid": said.get("G") or base,
        }
        row = table.get(int(uid), Row(int(uid)))
        if row.guid and said.get("G", row.guid) != row.guid:
            raise ValueError(f"the table is of another mailbox: the GUIDs of UID {uid} differ")
        matched += row.uid in table
        facts["guid"] = row.guid or facts["guid"]
        own = "P" in said or bool(row.uidl)
        uidl = row.uidl or ((said["P"] or base) if "P" in said else make(facts))
        place = said.get("O", "") if row.place is None else str(row.place)
        order = (0, int(place)) if is_number(place) else (1, int(uid))
        names[base] = OldName(uidl, order, own, row.received, row.size)
    return OldNames(names, damaged, len(table) - matched)


def _dovecot_header(line: str) -> tuple[str, str]:
    """The version and the UIDVALIDITY."""
    words = line.split(" ")
    said = {word[:1]: word[1:] for word in words[1:]}
    validity = said.get("V", "") if words[0] == "3" else "".join(words[1:2])
    if words[0] not in ("1", "3") or not is_number(validity):
        raise ValueError(f"its first line is not that of a dovecot-uidlist: {line[:80]!r}")
    return words[0], validity


# -- Courier, qmail ----------------------------------------------------------------------------


def courier(text: str) -> OldNames:
    """
    Read a ``courierpop3dsizelist`` of any version.

    Version 0 has no header, and lines ``NAME SIZE``; 1 has ``NAME SIZE N``; 2 and 3 have
    ``NAME SIZE N:UIDVALIDITY``, and 3 more behind it.  Raises ValueError.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    version = "0"
    if lines and lines[0].startswith("/"):
        version = lines.pop(0)[1:].partition(" ")[0]
    if version not in ("0", "1", "2", "3"):
        raise ValueError(f"version {version[:20]!r} of a courierpop3dsizelist is not known")
    names: dict[str, OldName] = {}
    damaged = 0
    for line in lines:
        name, *words = line.rsplit(" ", 1 if version == "0" else 2)
        number, _, validity = (words[1] if len(words) == 2 else "0").partition(":")
        validity = validity.partition(":")[0] or "0"
        numbers = (words[0] if words else "", number, validity)
        if not name or not all(map(is_number, numbers)):
            damaged += 1
            continue
        base = base_of(name)
        names[base] = OldName(courier_uidl(base, int(number), int(validity)), (0, 0))
    return OldNames(names, damaged)


def courier_uidl(base: str, number: int = 0, validity: int = 0) -> str:
    """The UIDL that Courier's pop3d shows; 0 if its list has no number."""
    if number:
        return f"UID{number}-{validity}" if validity else f"UID{number}"
    return _COURIER.sub(lambda found: b"+%02X" % found[0][0], _octets(base)).decode("ascii")


def number_before(base: str) -> int:
    """The number in front of a name, by which Courier sorts."""
    found = _NUMBER.match(base)
    return int(found[0]) if found and found[0] else 0
