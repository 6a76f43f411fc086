"""
Imports from old servers, behind the first logins of users who move here.

Each is the command ``postoffice maildrop import`` in a process of its own: the daemon gives it the
password of the login on standard input, and keeps that nowhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from postoffice.interfaces import Executor
from postoffice.model import log_events
from postoffice.model.log_event import tell

log = Logger("postoffice")

#: Imports at one time, and how many may wait for their turn.
AT_ONCE = 2
WAITING = 1000
#: Seconds until the next try while the user's session holds the maildrop; and tries.
PAUSE = 10.0
TRIES = 360
#: What the command says while a session holds the maildrop.
IN_USE = "a POP3 session is open"
COMMAND = "import sys; sys.argv[0] = 'postoffice'; from postoffice.cli import main; main()"
_INTERRUPTED = "the post office was stopped"


@dataclass(frozen=True)
class Outcome:
    """What the command says of one import; ``why`` it failed, or ""."""

    messages: int = 0
    octets: int = 0
    why: str = ""

    @classmethod
    def read(cls, said: bytes, errors: bytes) -> Outcome:
        """Read the answer of ``--json``."""
        try:
            answer = json.loads(said)
            one = answer["maildrops"][0] if "maildrops" in answer else answer
            why = one.get("error") or "; ".join(one.get("left", ())[:3])
            return cls(one.get("messages", 0), one.get("octets", 0), str(why))
        except (ValueError, LookupError, AttributeError, TypeError):
            text = errors.decode("utf-8", "replace").strip()
            return cls(why=text.rpartition("\n")[2] or "the command said nothing")


@dataclass
class FirstImports:
    """
    Begins imports, and retries those that a session holds up.

    ``file`` is the configuration; ``executor`` is for calls that wait for other servers.
    """

    file: str
    executor: Executor
    clock: IReactorTime
    _jobs: dict[str, Deferred[None]] = field(default_factory=dict)
    _processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._turns = DeferredSemaphore(AT_ONCE)

    def begin(self, account: str, words: Sequence[str], password: bytes) -> None:
        """Import into the account's maildrop, in the background."""
        if self._stopped or account in self._jobs:
            return
        if len(self._jobs) >= WAITING:
            self._tell(account, Outcome(why="too many imports wait"))
            return
        job = Deferred.fromCoroutine(self._import(account, words, password))
        self._jobs[account] = job
        job.addErrback(lambda why: log.failure("a first import failed", failure=why))
        job.addCallback(self._ended, account)

    def _ended(self, _: object, account: str) -> None:
        self._jobs.pop(account, None)

    async def stop(self) -> None:
        """End all imports; what they have committed stays."""
        self._stopped = True
        for process in list(self._processes):
            process.send_signal(signal.SIGINT)
        for job in list(self._jobs.values()):
            job.cancel()

    async def _import(self, account: str, words: Sequence[str], password: bytes) -> None:
        outcome = Outcome(why=_INTERRUPTED)
        try:
            for _ in range(TRIES):
                outcome = await self._turn(account, words, password)
                if not outcome.why.startswith(IN_USE):
                    break
                await deferLater(self.clock, PAUSE)
        except CancelledError:
            outcome = Outcome(why=_INTERRUPTED)
        self._tell(account, outcome)

    async def _turn(self, account: str, words: Sequence[str], password: bytes) -> Outcome:
        await self._turns.acquire()
        try:
            return await self.executor.run(self._run, account, words, password)
        finally:
            self._turns.release()

    def _run(self, account: str, words: Sequence[str], password: bytes) -> Outcome:
        """Run the command, on a thread."""
        if self._stopped:
            return Outcome(why=_INTERRUPTED)
        options = ("--password-stdin", "--json", "--config", self.file)
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", COMMAND, "maildrop", "import", account, *words, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=os.path.dirname(self.file),
            start_new_session=True,
        )
        self._processes.add(process)
        try:
            return Outcome.read(*process.communicate(password + b"\n"))
        finally:
            self._processes.discard(process)

    def _tell(self, account: str, outcome: Outcome) -> None:
        if outcome.why:
            facts = {"messages": outcome.messages, "why": outcome.why}
            tell(log, log_events.FIRST_IMPORT_FAILED, account=account, **facts)
        else:
            facts = {"messages": outcome.messages, "octets": outcome.octets}
            tell(log, log_events.FIRST_IMPORT, account=account, **facts)
