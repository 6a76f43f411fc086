"""What an import needs of another server's mail, of whatever format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

from postoffice.store import names
from postoffice.store.oddities import NotServed
from postoffice.store.transfer.import_uidls import base_of
from postoffice.store.transfer.text_digest import TextDigest

#: Octets of the largest message that is imported.
MESSAGE_MAXIMUM = 1 << 30


@dataclass(frozen=True)
class OldMessage:
    """
    A message at the old server: where it is, its UIDL ("" if none was given), and its times.

    ``order`` sorts the messages of one list.
    """

    subpath: str
    uidl: str
    order: tuple[int, int, str]
    size: int
    arrived: float

    @property
    def base(self) -> str:
        """What the server calls it, and never changes: a part of its name."""
        return base_of(self.subpath.rpartition("/")[2])


def check_size(octets: int) -> None:
    """Raises NotServed for a file that is too large, such as one that is nearly all holes."""
    if octets > MESSAGE_MAXIMUM:
        raise NotServed(f"it has more than {MESSAGE_MAXIMUM >> 20} MiB")


class Staged(NamedTuple):
    """A message that was staged: its digest as it is sent, and whether it is a copy or a link."""

    digest: TextDigest
    copied: bool


M = TypeVar("M", bound=OldMessage)


class OldMail(Protocol):
    """The mail of one user at another server."""

    @property
    def kind(self) -> str:
        """The server or format: dovecot, courier, qmail, mbox or mboxrd."""

    @property
    def messages(self) -> list[OldMessage]:
        """All messages in order, each with a UIDL of its own."""

    @property
    def warnings(self) -> list[str]:
        """What the administrator should know: damaged lines, new UIDLs, other sizes."""

    def stage(self, message: OldMessage, staged: str, name: str) -> Staged | None:
        """
        Put a message under this name into ``new`` or ``cur`` of a folder, with sizes and flags.

        None if the server has removed it meanwhile.  Raises NotServed, OSError.
        """


@dataclass
class DistinctUIDLs:
    """Gives a new UIDL to a message that has none, one that POP3 does not allow, or another's."""

    warnings: list[str] = field(default_factory=list)

    def of(self, messages: Iterable[M]) -> Iterator[M]:
        """Yield the messages, each with its UIDL; then count the new ones in ``warnings``."""
        taken: set[str] = set()
        counts = {"no UIDL yet": 0, "a UIDL that POP3 does not allow": 0, "the UIDL of another": 0}
        for one in messages:
            if not one.uidl:
                why = "no UIDL yet"
            elif not names.is_uidl(one.uidl):
                why = "a UIDL that POP3 does not allow"
            else:
                why = "the UIDL of another" if one.uidl in taken else ""
            if why:
                counts[why] += 1
                one = replace(one, uidl=_new_uidl(one))
            taken.add(one.uidl)
            yield one
        for why, count in counts.items():
            if count:
                self.warnings.append(
                    f"{count} of the messages have {why} at the old server: they get new ones"
                )


def _new_uidl(message: OldMessage) -> str:
    """The same each time, so that an import that is run again finds the message."""
    said = f"{message.uidl}\n{message.base}".encode("utf-8", "surrogateescape")
    return "o" + blake2b(said, digest_size=20).hexdigest()
