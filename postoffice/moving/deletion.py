"""Deletes at the old server what is durably here, after both texts were compared.  It blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from postoffice.interfaces import IImportWriter, IMaildropReader
from postoffice.model.errors import MessageGone
from postoffice.model.listing import Entry
from postoffice.moving.old_server_list import Listed
from postoffice.pop3.client_commands import Ended, dele, retr
from postoffice.pop3.client_connection import POP3ClientConnection
from postoffice.store.transfer.text_digest import TextDigest


class Deletion:
    """
    Marks messages as deleted in one session at the old server; its QUIT removes them.

    A message that is not here any more, because its owner has deleted it, stays.  ``marked`` are
    how many go, ``other`` says why others stay.
    """

    def __init__(self, writer: IImportWriter, reader: IMaildropReader) -> None:
        self._writer = writer
        self._reader = reader
        self.marked = 0
        self.other: list[str] = []

    def work(
        self, connection: POP3ClientConnection, listed: Sequence[Listed], digests: Mapping[str, str]
    ) -> None:
        """
        Compare what this session has ``listed`` with what is here, and mark what is the same.

        ``digests`` are of texts that have arrived in this session, by their UIDLs here; others
        are fetched again.  Texts of an earlier session prove nothing, because some servers
        may have given the UIDL to another message since.  Raises POP3Failed, TemporaryFailure.
        """
        self.marked, self.other = 0, []
        entries = {entry.uidl: entry for entry in self._reader.entries()}
        here = [one for one in listed if one.key in entries]
        equal = list(self._equal(connection, here, entries, digests))
        self._writer.mark_moved([one.key for one in equal])  # before the old server removes them
        for event in connection.fetch(dele(one.number) for one in equal):
            self.marked += isinstance(event, Ended) and event.reply.ok
        if refused := len(equal) - self.marked:
            self.other.append(f"the old server refuses to delete {refused} of the messages")

    def _equal(
        self,
        connection: POP3ClientConnection,
        here: list[Listed],
        entries: Mapping[str, Entry],
        digests: Mapping[str, str],
    ) -> Iterator[Listed]:
        """Those with the same text."""
        known = [(one, digests[one.key]) for one in here if one.key in digests]
        others = [one for one in here if one.key not in digests]
        for one, there in (*known, *_fetched(connection, others)):
            if there == self._ours(entries[one.key]):
                yield one
            else:
                self.other.append(f"{one.key}: not deleted at the old server: its text differs")

    def _ours(self, entry: Entry) -> str:
        try:
            return TextDigest.of(self._reader.text(entry)).whole
        except MessageGone:
            return ""


def _fetched(
    connection: POP3ClientConnection, wanted: list[Listed]
) -> Iterator[tuple[Listed, str]]:
    coming = iter(wanted)
    digest = TextDigest()
    for event in connection.fetch(retr(one.number) for one in wanted):
        if not isinstance(event, Ended):
            digest.feed(event.octets)
            continue
        digest.end()
        yield next(coming), digest.whole if event.reply.ok else "refused"
        digest = TextDigest()
