"""
Imports one maildrop from a live POP3 server.  It blocks: for a thread.

Messages are fetched pipelined, written as they arrive, and made durable in groups.  An import that
stops is continued by the UIDLs.  A message is deleted at the old server only when it is durably
here, and the old server's text was compared with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from postoffice.interfaces import (
    IImportWriter,
    IMaildropReader,
    ImportResult,
    IncomingMessage,
    MessageDigest,
    Step,
)
from postoffice.interfaces.maintenance import no_progress
from postoffice.model.errors import MaildropLocked
from postoffice.moving.arrival import HEADER_MAXIMUM, arrived
from postoffice.moving.deletion import Deletion
from postoffice.moving.old_server_list import Listed, OldList, list_all
from postoffice.moving.old_server_sessions import OldAccount, OldSessions, Stop
from postoffice.moving.patience import Patience
from postoffice.pop3.client_commands import TEXT_MAXIMUM, Ended, Event, retr
from postoffice.pop3.client_connection import POP3ClientConnection, POP3Failed
from postoffice.pop3.client_reply import ClientReply
from postoffice.store.transfer.import_maildrop import places

#: A group is committed when it has so many messages or octets, or is so many seconds old.
GROUP, OCTETS, SECONDS = 2000, 64 << 20, 30.0
#: How often a session may break off at one message before the message is left out.
TRIES = 3
#: Seconds between two tries to commit while a session holds our maildrop.
LOCKED = 2.0
RECEIVED, NOW = DATES = ("received", "now")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """
    How to import: the ``dates`` of the messages, and whether it is only counted (``dry``).

    ``patience`` is how many seconds are waited, in all, for an old server that refuses, and for
    our own maildrop.
    """

    dates: str = RECEIVED
    dry: bool = False
    patience: float = 1800.0


@dataclass
class LiveResult(ImportResult):
    """
    An ``ImportResult``, with how many messages were ``deleted`` at the old server.

    ``doubtful``: its lists cannot be relied on (``OldList``).
    """

    kind: str = "pop3"
    deleted: int = 0
    doubtful: bool = False


class POP3Import:
    """
    One pass over one account, in ``sessions`` at its server.

    ``result`` grows as messages are committed.  With a ``reader`` of the maildrop, what is here
    and has the same text is deleted there.  ``wait`` and ``clock`` are for tests.
    """

    def __init__(
        self,
        account: OldAccount,
        writer: IImportWriter,
        options: ImportOptions,
        stop: Stop,
        step: Step = no_progress,
        *,
        reader: IMaildropReader | None = None,
        wait: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.result = LiveResult()
        self._sessions = OldSessions(account, Patience(options.patience), stop, wait or stop.wait)
        self._writer = writer
        self._deletion = None if reader is None else Deletion(writer, reader)
        self._digests: dict[str, str] = {}  # of what has arrived in this session
        self._options = options
        self._stop = stop
        self._step = step
        self._wait = wait or stop.wait
        self._clock = clock
        self._began = 0.0  # when the first message of the group arrived
        self._done = self._all = 0
        self._latest = 0.0
        self._trouble: dict[str, int] = {}  # how often a session broke at a message
        self._skipped: set[str] = set()
        self._sizes = {"LF": 0, "other": 0}

    def run(self) -> None:
        """
        Import what is not here.

        Raises CannotImport, MaildropLocked, TemporaryFailure, Stopped.
        """
        self._writer.open()
        try:
            farewell = self._sessions.run(self._import)
        finally:
            self._writer.close()
        if self._deletion is not None:
            self._tell_deleted(self._deletion, farewell)
        self._tell_sizes()

    # -- one session ---------------------------------------------------------------------

    def _import(self, connection: POP3ClientConnection) -> None:
        self._digests.clear()
        old = list_all(connection)
        work = self._work(old)
        if self._options.dry:
            self.result.messages = len(work)
            self.result.octets = sum(one.size or 0 for one, _ in work)
            return
        try:
            self._fetch(connection, work)
        finally:
            self._commit()
        if self._deletion is not None:
            self._deletion.work(connection, old.messages, self._digests)

    def _tell_deleted(self, deletion: Deletion, farewell: ClientReply) -> None:
        if not farewell.ok:
            self.result.warnings.append(f"the old server may not have deleted all: {farewell}")
        self.result.deleted += deletion.marked
        self.result.left += deletion.other

    def _work(self, old: OldList) -> list[tuple[Listed, int]]:
        """Return what to fetch, and its places here."""
        writer, result = self._writer, self.result
        result.doubtful = old.doubtful
        result.listed = frozenset(text for one in old.messages for text in (one.key, one.uidl))
        found = list(places(old.messages, lambda one: writer.place_of(one.key, one.uidl)))
        if old.bare and len(found) == len(old.messages) > 0:
            result.doubtful = True  # it may have had UIDLs when they were imported
        if not self._all:  # the first session of this pass
            result.there = len(old.messages) - len(found)
            result.warnings += old.warnings
        too_long = {one.key for one, _ in found if (one.size or 0) > TEXT_MAXIMUM}
        for key in too_long - self._skipped:
            self._leave(key, f"it is listed with more than {TEXT_MAXIMUM >> 20} MiB")
        work = [(one, place) for one, place in found if one.key not in self._skipped]
        self._all = self._done + len(work)
        return work

    def _fetch(self, connection: POP3ClientConnection, work: list[tuple[Listed, int]]) -> None:
        coming = iter(work)
        message: tuple[Listed, int] | None = None
        header = bytearray()
        try:
            for event in self._events(connection, work):
                if message is None:
                    message, header = next(coming), bytearray()
                    self._begin(*message)
                if not isinstance(event, Ended):
                    if len(header) < HEADER_MAXIMUM:
                        header += event.octets[:HEADER_MAXIMUM]
                    self._writer.write(event.octets)
                    continue
                self._end(message[0], bytes(header), event.reply)
                message = None
        except POP3Failed as failed:
            broken = message or next(coming, None)
            if broken is not None and failed.reply.temporary and not self._stop.is_set:
                self._broke_at(broken[0].key, failed.reply)
            raise

    def _events(
        self, connection: POP3ClientConnection, work: list[tuple[Listed, int]]
    ) -> Iterator[Event]:
        return connection.fetch(retr(one.number) for one, _ in work)

    def _begin(self, one: Listed, place: int) -> None:
        self._began = self._began or self._clock()
        self._writer.begin(IncomingMessage(one.key, place, one.uidl or one.key))

    def _end(self, one: Listed, header: bytes, reply: ClientReply) -> None:
        if not reply.ok:
            self._writer.drop()
            self._leave(one.key, f"the old server refused it: {reply}")
        else:
            said = self._writer.end(self._arrived(header))
            if isinstance(said, str):
                self._leave(one.key, said)
            else:
                if self._deletion is not None:
                    self._digests[one.key] = said.whole
                self._check_size(one, said)
        self._done += 1
        self._sessions.patience.progressed()
        self._step(self._done, self._all)
        writer = self._writer
        full = writer.waiting >= GROUP or writer.octets >= OCTETS
        if full or self._clock() - self._began > SECONDS:
            self._commit()

    def _arrived(self, header: bytes) -> float | None:
        """The date of a message: never before that of the one before it."""
        if self._options.dates == NOW:
            return None
        now = time.time()
        found = arrived(header, now)
        self._latest = max(self._latest, found or self._latest or now)
        return self._latest

    def _check_size(self, one: Listed, digest: MessageDigest) -> None:
        if one.size is not None and one.size != digest.size:
            self._sizes["LF" if digest.size - digest.lines == one.size else "other"] += 1

    def _tell_sizes(self) -> None:
        if self._sizes["LF"]:
            self.result.warnings.append(
                f"the old server lists {self._sizes['LF']} messages by their size with LF; here it "
                "is that with CRLF"
            )
        if self._sizes["other"]:
            self.result.warnings.append(
                f"the old server lists {self._sizes['other']} messages with another size than it "
                "sends (maildrop compare tells which)"
            )

    def _leave(self, key: str, why: str) -> None:
        self._skipped.add(key)
        self.result.left.append(f"{key}: {why}")

    def _broke_at(self, key: str, why: ClientReply) -> None:
        self._trouble[key] = self._trouble.get(key, 0) + 1
        if self._trouble[key] >= TRIES:
            self._leave(key, f"the session broke off at it {TRIES} times: {why}")

    def _commit(self) -> None:
        """Make the group durable; a session that holds our maildrop is waited for."""
        octets, waited = self._writer.octets, 0.0
        while True:
            try:
                moved, there = self._writer.commit()
                break
            except MaildropLocked:
                if waited >= self._options.patience or self._stop.is_set:
                    raise
                waited += LOCKED
                self._wait(LOCKED)
        self._began = 0.0
        self.result.messages += moved
        self.result.there += there
        self.result.octets += octets
