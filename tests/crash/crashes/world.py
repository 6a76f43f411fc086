"""The world of a scenario: stores over one folder, their clients, and what goes wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crashes.disk import Disk, Model
from crashes.operations import Note, Operation
from crashes.promises import ENDED, MARKS, QUEUE, Promises
from crashes.recorder import Recorder
from postoffice.interfaces import PurgeCriteria
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Entry
from postoffice.model.mail_policy import KeepTimes
from postoffice.model.queued_message import QueuedRecipient
from postoffice.store.journal import filesystem, segments
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL, MaildirStore
from postoffice.store.quota.enforcement import TOLD
from postoffice.testing import ImmediateExecutor, finish

JOE, ANN, BOB = "joe@example.net", "ann@example.net", "bob@other.example"
#: In octets; small, so that a disk is small.
SEGMENT = 32 << 10
UNLIMITED = Quota()
#: What was collected goes at once.
COLLECTED = KeepTimes(collected=0.0)


@dataclass(frozen=True)
class Kind:
    """How a store is kept."""

    durability: str = filesystem.JOURNAL
    segment: int = SEGMENT
    undelete: float = 0.0
    quota: Quota = UNLIMITED

    def store(self, path: str, executor: Any, clock: Clock) -> MaildirStore:
        """A store of this kind, to be started."""
        return MaildirStore(
            path,
            executor,
            hostname="h",
            clock=clock,
            durability=self.durability,
            undelete=self.undelete,
            segment=self.segment,
        )


@contextmanager
def machine(boot: str) -> Iterator[None]:
    """A run of a machine whose disk is fit for a journal, whatever this one's is."""
    with (
        patch.object(segments, "boot", boot.encode),
        patch.object(filesystem, "choose", lambda path, wanted: (wanted, "")),
    ):
        yield


def recipients(*names: str, quota: Quota = UNLIMITED) -> list[Recipient]:
    """They, with accounts of these names."""
    accounts = [Account(name, name, quota=quota) for name in names]
    return [Recipient(Address.parse(one.address), one) for one in accounts]


def envelope(*names: str, quota: Quota = UNLIMITED) -> Envelope:
    """For those maildrops; QUEUE stands for two recipients elsewhere."""
    to = recipients(*(name for name in names if name != QUEUE), quota=quota)
    far = [QueuedRecipient(address=f"{who}@far.example") for who in ("x", "y")]
    return Envelope("id", Client(), recipients=to, queued=far if QUEUE in names else [])


def queued(store: MaildirStore) -> list[tuple[str, bytes]]:
    """The names and the texts of the messages in the queue, the oldest first."""
    found = []
    for name in finish(store.queue.names()):
        text = finish(store.queue.text(name))
        octets = b""
        while piece := finish(text.read()):
            octets += piece
        text.close()
        found.append((name, octets))
    return found


