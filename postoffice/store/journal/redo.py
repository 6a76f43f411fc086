"""
Redo in Maildirs: the journal's records are applied again, by a few threads.

Each message is written to a new file, because a power cut may have left the
old one empty.  Which records are applied is decided in ``recovery``.  What
cannot be applied to one maildrop is set aside (``set_aside``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock

from postoffice.model.errors import TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import drafts, files, maildir, names, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import FOLDERS, FULL, JOURNAL, Report, make
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.lanes import Lane
from postoffice.store.journal.records import PutRecord, RemoveRecord
from postoffice.store.journal.segments import SEGMENT
from postoffice.store.quota import maildirsize
from postoffice.util.atomic_file import sync_folder

#: How many threads write: more if each file is synced, as threads wait for the disk; else no more
#: than the interpreter lets run side by side.
THREADS_THAT_SYNC = 4
THREADS = 2
#: Errors that are not of one maildrop: the process has no descriptors or memory left.
SPENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def journal_of(store: str, report: Report, segment: int = SEGMENT) -> Journal:
    """Make the Journal of the store of Maildirs at ``store``."""
    return Journal(
        f"{store}/{JOURNAL}",
        partial(MaildirRedo, store, report),
        report,
        key_of=names.uidl_of_file,
        segment=segment,
    )


_Lane = Lane[PutRecord, Sequence[str], Sequence[tuple[str, str]]]


class MaildirRedo:
    """
    One redo over the Maildirs of ``store`` (arguments: ``recovery.MakeRedo``).

    If a message cannot be put into a maildrop or removed from it, and space is
    not the reason, it is set aside: one broken maildrop does not hold up the
    others.
    """

    def __init__(
        self,
        store: str,
        report: Report,
        large: str,
        *,
        anew: bool,
        synced: bool,
    ) -> None:
        self._store = store
        self._report = report
        self._large = large
        self._anew = anew
        self._synced = synced
        self.well = True
        # at a start: no client sees that a file is missing for a moment
        self._alone = anew and not synced
        self._known: dict[str, dict[str, str]] = {}  # by folder: the path of each message, by UIDL
        self._vaults: dict[str, dict[str, str]] = {}  # by vault: the file names in it, by UIDL
        self._looking = Lock()
        threads = THREADS_THAT_SYNC if synced else THREADS
        self._lanes = [Lane(self._put_record) for _ in range(threads)]
        self._lane_of: dict[str, _Lane] = {}  # by maildrop
        # by folder, if files are synced: (path, name, session of the vault or "") of what was put
        self._put_files: dict[str, list[tuple[str, str, str]]] = {}
        self._removed: dict[str, list[tuple[Sequence[str], str]]] = {}  # and what was removed
        # by folder: whether it is on another file system than the journal
        self._apart: dict[str, bool] = {}

    def __enter__(self) -> MaildirRedo:
        return self

    def __exit__(self, *why: object) -> None:
        for lane in self._lanes:
            lane.end()

    def put(
        self, record: PutRecord, maildrops: Sequence[str], kept: Sequence[tuple[str, str]]
    ) -> None:
        """Queue a message; all messages of a maildrop go to the same thread."""
        first = maildrops[0] if maildrops else kept[0][0]
        lane = self._lane_of.get(first)
        if lane is None:
            lane = self._lane_of[first] = self._lanes[len(self._lane_of) % len(self._lanes)]
        lane.add(record, maildrops, kept)

    def _settle(self) -> None:
        for lane in self._lanes:
            lane.settle()

    def _put_record(
        self, record: PutRecord, maildrops: Sequence[str], kept: Sequence[tuple[str, str]]
    ) -> None:
        """Put a message into its maildrops and vaults: one file, linked into each."""
        first = ""
        if record.text is None:
            large = self._large_of(record)
            if not os.path.lexists(large):
                whose = ", ".join([*maildrops, *(maildrop for maildrop, _ in kept)])
                self._report(
                    "error", f"{large}, of a message for {whose}, is lost: recovery failed"
                )
                return
            if not self._synced:  # not after a failed sync: it may have lost that file's text
                first = large
        for maildrop in maildrops:
            folder = f"{self._store}/{maildrop}"
            try:
                first = self._put_in_maildrop(folder, record, first)
            except OSError as error:
                self._set_aside(folder, record, error)
        for maildrop, vault in kept:
            folder = f"{self._store}/{maildrop}"
            try:
                first = self._put_in_vault(folder, vault, record, first)
            except OSError as error:
                self._set_aside(folder, record, error, vault)

    def _large_of(self, record: PutRecord) -> str:
        return f"{self._large}/{names.uidl_of_file(record.name)}"

    def _set_aside(self, folder: str, record: PutRecord, error: OSError, session: str = "") -> None:
        """Set a message aside until it can be put into its maildrop.  Raises OSError."""
        self._raise_if_for_all(folder, error)
        if record.text is not None:
            text: Iterable[bytes] = [record.text]
        else:
            text = set_aside.pieces(self._large_of(record))
        set_aside.keep_text(folder, record.name, text, str(error), session)
        self._tell(
            folder, f"putting a message into its {'vault' if session else 'maildrop'}", error
        )

    def _raise_if_for_all(self, folder: str, error: OSError) -> None:
        """Raise an error that concerns more than this maildrop: no space, descriptors or memory."""
        full = error.errno in FULL and not self._is_apart(folder)
        if full or error.errno in SPENT:
            raise error

    def _tell(self, folder: str, what: str, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in (errno.EIO, *FULL):
            self.well = False
        maildrop = folder[len(self._store) + 1 :]
        self._report(
            "error",
            f"{maildrop}: {what} failed: {error}; it is set aside in {set_aside.home(folder)}, and "
            "tried again at the next login, start or `postoffice maildrop verify --repair`",
        )

    def _is_apart(self, folder: str) -> bool:
        apart = self._apart.get(folder)
        if apart is None:
            device = os.stat(self._large).st_dev
            apart = self._apart[folder] = not files.is_on(folder, device)
        return apart

    def _syncs(self, folder: str) -> bool:
        return self._synced or self._is_apart(folder)

    def _messages(self, folder: str) -> dict[str, str]:
        known = self._known.get(folder)
        if known is None:
            with self._looking:
                if not all(os.path.isdir(f"{folder}/{box}") for box in FOLDERS):
                    make(folder)
                known = self._known.setdefault(folder, maildir.subpaths(folder))
        return known

    def _put_in_maildrop(self, folder: str, record: PutRecord, first: str) -> str:
        known = self._messages(folder)
        uidl = names.uidl_of_file(record.name)
        at = known.get(uidl)
        path = f"{folder}/{at or f'new/{record.name}'}"
        if at is not None and not self._anew:
            return path
        self._put_file(folder, path, record, first, there=at is not None)
        known[uidl] = path[len(folder) + 1 :]
        if self._syncs(folder):
            self._put_files.setdefault(folder, []).append((path, record.name, ""))
        return path

    def _put_in_vault(self, folder: str, session: str, record: PutRecord, first: str) -> str:
        """Put a removed message into its vault: its file there may be empty after a crash."""
        known, uidl = self._messages(folder), names.uidl_of_file(record.name)
        vault, kept = self._vault(folder, session)
        at = known.get(uidl)
        name = kept.get(uidl) or os.path.basename(at or record.name)
        path = f"{vault}/{name}"
        if not self._anew and (at is not None or uidl in kept):
            return first
        self._put_file(folder, path, record, first, there=uidl in kept, vault=True)
        kept[uidl] = name
        if self._syncs(folder):
            self._put_files.setdefault(folder, []).append((path, record.name, session))
        if at is not None:
            with suppress(OSError):  # ``remove`` tries again, and sets the removal aside
                os.unlink(f"{folder}/{at}")
                del known[uidl]
        return path

    def _vault(self, folder: str, session: str) -> tuple[str, dict[str, str]]:
        vault = f"{vaults.path_of(folder)}/{session}"
        with self._looking:
            kept = self._vaults.get(vault)
            if kept is None:
                vaults.make(vault, sync=self._syncs(folder))
                kept = {names.uidl_of_file(name): name for name in os.listdir(vault)}
                self._vaults[vault] = kept
        return vault, kept

    def _put_file(
        self,
        folder: str,
        path: str,
        record: PutRecord,
        first: str,
        *,
        there: bool,
        vault: bool = False,
    ) -> None:
        """
        Write a new file in the maildrop's tmp, and rename it to ``path``.

        ``there``: a file has that name already.
        """
        part = f"{folder}/tmp/{names.unique_part(record.name)}"
        sync = self._syncs(folder)
        for tries_left in (2, 1, 0):
            self._write_anew(part, record, first, sync=sync)
            if there and self._alone and not path.startswith(f"{folder}/cur/"):
                # unlink first: renaming over a file makes ext4 write it out, ten times slower
                with suppress(FileNotFoundError):
                    os.unlink(path)
            box = os.path.dirname(path)
            try:
                drafts.move(part, path, os.path.dirname(box) if vault else box)
                break
            except FileNotFoundError:  # another process has just swept tmp
                if not tries_left:
                    raise
            except OSError:  # the message is set aside; no sweep would remove this before a start
                with suppress(OSError):
                    os.unlink(part)
                raise
        if first:  # rename does nothing if both names are of one file
            with suppress(FileNotFoundError):
                os.unlink(part)

    def _write_anew(self, part: str, record: PutRecord, first: str, *, sync: bool) -> None:
        try:
            self._write(part, record, first, sync=sync)
        except FileExistsError:  # left by a redo or a commit that was cut off
            os.unlink(part)
            self._write(part, record, first, sync=sync)

    def _write(self, part: str, record: PutRecord, first: str, *, sync: bool) -> None:
        if first:
            try:
                os.link(first, part)
                return
            except FileNotFoundError:
                pass  # a client has just fetched and removed it
            except OSError as error:
                if error.errno not in (*drafts.COPIED, errno.EPERM):  # EPERM: the file is immutable
                    raise
        fd = drafts.create(part, locked=not self._alone)
        try:
            if record.text is not None:
                drafts.write_all(fd, record.text)
            else:
                drafts.copy_file(self._large_of(record), fd)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, removal: RemoveRecord) -> None:
        """Remove messages again, into the vault or for good; after all that was put."""
        self._settle()
        for maildrop, uidls in removal.names:
            folder = f"{self._store}/{maildrop}"
            if _is_missing(folder):
                continue
            try:
                set_aside.forget(folder, uidls)
                self._remove(folder, uidls, removal.vault)
            except TemporaryFailure as failure:
                if not isinstance(failure.__cause__, OSError):
                    raise
                self._set_removal_aside(folder, uidls, removal.vault, failure.__cause__)
            except OSError as error:
                self._set_removal_aside(folder, uidls, removal.vault, error)

    def _remove(self, folder: str, uidls: Sequence[str], session: str) -> None:
        known = self._messages(folder)
        entries = [Entry(one, 0, known.pop(one)) for one in uidls if one in known]
        vault = f"{vaults.path_of(folder)}/{session}" if session else ""
        maildir.remove(folder, entries, vault, sync=self._syncs(folder))
        if self._syncs(folder):
            self._removed.setdefault(folder, []).append((uidls, session))

    def _set_removal_aside(
        self, folder: str, uidls: Sequence[str], session: str, error: OSError
    ) -> None:
        """Set a removal aside; only of messages that are still there, if we can tell."""
        self._raise_if_for_all(folder, error)
        left: Sequence[str] = ()
        with suppress(OSError):
            there = maildir.subpaths(folder)
            left = [uidl for uidl in uidls if uidl in there]
        set_aside.keep_removal(folder, left or uidls, session, str(error))
        self._tell(folder, f"removing {len(left or uidls)} messages", error)

    def finish(self) -> None:
        """Wait for the threads, delete outdated quota counts, and sync folders if needed."""
        self._settle()
        for folder in self._known:
            try:
                maildirsize.forget(folder)
            except OSError as error:
                self._report("error", f"{folder}: deleting its maildirsize failed: {error}")
        for folder in [one for one in self._known if self._syncs(one)]:
            self._sync_folders(folder)

    def _sync_folders(self, folder: str) -> None:
        """Sync a maildrop's folders; if that fails, set aside all that was done in them."""
        put = self._put_files.get(folder, [])
        boxes = [f"{folder}/new", f"{folder}/cur"]
        boxes += {os.path.dirname(path) for path, _, session in put if session}
        for box in boxes:
            try:
                with suppress(FileNotFoundError):
                    sync_folder(box)
            except OSError as error:
                self._raise_if_for_all(folder, error)
                for path, name, session in put:
                    if os.path.dirname(path) == box:
                        with suppress(FileNotFoundError):  # fetched and removed meanwhile
                            set_aside.keep_text(
                                folder, name, set_aside.pieces(path), str(error), session
                            )
                for uidls, session in self._removed.get(folder, []):  # a crash may bring them back
                    set_aside.keep_removal(folder, uidls, session, str(error))
                self._tell(folder, f"syncing {box}", error)


def _is_missing(folder: str) -> bool:
    """Whether a path does not exist; False if we cannot tell."""
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
