"""Replay in Maildirs: messages put in their places again, in files that no power cut has seen."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any

from postoffice.model.errors import TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import drafts, files, maildir, names, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import FOLDERS, FULL, JOURNAL, make, sync_folder
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.records import PutRecord, RemoveRecord
from postoffice.store.journal.segments import SEGMENT
from postoffice.store.quota import maildirsize

#: How many place at the same time: as many as are waited for where each file is synced, else as
#: many as the interpreter lets work side by side.
THREADS_THAT_SYNC = 4
THREADS = 2
#: How many messages each takes at once, and how many times as many wait for it.
BATCH = 32
AHEAD = 4
#: What fails with these would fail in any maildrop: our process has used up what it may have.
SPENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def journal_of(store: str, report: Callable[[str, str], None], segment: int = SEGMENT) -> Journal:
    """This process's part in the journal of the store of Maildirs at ``store``."""
    return Journal(
        f"{store}/{JOURNAL}",
        partial(MaildirRedo, store, report),
        report,
        key_of=names.uidl_of_file,
        segment=segment,
    )


class _Lane:
    """A thread that places one message behind the other, for some of the maildrops."""

    def __init__(self, put: Callable[..., None]) -> None:
        self._put = put
        self._thread = ThreadPoolExecutor(1, "replay")
        self._batch: list[tuple[Any, ...]] = []
        self._running: deque[Future[None]] = deque()

    def add(self, *message: Any) -> None:
        """One more; it waits while too many do.  What went wrong with one before is raised."""
        self._batch.append(message)
        if len(self._batch) >= BATCH:
            self._begin()
            while len(self._running) > AHEAD:
                self._running.popleft().result()

    def settle(self) -> None:
        """Wait for what is being placed; what went wrong is raised."""
        self._begin()
        while self._running:
            self._running.popleft().result()

    def end(self) -> None:
        """What has not begun is let be."""
        self._thread.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._running.append(self._thread.submit(self._put_each, batch))

    def _put_each(self, batch: Sequence[tuple[Any, ...]]) -> None:
        for message in batch:
            self._put(*message)


class MaildirRedo:
    """
    One replay over the Maildirs of ``store`` (``recovery.MakeRedo`` says the rest).

    What cannot be put into a maildrop or taken out of it, and not for want of
    space, is set aside (aside.py): one broken maildrop keeps nobody else's
    mail waiting.
    """

    def __init__(
        self,
        store: str,
        report: Callable[[str, str], None],
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
        self._alone = anew and not synced  # nobody can miss what is away for a moment
        self._known: dict[str, dict[str, str]] = {}  # by folder: where each message is
        self._vaults: dict[str, dict[str, str]] = {}  # by folder: what is in it already
        self._looking = Lock()
        threads = THREADS_THAT_SYNC if synced else THREADS
        self._lanes = [_Lane(self._put_record) for _ in range(threads)]
        self._lane_of: dict[str, _Lane] = {}  # by maildrop
        # by folder, where each is synced: what was put there, of which vault ("": of none)
        self._put_files: dict[str, list[tuple[str, str, str]]] = {}
        self._removed: dict[str, list[tuple[Sequence[str], str]]] = {}  # what was taken out, too
        self._apart: dict[str, bool] = {}  # which maildrops the journal's sync does not reach

    def __enter__(self) -> MaildirRedo:
        return self

    def __exit__(self, *why: object) -> None:
        for lane in self._lanes:
            lane.end()

    def put(
        self, record: PutRecord, maildrops: Sequence[str], kept: Sequence[tuple[str, str]]
    ) -> None:
        """A message, for these of its maildrops and vaults; a thread sees to it."""
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
        """One file, with as many names as maildrops and vaults."""
        first = ""
        if record.text is None:
            large = self._large_of(record)
            if not os.path.lexists(large):
                whose = ", ".join([*maildrops, *(maildrop for maildrop, _ in kept)])
                self._report("error", f"{large}, of a message for {whose}, is lost: not replayed")
                return
            if not self._synced:  # after a failed sync the disk may have lost that file's text
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
        """A message waits until it can be put where it belongs.  Raises OSError."""
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
        """Raise an error that is not of this maildrop alone: no space, descriptors or memory."""
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
        """What was removed before it had reached the disk is whole in the vault, too."""
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
            with suppress(OSError):  # ``remove`` tries again, and sets it aside
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
        A file that no power cut has seen, under this name, by way of a maildrop's tmp.

        ``there``: one is under that name.
        """
        part = f"{folder}/tmp/{names.unique_part(record.name)}"
        sync = self._syncs(folder)
        for tries_left in (2, 1, 0):
            try:
                self._write(part, record, first, sync=sync)
            except FileExistsError:  # of a replay that was cut, or of who was to place it
                os.unlink(part)
                self._write(part, record, first, sync=sync)
            if there and self._alone and not path.startswith(f"{folder}/cur/"):
                # ext4 writes a file out that takes another's name: ten times as long
                with suppress(FileNotFoundError):
                    os.unlink(path)
            box = os.path.dirname(path)
            try:
                drafts.move(part, path, os.path.dirname(box) if vault else box)
                break
            except FileNotFoundError:  # somebody has just swept
                if not tries_left:
                    raise
            except OSError:  # it is set aside, and nobody would sweep this before the next start
                with suppress(OSError):
                    os.unlink(part)
                raise
        if first:  # where both are names of one file, a rename does nothing
            with suppress(FileNotFoundError):
                os.unlink(part)

    def _write(self, part: str, record: PutRecord, first: str, *, sync: bool) -> None:
        if first:
            try:
                os.link(first, part)
                return
            except FileNotFoundError:
                pass  # somebody has just collected it
            except OSError as error:
                if error.errno not in (*drafts.COPIED, errno.EPERM):  # or it is immutable
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
        """What was removed, into the vault or for good."""
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
        """A removal waits until its names can go; of those that are there, if we can tell."""
        self._raise_if_for_all(folder, error)
        left: Sequence[str] = ()
        with suppress(OSError):
            there = maildir.subpaths(folder)
            left = [uidl for uidl in uidls if uidl in there]
        set_aside.keep_removal(folder, left or uidls, session, str(error))
        self._tell(folder, f"removing {len(left or uidls)} messages", error)

    def finish(self) -> None:
        """What was derived from the maildrops is thrown away; what is not synced by itself, is."""
        self._settle()
        for folder in self._known:
            try:
                maildirsize.forget(folder)
            except OSError as error:
                self._report("error", f"{folder}: forgetting what it counts failed: {error}")
        for folder in [one for one in self._known if self._syncs(one)]:
            self._sync_folders(folder)

    def _sync_folders(self, folder: str) -> None:
        """Sync a maildrop's folders; where that fails, set aside all that was done in them."""
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
                        with suppress(FileNotFoundError):  # collected meanwhile
                            set_aside.keep_text(
                                folder, name, set_aside.pieces(path), str(error), session
                            )
                for uidls, session in self._removed.get(folder, []):  # they may be there again
                    set_aside.keep_removal(folder, uidls, session, str(error))
                self._tell(folder, f"syncing {box}", error)


def _is_missing(folder: str) -> bool:
    """Whether nothing is there, and not that nobody can say."""
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
