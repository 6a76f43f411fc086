"""
Removal: the messages that a session has deleted are removed at QUIT.

The blocking work is in ``expunge`` and ``maildir``.  This module decides which part of
it runs on the reactor's thread, and when the client gets its reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.model.errors import TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import expunge, files, maildir
from postoffice.store import vault as vaults
from postoffice.store.context import StoreContext
from postoffice.store.expunge import SharedTicket
from postoffice.store.journal.journal import Journal
from postoffice.store.quota import maildirsize
from postoffice.store.quota.notices import trim

T = TypeVar("T")


class Removal:
    """
    The removal of a session's messages from ``folder``, whose ``lock`` it holds.

    The messages go into the vault as those of ``session``, or for good if that is
    "".  ``known`` fires when the removal is committed, or fails.  Unlinking may go
    on after that: ``let_go`` is called when it is done.
    """

    log = Logger("postoffice.store.mailbox")

    def __init__(
        self,
        context: StoreContext,
        folder: str,
        lock: int,
        session: str,
        let_go: Callable[[], None],
    ) -> None:
        self.known: Deferred[None] = Deferred()
        self._context = context
        self._run = context.executor.run
        self._folder = folder
        self._lock = lock
        self._session = session
        self._let_go = let_go
        self._vault = ""

    async def run(self, entries: Sequence[Entry]) -> None:
        """Remove messages."""
        journal = self._context.journal
        here = journal is not None and self._context.pace.may_stay(self._folder)
        ticket: SharedTicket | None = None
        try:
            if entries and self._session:
                await self._do(here, self._ready_vault, journal, len(entries), here)
            if journal is None:
                await self._run(maildir.remove, self._folder, entries, self._vault)
                if self._vault:
                    await self._run(self._trim)
            elif here and expunge.are_few(entries):
                await self._remove_few(journal, entries)
            else:
                ticket = await self._run(self._commit, journal, entries)
        except BaseException:
            self._let_go()
            self.known.errback(Failure())  # type: ignore[no-untyped-call]
            return
        if ticket is None:
            self._let_go()
            self.known.callback(None)
            return
        self.known.callback(None)
        await self._apply_the_rest(ticket, entries)

    async def _apply_the_rest(self, ticket: SharedTicket, entries: Sequence[Entry]) -> None:
        """Unlink what is committed; the client has its reply."""
        try:
            await self._run(self._apply, ticket, entries)
        except TemporaryFailure as error:
            self.log.error("removing messages failed, retrying: {error}", error=error)
        except Exception:
            self.log.failure("removing from {folder} failed, retrying", folder=self._folder)
        finally:
            self._let_go()
        if self._vault:  # the lock is free: a login need not wait for this
            await self._run(self._trim)

    def _ready_vault(self, journal: Journal | None, count: int, near: bool) -> None:
        with files.failures(self._folder):
            self._vault = expunge.ready_vault(journal, self._folder, self._session, near=near)
        if not self._vault:
            self.log.warn(
                "{folder}: the disk is full: {count} files are removed for good",
                folder=self._folder,
                count=count,
            )

    def _commit(self, journal: Journal, entries: Sequence[Entry]) -> SharedTicket | None:
        ticket = expunge.remove(journal, self._lock, self._folder, entries, self._vault)
        if self._vault and ticket is None:
            self._trim()
        return ticket

    def _apply(self, ticket: SharedTicket, entries: Sequence[Entry]) -> None:
        expunge.apply(ticket, self._lock, self._folder, entries, self._vault)

    def _trim(self) -> None:
        trim(self._folder, self._context.vault_limit)

    async def _remove_few(self, journal: Journal, entries: Sequence[Entry]) -> None:
        """As ``expunge.remove``; only the journal's sync runs on another thread."""
        pace, folder, commits = self._context.pace, self._folder, self._context.commits
        assert commits is not None
        with pace.short():
            removal = expunge.begin(journal, self._lock, folder, entries, self._vault)
        try:
            with files.failures(folder):
                ticket = await commits.commit(removal)
        except BaseException:
            expunge.not_committed(self._lock)
            raise
        here = pace.quick and not maildirsize.is_counted(folder)
        with suppress(TemporaryFailure):  # it is committed: the next checkpoint tries again
            await self._do(here, self._apply, ticket, entries)
        if self._vault and not (here and vaults.is_within(folder, self._context.vault_limit)):
            await self._run(self._trim)

    async def _do(self, here: bool, function: Callable[..., T], *args: object) -> T:
        """Call a function: on this thread if ``here``, where the disk is quick; else on another."""
        if here:
            with self._context.pace.short():
                return function(*args)
        return await self._run(function, *args)
