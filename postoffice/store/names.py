"""Names in a store: of maildrops, and of the messages in them (the Maildir convention)."""

from __future__ import annotations

import binascii
import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

#: RFC 1939 §7: a UIDL has 1 to 70 of the characters 0x21 to 0x7E.
_UIDL = re.compile(r"[!-~]{1,70}\Z")
_OURS = re.compile(r"\d+\.M\d{6}P\d+Q\d+R[0-9a-f]{8}\.")
_ORDER = re.compile(r"(\d{1,18})(?:\.M(\d{1,9}))?")
#: Our own field: octets of the downgraded form, for clients without UTF-8, if there is one.
DOWNGRADED = "H"
#: The same by rules of earlier releases: ignored, and the message is measured.
OUTDATED = "D"
_FIELD = re.compile(rf",([SW{DOWNGRADED}{OUTDATED}])=(\d{{1,15}})(?=[,:]|\Z)")
#: Our own fields of an imported message: its UIDL at the old server, and its place in that order.
#: Behind "~" the UIDL is in base64url, because it has octets that a file name should not have.
_IMPORTED = re.compile(r",U=([A-Za-z0-9._-]{1,70}|~[A-Za-z0-9_-]{2,94}),O=(\d{1,12})(?=[,:]|\Z)")
_AS_IT_IS = re.compile(r"[A-Za-z0-9._-]{1,70}\Z")
#: What is imported is listed before all that arrived here: its keys are below those of any time.
_BEFORE = 2 * 10**18
_FLAGS = frozenset("DFPRST")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._+-=")

_count = count()
#: So many random parts are drawn at once; a fork shares its parent's, but has another pid.
RANDOM = 256
_digits: deque[str] = deque()


@lru_cache(maxsize=20_000)
def folder_of(maildrop: str) -> str:
    """
    The folder of a maildrop below the store: ``DOMAIN/LOCALPART``.

    Octets that are not plain are percent-encoded, and so is a leading dot, because names
    with one are the store's own.  Different maildrops have different folders.
    """
    local, _, domain = maildrop.rpartition("@")
    return f"{_plain(domain)}/{_plain(local)}"


def _plain(name: str) -> str:
    octets = name.encode("utf-8", "surrogatepass")
    encoded = "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in octets)
    if not encoded:
        return "%"
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


def maildrop_of(folder: str) -> str:
    """The maildrop of a folder, whose path ends in ``DOMAIN/LOCALPART``."""
    domain, local = folder.rsplit("/", 2)[-2:]
    return f"{_unplain(local)}@{_unplain(domain)}"


def is_maildrop(folder: str) -> bool:
    """Whether a folder has a name that ``folder_of`` makes."""
    try:
        return folder.endswith(f"/{folder_of(maildrop_of(folder))}")
    except UnicodeError:
        return False


def _unplain(name: str) -> str:
    octets = b"" if name == "%" else unquote_to_bytes(name)
    return octets.decode("utf-8", "surrogatepass")


def flags_of(name: str) -> str:
    """The Maildir flags in a file's name, as far as they mean the same everywhere, in order."""
    return "".join(sorted(_FLAGS.intersection(name.partition(":2,")[2])))


def is_seen(name: str) -> bool:
    """Whether the Maildir flag S says that the message was read."""
    return "S" in flags_of(name)


def new_name(hostname: str) -> str:
    """Make a unique file name; later names sort after it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return (
        f"{seconds}.M{nanoseconds // 1000:06d}P{os.getpid()}Q{next(_count)}"
        f"R{_random()}.{_host(hostname)}"
    )


@lru_cache(maxsize=8)
def _host(hostname: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", hostname)[:20]


def _random() -> str:
    """Eight random hex digits, drawn from the system for many names at once."""
    while True:
        with suppress(IndexError):
            return _digits.pop()
        octets = os.urandom(4 * RANDOM).hex()
        _digits.extend([octets[8 * n : 8 * n + 8] for n in range(RANDOM)])


def with_sizes(name: str, size: int, *, ends: bool = True, downgraded: int | None = None) -> str:
    """
    Add the sizes to the name of a message with CRLF line ends: ``S=`` and ``W=`` are the same.

    Without a line end after the last line (``ends``), ``W=`` is two octets more.
    ``downgraded`` is as in ``Entry``.
    """
    name = f"{name},S={size},W={size if ends else size + 2}"
    return name if downgraded is None else f"{name},{DOWNGRADED}={downgraded}"


def with_size(name: str, size: int) -> str:
    """Add the size of its file to the name of a message in the queue."""
    return f"{name},S={size}"


def size_in(name: str) -> int:
    """The size that ``with_size`` added; 0 if there is none."""
    size = name.rpartition(",S=")[2]
    return int(size) if size.isdecimal() else 0


def with_right_sizes(place: str, measured: Measured, size: int) -> str:
    """Correct the sizes in a file's name, if it has any."""
    right = {"S": size, "W": measured.wire}
    name, colon, flags = place.partition(":")
    ours = is_ours(name.rpartition("/")[2])

    def said(found: re.Match[str]) -> str:
        if found[1] in right:
            return f",{found[1]}={right[found[1]]}"
        return "" if ours else found[0]

    name = _FIELD.sub(said, name)
    if ours and measured.downgraded is not None:
        name += f",{DOWNGRADED}={measured.downgraded}"
    return name + colon + flags