def text_of(token: str, size: int = 300) -> bytes:
    """A message's text: whoever sees a part of it can tell whose."""
    line = f"{token} writes this line.\r\n".encode()
    return f"Subject: {token}\r\n\r\n".encode() + line * (size // len(line) + 1)


class GatheringWorkers(ImmediateExecutor):
    """Workers that can put off what they are asked, as busy ones do."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] | None = None

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._waiting is None:
            return super().run(function, *args)
        result: Deferred[Any] = Deferred()
        self._waiting.append((result, function, args))
        return result

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """What is asked in here is done behind it, in its order."""
        waiting = self._waiting = []
        yield
        self._waiting = None
        for result, function, args in waiting:
            super().run(function, *args).chainDeferred(result)


@dataclass(frozen=True)
class Era:
    """What was done between two power cuts, by stores of one kind; and what was said before."""

    kind: Kind
    base: Disk
    trace: Sequence[Operation]
    before: Promises
    texts: dict[str, bytes]
    boot: str


class World:
    """Its stores are started, asked and killed by a scenario, and all of it is recorded."""

    def __init__(self, folder: str, kind: Kind) -> None:
        self._folder = folder
        self.kind = kind
        self.eras: list[Era] = []
        self.texts: dict[str, bytes] = {}
        self._promises = Promises(kind.durability == filesystem.JOURNAL, bool(kind.undelete))
        self._stores: list[Running] = []
        os.mkdir(folder)
        self._begin(Disk(0, folders={0: {}}))

    def _begin(self, disk: Disk) -> None:
        self.root = f"{self._folder}/{len(self.eras)}"
        disk.write(self.root)
        self._context = ExitStack()
        self._boot = f"boot {len(self.eras)}"
        self._context.enter_context(machine(self._boot))
        self.recorder = self._context.enter_context(Recorder(self.root))

    def close(self) -> list[Era]:
        """It is over; what was recorded."""
        self._end_era()
        return self.eras

    def _end_era(self) -> None:
        for running in self._stores:
            running.abandon()
        self._stores.clear()
        self._context.close()
        self.recorder.check()
        before = self._promises.copy()
        self._hear()
        recorder = self.recorder
        self.eras.append(
            Era(self.kind, recorder.base, recorder.trace, before, self.texts, self._boot)
        )

    def _hear(self) -> None:
        for one in self.recorder.trace:
            if isinstance(one, Note):
                self._promises.hear(one)

    def rest(self) -> None:
        """Long ago: everything is on the disk, and crashes before this are not looked at."""
        for running in self._stores:
            running.clock.advance(CHECKPOINT_INTERVAL)
        self._hear()
        self.recorder.rest()

    def power_cut(self, *, names: bool = True, octets: bool = False) -> None:
        """What was not synced is gone, or is there; another machine begins with that."""
        self._end_era()
        era = self.eras[-1]
        model = Model(era.base)
        for operation in era.trace:
            model.do(operation)
        self._begin(model.plain(names=names, octets=octets))

    def start(self, **kind: Any) -> Running:
        """Start a store here."""
        for key, value in kind.items():
            self.kind = Kind(**{**self.kind.__dict__, key: value})
        self._stores.append(Running(self, self.kind))
        return self._stores[-1]

    def token(self, size: int = 300) -> str:
        """Of another message, with a text of its own."""
        token = f"m{len(self.texts)}.{size}"
        self.texts[token] = text_of(token, size)
        return token

    def killed_after(self, count: int, action: Callable[[], object]) -> bool:
        """Run this in another process, killed before its next operation; whether it was."""
        killed = self.recorder.killed_after(count, action)
        for one in self.recorder.trace:
            if isinstance(one, Note) and one.what in ("posting", "finishing"):
                for token in one.tokens:
                    if token not in self.texts and ":" not in token:
                        self.texts[token] = text_of(token, int(token.partition(".")[2]))
        return killed

    def fail(self, kind: str, part: str = "", *, error: int = errno.EIO, after: int = 0) -> None:
        """Let an operation of this kind fail, on a path that holds ``part``; once, or the next."""

        def fault(this: str, path: str) -> None:
            nonlocal after
            if this == kind and part in path:
                after -= 1
                if after == -1:
                    raise OSError(error, os.strerror(error), path)

        self.recorder.fault = fault

    def stay(self, *parts: str) -> None:
        """No name comes or goes in a folder whose path holds one of ``parts``."""

        def fault(kind: str, path: str) -> None:
            if kind in ("link", "rename", "unlink") and any(part in path for part in parts):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)

        self.recorder.fault = fault

    def fill(self) -> None:
        """No room on the disk, but where there is something already."""

        def fault(kind: str, path: str) -> None:
            if kind == "make" or (kind == "write" and "/.journal/" not in path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

        self.recorder.fault = fault

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self.recorder.fault = lambda kind, path: None

    def told(self, name: str) -> None:
        """The owner of a maildrop had a letter today, and gets no other."""
        local, _, domain = name.partition("@")
        os.close(os.open(f"{self.root}/{domain}/{local}/{TOLD}", os.O_CREAT | os.O_WRONLY))

    def move_to_cur(self, name: str) -> None:
        """Another program has seen what is new."""
        local, _, domain = name.partition("@")
        folder = f"{self.root}/{domain}/{local}"
        for message in os.listdir(f"{folder}/new"):
            os.rename(f"{folder}/new/{message}", f"{folder}/cur/{message}:2,S")


class Running:
    """A store that was started, and its clients; what they are told is noted."""

    def __init__(self, world: World, kind: Kind) -> None:
        self._world = world
        self._note = world.recorder.note
        self._quota = kind.quota
        self.clock = Clock()
        self._executor = GatheringWorkers()
        self.store = kind.store(world.root, self._executor, self.clock)
        finish(self.store.start())

    def post(
        self, *names: str, size: int = 300, text: Callable[[str], bytes] | None = None
    ) -> None:
        """Post a message, and wait for the reply; ``text`` may be made for the name it gets."""
        token = self._world.token(size)
        try:
            delivery = self._write(token, *names, text=text)
            finish(delivery.commit())
        except PostOfficeError:
            self._note("failed", *names, tokens=(token,))
        else:
            self._note("posted", *names, tokens=(token,))

    def _write(self, token: str, *names: str, text: Callable[[str], bytes] | None = None) -> Any:
        self._note("posting", *names, tokens=(token,))
        delivery = finish(self.store.begin(envelope(*names, quota=self._quota)))
        if text is not None:
            self._world.texts[token] = text(delivery._draft.name)
        octets = self._world.texts[token]
        for start in range(0, len(octets), 100_000):
            finish(delivery.write(octets[start : start + 100_000]))
        return delivery

    def finish(self, number: int, *letters: tuple[str, ...], marked: int | None = None) -> None:
        """
        End a message in the queue (from 1), or mark one of its recipients.

        Each letter is for some maildrops, or for the queue.
        """
        name, text = queued(self.store)[number - 1]
        token = next(one for one, its in self._world.texts.items() if its == text)
        tokens = [self._world.token() for _ in letters]
        end = (ENDED, token) if marked is None else (MARKS, f"{token}:{marked}")
        pairs = [
            end,
            *((to, one) for one, whose in zip(tokens, letters, strict=True) for to in whose),
        ]
        names, those = zip(*pairs, strict=True)
        self._note("finishing", *names, tokens=those)
        done = [] if marked is None else [marked]
        try:
            begun = [
                self._filled(envelope(*whose, quota=self._quota), one)
                for one, whose in zip(tokens, letters, strict=True)
            ]
            queue = self.store.queue
            finish(queue.finish(name, done, letters=begun, whole=marked is None))
        except PostOfficeError:
            self._note("failed", *names, tokens=those)
        else:
            self._note("finished", *names, tokens=those)

    def _filled(self, letter: Envelope, token: str) -> Any:
        delivery = finish(self.store.begin(letter))
        finish(delivery.write(self._world.texts[token]))
        return delivery

    def post_together(self, *messages: tuple[str, ...], ended: int = 0) -> None:
        """
        Post several, while the workers have their hands full: all but two go in one group.

        Meanwhile the first ``ended`` messages of the queue are sent, and leave it with that group.
        """
        waiting, ending = [], []
        for name, text in queued(self.store)[:ended]:
            token = next(one for one, its in self._world.texts.items() if its == text)
            self._note("finishing", ENDED, tokens=(token,))
            ending.append((name, token))
        for names in messages:
            token = self._world.token()
            waiting.append((names, token, self._write(token, *names)))
        with self._executor.gathering():
            committed = [Deferred.fromCoroutine(one.commit()) for _, _, one in waiting]
            gone = [
                Deferred.fromCoroutine(self.store.queue.finish(name, [], whole=True))
                for name, _ in ending
            ]
        for (_, token), done in zip(ending, gone, strict=True):
            said: list[object] = []
            done.addBoth(said.append)
            self._note("finished" if said == [None] else "failed", ENDED, tokens=(token,))
        for (names, token, _), done in zip(waiting, committed, strict=True):
            outcome: list[object] = []
            done.addBoth(outcome.append)
            what = "posted" if outcome == [None] else "failed"
            self._note(what, *names, tokens=(token,))

    def remove(self, name: str, *numbers: int) -> None:
        """Log in, DELE those (from 1; all, if none are named), QUIT."""
        maildrop = self.store.maildrop(name)
        entries = finish(maildrop.open()).entries
        chosen = [entries[number - 1] for number in numbers] or list(entries)
        tokens = tuple(self._token(maildrop, entry) for entry in chosen)
        with self._said("removing", "removed", name, tokens):
            finish(maildrop.remove(chosen, f"{len(self._world.recorder.trace)}"))
        maildrop.release()

    def purge(self, name: str) -> None:
        """All go that are there."""
        with self._said("removing", "removed", name, self._tokens(name)):
            finish(self.store.purge(name, PurgeCriteria(larger_than=0), dry=False))

    def collect(self, name: str, *numbers: int) -> None:
        """Log in, RETR those (from 1), QUIT."""
        maildrop = self.store.maildrop(name)
        entries = finish(maildrop.open()).entries
        chosen = [entries[number - 1] for number in numbers]
        tokens = tuple(self._token(maildrop, entry) for entry in chosen)
        self._note("collecting", name, tokens=tokens)
        finish(self.store.collect(name, chosen, "", None))
        maildrop.release()

    def expire(self, name: str, *numbers: int) -> None:
        """All go that were collected: these (from 1)."""
        tokens = tuple(self._tokens(name)[number - 1] for number in numbers)
        with self._said("removing", "removed", name, tokens):
            finish(self.store.expire(name, COLLECTED, dry=False))

    def undelete(self, name: str) -> None:
        """All come back that the vault has."""
        self._note("undeleting", name)
        finish(self.store.undelete(name, "", 0.0))
        self._note("undeleted", name)

    def post_and_make_room(self, *names: str) -> None:
        """Post a message, for which others may go."""
        for name in names:
            self._note("crowding", name, tokens=self._tokens(name))
        self.post(*names)
        self.look(*names)

    @contextmanager
    def _said(self, before: str, after: str, name: str, tokens: tuple[str, ...]) -> Iterator[None]:
        self._note(before, name, tokens=tokens)
        try:
            yield
        except PostOfficeError:
            self._note("failed", name, tokens=tokens)
        else:
            self._note(after, name, tokens=tokens)

    def _tokens(self, name: str) -> tuple[str, ...]:
        maildrop = self.store.maildrop(name)
        tokens = tuple(self._token(maildrop, one) for one in finish(maildrop.open()).entries)
        maildrop.release()
        return tokens

    def look(self, *names: str) -> None:
        """Log in and read everything: what was seen once stays."""
        for name in names:
            self._note("seen", name, tokens=self._tokens(name))

    def _token(self, maildrop: Any, entry: Entry) -> str:
        text = read(maildrop, entry)
        return next(token for token, one in self._world.texts.items() if one == text)

    def checkpoint(self) -> None:
        """The time has come to."""
        self.clock.advance(CHECKPOINT_INTERVAL)

    def discard(self, name: str, *, keep: bool) -> None:
        """The account goes."""
        self._note("setting aside" if keep else "discarding", name)
        finish(self.store.discard(name, keep))
        self._note("discarded", name)

    def stop(self) -> None:
        """Stop, as it should."""
        finish(self.store.stop())

    def abandon(self) -> None:
        """It was killed: its locks and files are the system's again."""
        journal = self.store._journal
        if journal._files.joined:
            journal._files.leave()


def read(maildrop: Any, entry: Entry) -> bytes:
    """A message's text."""
    text = finish(maildrop.fetch(entry))
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    return octets
