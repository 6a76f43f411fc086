"""Deletes at the old server what is durably here, after both texts were compared.  It blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from postoffice.interfaces import IImportWriter, IMaildropReader
from postoffice.model.errors import MessageGone
from postoffice.model.listing import Entry
from postoffice.moving.old_list import Listed, list_all
from postoffice.moving.pop3_import import POP3Import
from postoffice.pop3.client_commands import Ended, dele, retr
from postoffice.pop3.client_connection import POP3Connection
from postoffice.store.digests import TextDigest


def delete_verified(done: POP3Import, reader: IMaildropReader) -> None:
    """
    Delete at the old server each message whose text is the same here.

    A text that has arrived in this pass was heard already; others are fetched again.  A message
    that is not here any more, because its owner has deleted it, stays.  Raises as ``run`` does.
    """
    deletion = Deletion(done.digests, done.writer, reader)
    farewell = done.sessions.run(deletion.work)
    if not farewell.ok:
        done.result.warnings.append(f"the old server may not have deleted all: {farewell}")
    done.result.deleted += deletion.marked
    done.result.left += deletion.other


class Deletion:
    """The work of one session; ``marked`` messages will be removed at its QUIT."""

    def __init__(
        self, digests: Mapping[str, str], writer: IImportWriter, reader: IMaildropReader
    ) -> None:
        self._digests = digests
        self._writer = writer
        self._reader = reader
        self.marked = 0
        self.other: list[str] = []

    def work(self, connection: POP3Connection) -> None:
        """Compare, and mark as deleted.  Raises POP3Failed."""
        self.marked, self.other = 0, []
        entries = {entry.uidl: entry for entry in self._reader.entries()}
        here = [one for one in list_all(connection).messages if one.key in entries]
        equal = list(self._equal(connection, here, entries))
        self._writer.mark_moved([one.key for one in equal])  # before the old server removes them
        for event in connection.fetch(dele(one.number) for one in equal):
            self.marked += isinstance(event, Ended) and event.reply.ok

    def _equal(
        self, connection: POP3Connection, here: list[Listed], entries: Mapping[str, Entry]
    ) -> Iterator[Listed]:
        """Those with the same text."""
        heard = [(one, self._digests[one.key]) for one in here if one.key in self._digests]
        others = [one for one in here if one.key not in self._digests]
        for one, there in (*heard, *_fetched(connection, others)):
            if there == self._ours(entries[one.key]):
                yield one
            else:
                self.other.append(f"{one.key}: not deleted at the old server: its text differs")

    def _ours(self, entry: Entry) -> str:
        try:
            return TextDigest.of(self._reader.text(entry)).whole
        except MessageGone:
            return ""


def _fetched(connection: POP3Connection, wanted: list[Listed]) -> Iterator[tuple[Listed, str]]:
    coming = iter(wanted)
    digest = TextDigest()
    for event in connection.fetch(retr(one.number) for one in wanted):
        if not isinstance(event, Ended):
            digest.feed(event.octets)
            continue
        digest.end()
        yield next(coming), digest.whole if event.reply.ok else "refused"
        digest = TextDigest()
