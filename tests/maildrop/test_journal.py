"""
The store's journal: each rule that makes it right, in the order of docs/reliability.rst.

Processes are killed at chosen moments.  A cut of the power is a kill, and then
what was not synced is taken from the disk: names, texts, or both.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.address import Account, Address
from postoffice.envelope import Client, Envelope, Recipient
from postoffice.maildrop import (
    durable,
    names,
    posting,
    segments,
)
from postoffice.maildrop.maildir import RETIRE, MaildirStore
from postoffice.maildrop.records import BLOCK
from postoffice.maildrop.segments import Mark, StateFile
from postoffice.maildrop.waiting import outcome_of
from postoffice.testing import InlineWorkers, finish

JOE, ANN = "joe@example.net", "ann@example.net"
SEGMENT = 16 * BLOCK
#: What changes a disk, or makes it keep what was changed.
STEPS = ("write", "pwrite", "fsync", "fdatasync", "link", "rename", "unlink", "ftruncate", "mkdir")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """
    Whatever we are on, the journal is right there; larger texts go to disk as they arrive.

    Nothing is synced: that the power fails is only played, and who else works
    on this disk would make us wait.
    """
    monkeypatch.setattr(durable, "file_system", lambda path: "ext4")
    monkeypatch.setattr(durable, "LINUX", (0, 0))
    monkeypatch.setattr(posting, "BUFFER", 2000)
    monkeypatch.setattr(os, "fsync", os.fstat)
    monkeypatch.setattr(os, "fdatasync", os.fstat)
    monkeypatch.setattr(segments, "sync_all", os.fstat)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


class Served:
    """A store that is served by this process; it ends as a test says, or not at all."""

    def __init__(self, root, workers=None, durability="journal", **named):
        self.root = Path(root)
        self.clock = Clock()
        self.store = MaildirStore(
            str(root),
            workers or InlineWorkers(),
            hostname="mail.example.net",
            clock=self.clock,
            durability=durability,
            segment=SEGMENT,
            **named,
        )
        starting = Deferred.fromCoroutine(self.store.start())
        if workers is not None:
            workers.work_on()
        finish(outcome_of(starting))
        self.journal = self.store._journal

    def begun(self, token, *people):
        recipients = [Recipient(Address.parse(one), Account(one, one)) for one in people]
        delivery = finish(self.store.begin(Envelope("id.1", Client(), recipients=recipients)))
        text = text_of(token)
        for start in range(0, len(text), 1500):
            finish(delivery.write(text[start : start + 1500]))
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

    def retire(self):
        """A round of it comes."""
        self.clock.advance(RETIRE)

    def stop(self):
        finish(self.store.stop())


@pytest.fixture
def served(root):
    """Serves; what still does is stopped in the end."""
    all_served = []

    def served(**named):
        all_served.append(Served(root, **named))
        return all_served[-1]

    yield served
    for one in all_served:
        one.stop()


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
    mark = Mark(f"{root}/.journal/mark", (root / ".journal" / "key").read_bytes())
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


# -- the whole story, broken off at each step ---------------------------------------------------


def story(root):
    """What a client does, told as it goes."""

    def tell(child):
        served = Served(root)

        def done(word, *args, act, **named):
            child.say(f"{word}ing {' '.join(args)}")
            act(*args, **named)
            child.say(f"{word}ed {' '.join(args)}")

        dying_before(tell.step)
        done("post", "one", JOE, ANN, act=served.post)
        done("post", "large-1", JOE, ANN, act=served.post)
        done("post", "two", JOE, act=served.post)
        done("remov", "one", "large-1", act=served.remove)
        done("post", "three", JOE, act=served.post)
        done("remov", "two", act=served.remove)
        child.say("done")

    return tell


def heard(child):
    """What it said before it was killed."""
    words = []
    while word := child.hear():
        words.append(word)
    return words


def hold_what_was_promised(words, root):
    """What was acknowledged is so; what was not is so, or is not, for all at once."""
    posted = {tuple(line.split()[1:]) for line in words if line.startswith("posted")}
    posting = {tuple(line.split()[1:]) for line in words if line.startswith("posting")}
    removed = {one for line in words if line.startswith("removed") for one in line.split()[1:]}
    removing = {one for line in words if line.startswith("removing") for one in line.split()[1:]}
    found = {person: Counter(there(root, person)) for person in (JOE, ANN)}
    assert all(count == 1 for counter in found.values() for count in counter.values())
    for token, *people in posted:
        for person in people:
            if person != JOE or token not in removing:
                assert token in found[person]
    for token, *people in posting - posted:
        assert len({token in found[person] for person in people}) == 1
    assert not removed & set(found[JOE])
    assert len({token in found[JOE] for token in removing - removed}) < 2
    assert set(found[JOE]) | set(found[ANN]) <= {token for token, *_ in posting}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_was_acknowledged_is_kept_wherever_it_is_cut(root, child, loss):
    tell = story(root)
    for step in range(1 + LOSSES.index(loss), 200, len(LOSSES)):
        tell.step = step
        one = child(tell)
        words = heard(one)
        if words[-1:] == ["done"]:
            one.wait()
            assert step > 30
            break
        assert one.wait() == -signal.SIGKILL
        cut_power(root, loss)
        served = Served(root)
        hold_what_was_promised(words, root)
        assert served.listed() == there(root)
        served.stop()
        assert litter(root) == []
        for path in messages(root) + messages(root, ANN):
            path.unlink()
    else:
        raise AssertionError("the story has no end")


# -- rule 11: replay takes texts from the journal only ---------------------------------------------


@contextmanager
def opened(paths):
    """The inodes of these files, which nobody else gets meanwhile."""
    with ExitStack() as stack:
        yield {os.fstat(stack.enter_context(path.open("rb")).fileno()).st_ino for path in paths}


def posted_and_killed(root, child, *letters):
    """Somebody took in these, and was killed."""

    def take_in(parent):
        served = Served(root)
        for token, *people in letters:
            served.post(token, *people)
        die()

    assert child(take_in).wait() == -signal.SIGKILL


@pytest.mark.parametrize("loss", LOSSES)
def test_rule_11_a_replay_believes_no_file_in_a_maildrop(root, child, served, loss):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE, ANN), ("large", JOE, ANN))
    with opened(messages(root)) as before:
        cut_power(root, loss)
        served()
        assert there(root) == ["large", "one", "two"]
        assert there(root, ANN) == ["large", "two"]
        after = {path.stat().st_ino: token_in(path.read_bytes()) for path in messages(root)}
        assert {token for number, token in after.items() if number in before} <= {"large"}
    [two, other] = (p for p in messages(root) + messages(root, ANN) if b"two" in p.read_bytes())
    assert two.samefile(other), "one file has as many names as before"


def test_rule_11_another_text_of_the_same_size_is_not_taken_for_it(root, child, served):
    posted_and_killed(root, child, ("one", JOE))
    [path] = messages(root)
    path.write_bytes(path.read_bytes().replace(b"x", b"y"))
    served()
    assert there(root) == ["one"]


def test_rule_11_a_message_that_was_read_keeps_its_flags(root, child, served):
    posted_and_killed(root, child, ("one", JOE))
    [path] = messages(root)
    seen = folder_of(root) / "cur" / f"{path.name}:2,S"
    path.rename(seen)
    seen.write_bytes(b"")
    served()
    assert there(root) == ["one"]
    assert messages(root) == [seen]


def test_rule_11_a_large_text_that_is_lost_is_told_and_stops_nothing(root, child, served, logged):
    posted_and_killed(root, child, ("large", JOE), ("one", JOE))
    for path in [*messages(root), *root.glob(".journal/large/*")]:
        path.unlink()
    served()
    assert there(root) == ["one"]
    [line] = [line for line in logged if "is lost" in line]
    assert "example.net/joe" in line
    assert "/.journal/large/" in line


def test_a_maildrop_that_is_gone_is_made_again(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE, ANN))
    os.rename(root / "example.net", root / "gone")
    served()
    assert there(root) == ["one", "two"]
    assert there(root, ANN) == ["two"]


@pytest.mark.parametrize("token", ["two", "large"])
def test_a_maildrop_that_cannot_be_written_to_keeps_nobody_waiting(
    root, child, served, logged, token
):
    posted_and_killed(root, child, ("one", ANN), (token, JOE, ANN), ("three", ANN))
    for path in messages(root, ANN) + messages(root):
        path.unlink()
    for box in ("tmp", "new", "cur"):
        (folder_of(root) / box).rmdir()
        (folder_of(root) / box).write_bytes(b"in the way")
    served()
    assert there(root, ANN) == sorted(["one", token, "three"])
    assert [token_in(p.read_bytes()) for p in root.glob(".unplaced/example.net/joe/new/*")] == [
        token
    ]
    assert any("example.net/joe" in line and ".unplaced" in line for line in logged)
