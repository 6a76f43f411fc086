"""The running plugins: account directories, the store, and policies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.config.chosen_plugin import ChosenPlugin, reason
from postoffice.daemon import privileges
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IDestination,
    IMailStore,
    IPolicy,
)
from postoffice.model.address import Account
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.util.shield import with_timeout

if TYPE_CHECKING:  # most stores have a queue of their own
    from postoffice.store.separate_queue import StoreWithQueue

#: Seconds in which a policy starts, or stops, at a reload.
START = 30.0

_Plugin: TypeAlias = "IAccountDirectory | IMailStore | IPolicy | StoreWithQueue"


@dataclass
class Plugins:
    """
    Directories, store and policies, in the order of ``chosen``.

    ``separate_queue`` is there if mail is sent, and the store has no queue (IQueueStore).
    ``start()`` creates the state folder and starts all of them; the command does not
    start the policies.  ``stop()`` stops those that were started.
    """

    state: str
    directories: Sequence[IAccountDirectory]
    store: IMailStore
    policies: Sequence[IPolicy]
    chosen: Sequence[ChosenPlugin[object]]
    executor: Executor
    separate_queue: StoreWithQueue | None = None

    log = Logger()

    def __post_init__(self) -> None:
        self._started: list[_Plugin] = []

    @property
    def destination(self) -> IDestination:
        """Where mail goes; a queue, if there is one, is its ``queue`` (IQueueStore)."""
        return self.separate_queue or self.store

    @property
    def register(self) -> IAccountRegister:
        """The first directory that the command can write to.  Raises StartupError."""
        for directory in self.directories:
            if IAccountRegister.providedBy(directory):
                return directory
        known = self.chosen[: len(self.directories)]
        kinds = ", ".join(str(chosen.maker.kind) for chosen in known)
        raise StartupError(
            f"no directory under accounts: ({kinds}) can be written to; add - kind: sqlite"
        )

    async def add_queue(self, beside: StoreWithQueue) -> None:
        """
        From now on, mail goes through a queue beside the store, which has none (a reload).

        Raises StartupError; then all is as before.
        """
        try:
            await self._start(self.chosen[len(self.directories)], beside)
        except BaseException:
            await self._stop(beside)
            self._started.remove(beside)
            raise
        self.separate_queue = beside

    async def find(self, name: str) -> Account | None:
        """Return the account of that name, from the first directory that has it."""
        for directory in self.directories:
            account: Account | None = await directory.find(name)
            if account is not None:
                return account
        return None

    async def start(self, *, policies: bool = False) -> None:
        """Start all.  Raises StartupError, after stopping those that were started."""
        try:
            await self.executor.run(_prepare, self.state)
            plugins: list[_Plugin] = [
                *self.directories,
                self.store,
            ]
            plugins += self.policies if policies else ()
            for chosen, plugin in zip(self.chosen, plugins, strict=False):
                await self._start(chosen, plugin)
            if self.separate_queue is not None:
                await self._start(self.chosen[len(self.directories)], self.separate_queue)
        except BaseException:
            await self.stop()
            raise

    async def start_policies(
        self, new: Sequence[tuple[ChosenPlugin[IPolicy], IPolicy]], clock: IReactorTime
    ) -> None:
        """
        Start more policies; each has START seconds.

        Raises StartupError, after stopping those that were started.
        """
        try:
            for chosen, policy in new:
                await self._start_soon(chosen, policy, clock)
        except BaseException:
            await self.stop_policies([policy for _, policy in new], clock)
            raise

    async def _start_soon(
        self, chosen: ChosenPlugin[IPolicy], policy: IPolicy, clock: IReactorTime
    ) -> None:
        try:
            await with_timeout(START, clock, self._start(chosen, policy))
        except TimedOut:
            raise StartupError(
                f"{chosen.key} of kind {chosen.maker.kind} failed to start: timed out, it has "
                f"not started within {START:g} s"
            ) from None

    async def stop_policies(self, policies: Sequence[IPolicy], clock: IReactorTime) -> None:
        """Stop those of these policies that were started; each has START seconds."""
        for policy in policies:
            if policy in self._started:
                self._started.remove(policy)
                try:
                    await with_timeout(START, clock, self._stop(policy))
                except TimedOut:
                    self.log.error("stopping {plugin} timed out", plugin=policy)

    async def _start(self, chosen: ChosenPlugin[object], plugin: _Plugin) -> None:
        self._started.append(plugin)
        try:
            await plugin.start()
        except (StartupError, CancelledError):
            raise
        except Exception as error:
            if not isinstance(error, PostOfficeError):
                self.log.failure("starting {key} failed", key=chosen.key)
            why = f"{chosen.key} of kind {chosen.maker.kind} failed to start: {reason(error)}"
            raise StartupError(why) from error

    async def stop(self) -> None:
        """Stop all, the store first; if one fails to stop, the others are still stopped."""
        while self._started:
            await self._stop(self._started.pop())

    async def _stop(self, plugin: _Plugin) -> None:
        try:
            await plugin.stop()
        except Exception:
            self.log.failure("stopping {plugin} failed", plugin=plugin)


def _prepare(state: str) -> None:
    """Create the state folder if it is missing, and check that it can be used."""
    me = privileges.name()
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"state: the folder {state} cannot be made: {error.strerror}; "
            f"make it, and let it belong to {me}"
        ) from error
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        raise StartupError(
            f"state: {me} may not write to the folder {state}; "
            f"let it belong to {me}: chown -R {me} {state}"
        )
