"""
The files of a store of Maildirs, for those who move them: backup, restore, import and export.

MaildirFiles is the part of MaildirStore that does not take part in deliveries and sessions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

from zope.interface import implementer

from postoffice.interfaces import (
    Executor,
    ExportResult,
    ExportTarget,
    IImportMirror,
    IMaildropExport,
    IMaildropImport,
    IMaildropIntake,
    ImportResult,
    ImportSource,
    IStoreBackup,
    Piece,
    Step,
)
from postoffice.interfaces.maintenance import no_progress
from postoffice.store import files, merge, names, snapshot
from postoffice.store.journal.journal import Journal
from postoffice.store.transfer import import_gone
from postoffice.store.transfer.import_writer import ImportWriter
from postoffice.store.transfer.maildrop_reader import MaildropReader, ReadListings


@implementer(IImportMirror, IMaildropExport, IMaildropImport, IMaildropIntake, IStoreBackup)
class MaildirFiles:
    """What backup, restore, import and export ask of a store; MaildirStore sets what it uses."""

    _path: str
    _executor: Executor
    _journal: Journal
    _hostname: str
    _undelete: float
    _vault_limit: int | None
    _read_listings: ReadListings

    def _folder(self, name: str) -> str:
        return f"{self._path}/{names.folder_of(name)}"

    @property
    def path(self) -> str:
        return self._path

    async def settle(self) -> None:
        with files.failures(self._path):
            await self._executor.run(self._journal.apply_waiting)

    def folder_of(self, name: str) -> str:
        return names.folder_of(name)

    async def folders(self) -> list[tuple[str, int]]:
        return await self._executor.run(snapshot.folders, self._path)

    async def pieces(self, folder: str) -> list[Piece]:
        return await self._executor.run(snapshot.pieces, self._path, folder)

    def find_again(self, piece: Piece) -> Piece | None:
        return snapshot.find_again(self._path, piece)

    def removed(self) -> Iterator[Piece]:
        return snapshot.removed(self._path)

    async def staging(self, folder: str) -> str:
        return await self._executor.run(merge.staging, f"{self._path}/{folder}")

    async def put_back(self, folder: str, staging: str) -> tuple[int, int]:
        path = f"{self._path}/{folder}"
        return await self._executor.run(merge.put_back, path, staging, self._journal)

    async def bring_in(
        self, name: str, source: ImportSource, step: Step | None = None
    ) -> ImportResult:
        from postoffice.store.transfer import import_maildrop  # only the command needs it

        bring_in = partial(import_maildrop.bring_in, step=step or no_progress)
        return await self._executor.run(
            bring_in, self._folder(name), source, self._journal, self._hostname
        )

    async def remove_gone(self, name: str, listed: Collection[str], dry: bool) -> int:
        keep, vault_limit = bool(self._undelete), self._vault_limit
        remove = partial(import_gone.remove_gone, keep=keep, dry=dry, vault_limit=vault_limit)
        return await self._executor.run(remove, self._folder(name), listed, self._journal)

    async def take_out(
        self, name: str, target: ExportTarget, step: Step | None = None
    ) -> ExportResult:
        from postoffice.store.transfer import export_maildrop  # only the command needs it

        await self.settle()
        take_out = partial(export_maildrop.take_out, step=step or no_progress)
        return await self._executor.run(take_out, self._folder(name), target)

    def import_writer(self, name: str, age_real: bool) -> ImportWriter:
        return ImportWriter(self._folder(name), self._journal, self._hostname, age_real=age_real)

    def reader(self, name: str) -> MaildropReader:
        return MaildropReader(self._folder(name), self._read_listings)
