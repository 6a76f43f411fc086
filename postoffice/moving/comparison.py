"""
Compares a maildrop with the old server, or with the manifest of an import.  It blocks.

Our maildrop is read from the store, which needs neither a password nor the maildrop's lock; it is
what a session would list now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from postoffice.interfaces import IMaildropReader, ImportedMessage, Step
from postoffice.model.errors import MessageGone
from postoffice.model.listing import Entry
from postoffice.moving.comparison_rules import (
    EXPLAINED,
    NEW,
    WRONG,
    ComparedText,
    Difference,
    Lists,
    Seen,
    compare_bodies,
    compare_headers,
    compare_lists,
    compare_sizes,
    notes,
)
from postoffice.moving.old_server_list import Listed, list_all
from postoffice.pop3.client_commands import Ended, retr, top
from postoffice.pop3.client_connection import POP3ClientConnection
from postoffice.store.transfer.text_digest import TextDigest

#: Octets of a text that is compared once more, as a whole.
WHOLE = 64 << 20


@dataclass
class Compared:
    """How many messages are ``there`` and ``here``, how many are the ``same``, and what differs."""

    there: int
    here: int
    same: int = 0
    differences: list[Difference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Difference]:
        """The differences of one kind."""
        return [one for one in self.differences if one.kind == kind]


class Comparison:
    """One comparison; ``full`` compares texts, not only headers."""

    def __init__(self, reader: IMaildropReader, *, full: bool, step: Step) -> None:
        self._reader = reader
        self._full = full
        self._step = step
        self._entries: Sequence[Entry] = reader.entries()
        self._imported = reader.imported()
        self._compared = Compared(0, len(self._entries))

    def _lists(self, there: list[Seen]) -> Lists:
        self._compared.there = len(there)
        here = [Seen(entry.uidl, entry.size) for entry in self._entries]
        lists = compare_lists(there, here, self._imported)
        self._compared.differences += lists.differences
        return lists

    # -- with a server ---------------------------------------------------------------------

    def with_server(self, connection: POP3ClientConnection) -> Compared:
        """Compare with an old server.  Raises POP3Failed, TemporaryFailure."""
        old = list_all(connection)
        self._compared.warnings += old.warnings
        lists = self._lists([Seen(one.key, one.size) for one in old.messages])
        self._find_other_uidls(connection, old.messages, lists)
        pairs = [(old.messages[n], self._entries[at]) for n, at in lists.common]
        again: list[tuple[Listed, Entry]] = []
        refused = 0
        texts = _texts(connection, [one for one, _ in pairs], full=self._full)
        for done, ((one, entry), theirs) in enumerate(zip(pairs, texts, strict=True), 1):
            self._step(done, len(pairs))
            refused += theirs is None
            if not self._compare(one, entry, theirs):
                again.append((one, entry))
        if refused:
            self._compared.warnings.append(
                f"the old server refused {refused} messages: only their sizes are compared"
            )
        for one, entry in again:
            self._compare_bodies(connection, one, entry)
        return self._compared

    def _compare(self, one: Listed, entry: Entry, theirs: ComparedText | None) -> bool:
        """Compare one message; False if its bodies differ, which is to be looked into."""
        try:
            ours = ComparedText.of(self._reader.text(entry))
        except MessageGone:
            text = "it was deleted here during the comparison"
            self._compared.differences.append(Difference(NEW, "deleted", one.key, text))
            return True
        sent = theirs.size if theirs is not None and self._full else None
        found = [compare_sizes(one.key, one.size, sent, ours)]
        equal = True
        if theirs is not None:
            found.append(compare_headers(one.key, theirs.header, ours.header))
            equal = not self._full or theirs.body == ours.body
            if not self._full and found[0] is not None and found[0].kind == WRONG:
                found[0] = _by_header(one, theirs, ours) or found[0]
        differences = [each for each in found if each is not None]
        self._compared.differences += differences
        self._compared.same += not differences and equal
        return equal

    def _compare_bodies(self, connection: POP3ClientConnection, one: Listed, entry: Entry) -> None:
        """Two bodies differ: look at both as a whole."""
        if entry.size > WHOLE or (one.size or 0) > WHOLE:
            found = Difference(WRONG, "text", one.key, "the text differs")
        else:
            theirs = [
                event.octets
                for event in connection.fetch([retr(one.number, 2 * WHOLE)])
                if not isinstance(event, Ended)
            ]
            ours = b"".join(self._reader.text(entry))
            found = compare_bodies(one.key, b"".join(theirs), ours)
        self._compared.differences.append(found)

    def _find_other_uidls(
        self, connection: POP3ClientConnection, old: list[Listed], lists: Lists
    ) -> None:
        """A message that is missing may be here with another UIDL: then a client gets it twice."""
        if not (lists.missing and lists.extra):
            return
        extra = {}
        for at in lists.extra:
            entry = self._entries[at]
            extra[ComparedText.of(self._reader.text(entry)).header] = entry.uidl
        missing = [old[n] for n in lists.missing]
        for one, theirs in zip(missing, _texts(connection, missing, full=False), strict=True):
            if theirs is None or theirs.header not in extra:
                continue
            uidl = extra[theirs.header]
            text = f"it has the UIDL {uidl} here: mail programs fetch it again"
            kept = [d for d in self._compared.differences if d.uidl not in (one.key, uidl)]
            self._compared.differences = [*kept, Difference(WRONG, "uidl", one.key, text)]

    # -- with a manifest -------------------------------------------------------------------

    def with_manifest(self, manifest: Mapping[str, ImportedMessage]) -> Compared:
        """Compare with the manifest of an import or export.  Raises TemporaryFailure."""
        said = sorted(manifest.items(), key=lambda item: item[1].place)
        lists = self._lists([Seen(uidl, one.size) for uidl, one in said])
        bare = sum(not one.header for _, one in said)
        if bare:
            self._compared.warnings.append(f"the manifest has no digests of {bare} messages")
        for done, (n, at) in enumerate(lists.common, 1):
            self._step(done, len(lists.common))
            uidl, one = said[n]
            self._compare_digests(uidl, one, self._entries[at])
        return self._compared

    def _compare_digests(self, uidl: str, one: ImportedMessage, entry: Entry) -> None:
        found = []
        if one.size != entry.size:
            text = f"it had {one.size} octets, and has {entry.size} here"
            found.append(Difference(WRONG, "size", uidl, text))
        if one.header:
            ours = TextDigest.of(self._reader.text(entry))
            if ours.header != one.header:
                found.append(Difference(WRONG, "header", uidl, "the header differs"))
            elif self._full and one.text and ours.whole != one.text:
                found.append(Difference(WRONG, "text", uidl, "the text differs"))
        self._compared.differences += found
        self._compared.same += not found


def _by_header(one: Listed, theirs: ComparedText, ours: ComparedText) -> Difference | None:
    """Return whether sizes differ by as much as the headers do, in fields that do not matter."""
    more = len(theirs.header) - len(ours.header)
    if one.size == ours.size + more and notes(theirs.header) == notes(ours.header):
        text = f"it has {one.size} octets there, {ours.size} here: the header has other fields"
        return Difference(EXPLAINED, "size", one.key, text)
    return None


def _texts(
    connection: POP3ClientConnection, wanted: Sequence[Listed], *, full: bool
) -> Iterator[ComparedText | None]:
    """Yield what is to be known of each text; None if the server refuses it."""
    commands = (retr(one.number) if full else top(one.number) for one in wanted)
    text = ComparedText()
    for event in connection.fetch(commands):
        if not isinstance(event, Ended):
            text.feed(event.octets)
            continue
        text.end()
        yield text if event.reply.ok else None
        text = ComparedText()
