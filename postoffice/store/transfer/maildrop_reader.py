"""Reads a maildrop without a session, so that it can be compared.  All functions block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from postoffice.interfaces import ImportedMessage
from postoffice.model.listing import Entry
from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.text import pieces
from postoffice.store.transfer import import_record


class MaildropReader:
    """See ``interfaces.IMaildropReader``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._sizes = MeasuredSizes()

    def entries(self) -> Sequence[Entry]:
        if not os.path.isdir(self._folder):
            return ()
        return maildir.scan(self._folder, self._sizes).entries

    def text(self, entry: Entry) -> Iterator[bytes]:
        fd, as_it_is = maildir.open_text(self._folder, entry, self._sizes)
        try:
            yield from pieces(fd, as_it_is=as_it_is)
        finally:
            os.close(fd)

    def imported(self) -> Mapping[str, ImportedMessage]:
        return import_record.manifest(f"{self._folder}/{import_record.FILE}")
