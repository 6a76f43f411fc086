"""The sources of ``maildrop import`` and ``compare``: one, or those of a CSV file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import click

from postoffice.cli import record_files
from postoffice.cli.command import Refused
from postoffice.model.address import Address
from postoffice.pop3.client_url import NotAServer

COLUMNS: Mapping[str, Callable[[str], object]] = {
    "address": Address.parse,
    "source": str,
    "uidls": str,
    "password": str,
}


@dataclass(frozen=True)
class MaildropSource:
    """
    An account here and its source: a path, or the URL of a POP3 server.

    ``uidls`` is the path of a table of doveadm, ``password`` the one at the server; both may be "".
    ``at`` is FILE:LINE, or "" for the command line.
    """

    address: Address
    source: str
    uidls: str = ""
    password: str = ""
    at: str = ""

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raise Refused, with the place of this source, for a NotAServer within."""
        try:
            yield
        except NotAServer as why:
            raise Refused(f"{self.at}: {why}" if self.at else str(why)) from why


def sources(
    address: Address | None, source: str | None, path: str | None, words: str
) -> Iterator[MaildropSource]:
    """
    Yield the source of the command line, or those of the file.  Raises UsageError, Refused.

    ``words`` are the names of the two arguments, for the error.
    """
    if path is None:
        if address is None or source is None:
            raise click.UsageError(f"give {words}, or --from-csv")
        yield MaildropSource(address, source)
        return
    if address is not None:
        raise click.UsageError("ADDRESS and --from-csv exclude one another")
    try:
        with open(path, "rb") as file:
            for record in record_files.read(file, record_files.CSV, list(COLUMNS), lambda _: None):
                if isinstance(record, record_files.BadRecord):
                    raise record
                yield _source(record, path)
    except record_files.BadRecord as why:
        raise Refused(f"{path}:{why.line}: {why}") from why
    except OSError as error:
        raise Refused(f"reading {path} failed: {error.strerror}") from error


def _source(record: record_files.Record, path: str) -> MaildropSource:
    values = record_files.parsed(record, COLUMNS)
    if not {"address", "source"} <= values.keys():
        raise record_files.BadRecord(record.line, "it needs an address and a source")
    source, uidls, password = (str(values.get(one, "")) for one in ("source", "uidls", "password"))
    at = f"{path}:{record.line}"
    return MaildropSource(cast(Address, values["address"]), source, uidls, password, at)
