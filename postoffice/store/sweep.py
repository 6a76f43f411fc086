"""Sweep: once a day, the leftovers of crashes and the expired files of vaults are removed."""

from __future__ import annotations

import os
import time

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from postoffice.interfaces import Executor
from postoffice.store import cleanup, maildrop_folders, vault
from postoffice.store.queue_files import MARKS, MESSAGES
from postoffice.store.quota.notices import trim

#: Seconds from one sweep to the next.
SWEEP = 86400.0
#: Seconds between two portions of expired files that are removed from the vault.
PAUSE = 0.5


class Sweep:
    """
    Sweeps the store at ``path``.

    The vault keeps messages for ``undelete`` seconds, and ``vault_limit`` octets of one
    maildrop (``vault.trim``).
    """

    log = Logger("postoffice.store.maildir_store")

    def __init__(
        self,
        path: str,
        executor: Executor,
        clock: IReactorTime,
        undelete: float,
        vault_limit: int | None,
    ) -> None:
        self._path = path
        self._run = executor.run
        self._clock = clock
        self._undelete = undelete
        self._vault_limit = vault_limit
        self.maildrops = -1  # at the last sweep

    async def run(self) -> bool:
        """
        Remove the leftovers of crashes (ours or another program's) and expired files of the vault.

        One maildrop at a time, and the vault in portions with pauses between, so that it
        does not slow deliveries down.  Returns False: there is no more to do.
        """
        run = self._run
        swept = 0
        folders = await run(maildrop_folders.maildrops, self._path)
        self.maildrops = len(folders)
        for folder in folders:
            swept += await run(cleanup.sweep, folder, time.time())
            await run(self._trim, folder)
        for place in (MESSAGES, MARKS):
            swept += await run(cleanup.sweep, f"{self._path}/{place}", time.time())
        await run(cleanup.sweep_removed, self._path, time.time())
        for domain in await run(maildrop_folders.domains, self._path):
            await self._empty(domain)
        if swept:
            self.log.info(
                "removed {swept} leftovers of failed deliveries from the store", swept=swept
            )
        return False

    def _trim(self, folder: str) -> None:
        """Count a maildrop's vault again, and remove its oldest files beyond the limit."""
        if self._vault_limit != 0 and os.path.isdir(vault.path_of(folder)):
            trim(folder, self._vault_limit, anew=True)

    async def _empty(self, domain: str) -> None:
        while True:
            _, emptied = await self._run(vault.empty, domain, time.time() - self._undelete)
            if emptied:
                return
            await deferLater(self._clock, PAUSE)