def is_ours(name: str) -> bool:
    """Whether ``new_name`` made this name, not another program."""
    return _OURS.match(name) is not None


def unique_part(name: str) -> str:
    """
    The part of a file name that stays the same for the life of a message.

    Flags and size fields are not part of it.  Other fields after a comma are, because they
    may be the only difference between two messages.
    """
    name = name.partition(":")[0]
    return (_FIELD.sub("", name) or name) if "," in name else name


class Measured(NamedTuple):
    """Octets of a message as it is sent, and ``downgraded`` as in ``Entry``."""

    wire: int
    downgraded: int | None = None


class Sizes(NamedTuple):
    """
    The sizes in a name: octets in the file (S) and on the wire (W); None if missing.

    ``downgraded`` is as in ``Entry``, in names of ours only.  ``outdated``: the name has it by
    the rules of an earlier release.
    """

    file: int | None
    wire: int | None
    downgraded: int | None = None
    outdated: bool = False


def sizes_of(name: str) -> Sizes:
    """The sizes that a file's name claims (Maildir++ and Dovecot)."""
    said = {key: int(size) for key, size in _FIELD.findall(name.partition(":")[0])}
    if not is_ours(name):
        return Sizes(said.get("S"), said.get("W"))
    return Sizes(said.get("S"), said.get("W"), said.get(DOWNGRADED), OUTDATED in said)


def believable(said: Sizes, size: int) -> Measured | None:
    """The sizes in a file name of ours, if they are possible for a file of ``size`` octets."""
    if said.file != size or said.wire is None or said.outdated:
        return None
    most = 2 * size + 2  # every octet may be a bare LF, and the last line may lack its end
    return Measured(said.wire, said.downgraded) if size <= said.wire <= most else None


class Imported(NamedTuple):
    """What the name of an imported message says: its old UIDL, and its place in the old order."""

    uidl: str
    place: int


def with_import(name: str, uidl: str, place: int) -> str:
    """
    Add the old UIDL and place to a new name; a place has up to twelve digits.

    With 70 octets of any kind, sizes and flags, a name has at most 250 octets.
    """
    if not is_uidl(uidl):
        raise ValueError(f"no UIDL: {uidl!r}")
    return f"{name},U={_written(uidl)},O={place}"


def _written(uidl: str) -> str:
    if _AS_IT_IS.match(uidl):
        return uidl
    return "~" + urlsafe_b64encode(uidl.encode("ascii")).decode("ascii").rstrip("=")


def imported(name: str) -> Imported | None:
    """What ``with_import`` added to a name of ours; None if nothing, or if it is damaged."""
    found = _IMPORTED.search(name.partition(":")[0]) if is_ours(name) else None
    if found is None:
        return None
    uidl = written = found[1]
    if written.startswith("~"):
        try:
            octets = urlsafe_b64decode(written[1:] + "=" * (-len(written[1:]) % 4))
        except binascii.Error:
            return None
        uidl = octets.decode("latin-1")
    if not is_uidl(uidl) or _written(uidl) != written:  # each UIDL is written in one way
        return None
    return Imported(uidl, int(found[2]))


def without_import(name: str) -> str:
    """A name without what ``with_import`` added to it."""
    return _IMPORTED.sub("", name) if is_ours(name) else name


def is_uidl(text: str) -> bool:
    """Whether POP3 can show it as a UIDL (RFC 1939 §7)."""
    return _UIDL.match(text) is not None


def uidl_of(unique: str) -> str:
    """The UIDL of a message: its unique part, or a digest of one that cannot be a UIDL."""
    if _UIDL.match(unique):
        return unique
    return "h" + blake2b(unique.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def uidl_of_file(name: str) -> str:
    """The UIDL of the message in a file of this name; of an imported one, what it was before."""
    if ",U=" in name and (old := imported(name)) is not None:
        return old.uidl
    return uidl_of(unique_part(name))


def time_of(name: str, mtime: float) -> float:
    """When a message arrived, in seconds: the time in its name, or else ``mtime``."""
    found = _ORDER.match(name)
    return float(int(mtime) if found is None else int(found[1]))


def order_of(name: str, mtime: float) -> tuple[int, int, str]:
    """
    A key to sort names by: imported ones by their places, before all others.

    The others are sorted oldest first: by the time in the name, or else ``mtime``.
    """
    if ",O=" in name and (old := imported(name)) is not None:
        return old.place - _BEFORE, 0, name
    found = _ORDER.match(name)
    if found is None:
        return int(mtime), 0, name
    return int(found[1]), int(found[2] or 0), name
