"""Reads a maildrop without a session: the web page, and comparisons.  All functions block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

from postoffice.interfaces import ImportedMessage
from postoffice.model.errors import MessageGone
from postoffice.model.listing import Entry
from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes, Snapshot
from postoffice.store.text import pieces
from postoffice.store.transfer import import_record
from postoffice.util.cache import Cache


class ReadListings:
    """
    What readers have listed: a maildrop that has not changed since is not listed again.

    Several threads may use it.  Sessions have their own (``ListingCache``): when they list a
    maildrop anew they also check its quota count, which readers do not.
    """

    #: Octets of memory of all listings; 100,000 messages take some 10 million.
    LIMIT = 32 << 20

    def __init__(self) -> None:
        self.sizes = MeasuredSizes()
        self._lock = Lock()
        self._snapshots: Cache[str, Snapshot] = Cache(
            self.LIMIT, weigh=lambda snapshot: snapshot.entries.weight
        )

    def scan(self, folder: str) -> Snapshot:
        """List a maildrop.  Raises TemporaryFailure."""
        with self._lock:
            remembered = self._snapshots.get(folder)
        snapshot = maildir.scan(folder, self.sizes, remembered)
        if snapshot is not remembered:
            with self._lock:
                self._snapshots.set(folder, snapshot)
        return snapshot

    def forget(self, folder: str) -> None:
        """List this maildrop again, even if its folders have not changed."""
        with self._lock:
            self._snapshots.pop(folder)


class MaildropReader:
    """See ``interfaces.IMaildropReader``."""

    def __init__(self, folder: str, listings: ReadListings) -> None:
        self._folder = folder
        self._listings = listings

    def entries(self) -> Sequence[Entry]:
        if not os.path.isdir(self._folder):
            return ()
        return self._listings.scan(self._folder).entries

    def text(self, entry: Entry) -> Iterator[bytes]:
        try:
            fd, as_it_is = maildir.open_text(self._folder, entry, self._listings.sizes)
        except MessageGone:
            self._listings.forget(self._folder)
            raise
        try:
            yield from pieces(fd, as_it_is=as_it_is)
        finally:
            os.close(fd)

    def imported(self) -> Mapping[str, ImportedMessage]:
        return import_record.manifest(f"{self._folder}/{import_record.FILE}")
