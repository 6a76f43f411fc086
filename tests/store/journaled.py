"""
A store with a journal whose processes are killed at chosen moments, for its tests.

A cut of the power is a kill, and then what was not synced is taken from the
disk: names, texts, or both.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import TemporaryFailure
from postoffice.store import names
from postoffice.store import set_aside as set_aside_module
from postoffice.store.journal.records import BLOCK
from postoffice.store.journal.segments import CheckpointFile, StateFile
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL, MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from postoffice.util.shield import shield

JOE, ANN = "joe@example.net", "ann@example.net"
SEGMENT = 16 * BLOCK
#: What changes a disk, or makes it keep what was changed.
STEPS = ("write", "pwrite", "fsync", "fdatasync", "link", "rename", "unlink", "ftruncate", "mkdir")


class Served:
    """A store that is served by this process; it ends as a test says, or not at all."""

    def __init__(self, root, executor=None, durability="journal", **named):
        self.root = Path(root)
        self.clock = Clock()
        self.store = MaildirStore(
            str(root),
            executor or ImmediateExecutor(),
            hostname="mail.example.net",
            clock=self.clock,
            durability=durability,
            segment=SEGMENT,
            **named,
        )
        starting = Deferred.fromCoroutine(self.store.start())
        if executor is not None:
            executor.work_on()
        finish(shield(starting))
        self.journal = self.store._journal

    def begun(self, token, *people):
        delivery = finish(self.store.begin(envelope(*people)))
        text = text_of(token)
        try:
            for start in range(0, len(text), 1500):
                finish(delivery.write(text[start : start + 1500]))
        except TemporaryFailure:
            delivery.abort()
            raise
        return delivery

    def post(self, token, *people):
        finish(self.begun(token, *people or (JOE,)).commit())

    def remove(self, *tokens, person=JOE):
        maildrop = self.store.maildrop(person)
        try:
            listing = finish(maildrop.open())
            chosen = [entry for entry in listing.entries if self.token(person, entry) in tokens]
            assert len(chosen) == len(tokens)
            finish(maildrop.remove(chosen))
        finally:
            maildrop.release()

    def token(self, person, entry):
        return token_in((folder_of(self.root, person) / entry.name).read_bytes())

    def listed(self, person=JOE):
        """What a client sees."""
        maildrop = self.store.maildrop(person)
        entries = finish(maildrop.open()).entries
        maildrop.release()
        return sorted(self.token(person, entry) for entry in entries)

    def checkpoint(self):
        """A round of it comes."""
        self.clock.advance(CHECKPOINT_INTERVAL)

    def stop(self):
        finish(self.store.stop())


def envelope(*people) -> Envelope:
    recipients = [Recipient(Address.parse(one), Account(one, one)) for one in people]
    return Envelope("id.1", Client(), recipients=recipients)


def text_of(token: str) -> bytes:
    size = 5000 if token.startswith("large") else 600
    return b"Subject: %b\r\n\r\n%b\r\n" % (token.encode(), b"x" * size)


def token_in(text: bytes) -> str:
    """Which text this is, every octet of it."""
    found = re.match(rb"Subject: (\S+)\r\n", text)
    assert found, f"no text of ours: {text[:50]!r}"
    token = found[1].decode()
    assert text == text_of(token)
    return token


def folder_of(root, person=JOE) -> Path:
    return root / names.folder_of(person)


def messages(root, person=JOE) -> list[Path]:
    """The files that are to be seen of a maildrop."""
    folder = folder_of(root, person)
    return [path for box in ("new", "cur") for path in sorted((folder / box).glob("*"))]


def there(root, person=JOE) -> list[str]:
    """What is to be seen of a maildrop, read without the store."""
    return sorted(token_in(path.read_bytes()) for path in messages(root, person))


def litter(root) -> list[Path]:
    return [*root.glob("*/*/tmp/*"), *root.glob(".journal/large/*")]


def mark_of(root) -> int:
    mark = CheckpointFile(f"{root}/.journal/mark", (root / ".journal" / "key").read_bytes())
    try:
        return mark.read()
    finally:
        mark.close()


def state_of(root):
    file = StateFile(f"{root}/.journal/state")
    try:
        return file.read()
    finally:
        file.close()


def in_segments(root) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.glob(".journal/seg.*"))]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def calling_first(patch, place, name, act):
    """Something happens before each call of a function; what ``act`` raises is raised."""
    real = getattr(place, name)

    def wrapped(*args, **named):
        act(*args, **named)
        return real(*args, **named)

    patch.setattr(place, name, wrapped)


def dying_before(step: int) -> None:
    """This process is killed before it takes so many steps; half of a write is done."""
    patch, left = pytest.MonkeyPatch(), [step]

    def count(name):
        real = getattr(os, name)

        def counting(*args, **named):
            left[0] -= 1
            if not left[0]:
                if name in ("write", "pwrite"):
                    real(args[0], args[1][: len(args[1]) // 2], *args[2:])
                die()
            return real(*args, **named)

        patch.setattr(os, name, counting)

    for name in STEPS:
        count(name)


def raising(number, wanted=lambda *args, **named: True):
    """Fails calls, as the disk does."""

    def fail(*args, **named):
        if wanted(*args, **named):
            raise OSError(number, os.strerror(number))

    return fail


def path_of(fd) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def is_segment(fd, *_) -> bool:
    return "/.journal/seg." in path_of(fd)


# -- what a power cut leaves --------------------------------------------------------------


def nothing_is_lost(path: Path) -> None:
    """As when only the process was killed."""


def name_is_lost(path: Path) -> None:
    path.unlink()


def text_is_empty(path: Path) -> None:
    path.write_bytes(b"")


def text_is_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


LOSSES = [nothing_is_lost, name_is_lost, text_is_empty, text_is_zeros]


def cut_power(root, loss) -> None:
    """None of what is in maildrops was synced, but large texts were before."""
    synced = {path.stat().st_ino for path in root.glob(".journal/large/*")}
    for path in root.glob("*/*/*/*"):
        if path.is_file() and path.stat().st_ino not in synced:
            loss(path)


def posted_and_killed(root, child, *letters):
    """Somebody took in these, and was killed."""

    def take_in(parent):
        served = Served(root)
        for token, *people in letters:
            served.post(token, *people)
        die()

    assert child(take_in).wait() == -signal.SIGKILL


@contextmanager
def opened(paths):
    """The inodes of these files, which nobody else gets meanwhile."""
    with ExitStack() as stack:
        yield {os.fstat(stack.enter_context(path.open("rb")).fileno()).st_ino for path in paths}


def is_free(path) -> bool:
    """Whether nobody holds this lock."""
    with open(path, "rb") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True


def begun(coroutine, executor, rounds=1000):
    deferred = Deferred.fromCoroutine(coroutine)
    while executor.waiting and rounds:
        executor.work()
        rounds -= 1
    return deferred


def pending(root) -> list[int]:
    """The generations that are not checkpointed."""
    state = state_of(root)
    return [state.generations[number] for number in state.pending()]


def before_applying(act) -> None:
    """It happens in this process when a message is to be put in its place."""

    def into_new(_, target, **named):
        if target.startswith("new/"):
            act()

    calling_first(pytest.MonkeyPatch(), os, "rename", into_new)


def waiting_to_apply(root, child):
    """Somebody who has committed "slow" to Joe, and has not put it in its place yet."""

    def post(parent):
        one = Served(root)

        def wait():
            parent.say("committed")
            parent.hear()

        before_applying(wait)
        one.post("slow")
        parent.say("posted")
        parent.hear()

    slow = child(post)
    assert slow.hear() == "committed"
    return slow


def set_aside(root, box, person=JOE) -> list[Path]:
    return [Path(path) for path in set_aside_module.waiting(str(folder_of(root, person)), box)]


def is_at_rest(root) -> bool:
    state = state_of(root)
    return state.checkpointed == state.generation
