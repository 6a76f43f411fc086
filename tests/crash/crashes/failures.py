"""What happens to a store before it crashes: disks fail, processes die, others interfere."""

from __future__ import annotations

import errno
import os
import re
from itertools import count

from crashes.promises import QUEUE
from crashes.scenario import EACH, KEPT, TINY, scenario
from crashes.world import ANN, BOB, JOE, Kind, World
from postoffice.store.delivery import BUFFER
from postoffice.store.journal.filesystem import FILES, JOURNAL
from postoffice.store.journal.records import BLOCK, PutRecord, Record, RemoveRecord, encode


@scenario(Kind(), variants=4)
def failed_syncfs(world, variant):
    """The file system could not sync; nobody knows what it has lost."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.post(JOE)
    store.remove(JOE, 1)
    if variant == 3:
        store.post(ANN, size=BUFFER + 1000)
    world.fail("sync all")
    if variant == 1:  # and what is synced instead cannot be, either
        _fail_both(world, "sync")
    if variant == 2:
        _fail_both(world, "make")
    store.checkpoint()
    world.mend()
    store.post(JOE)
    store.checkpoint()
    store.remove(ANN, 1)


def _fail_both(world: World, kind: str) -> None:
    first = world.recorder.fault

    def fault(this: str, path: str) -> None:
        first(this, path)
        if this == kind and "/.journal" not in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    world.recorder.fault = fault


@scenario(Kind(), TINY)
def failed_append(world, _):
    """The journal's own sync fails: whoever waited hears 451, and nothing goes behind it."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE)
    world.fail("sync", "/seg.")
    store.post(JOE, ANN)
    store.post(JOE)
    world.fail("sync", "/seg.")
    store.remove(JOE, 1)
    store.remove(JOE, 1)
    store.checkpoint()
    store.post(ANN)


@scenario(Kind(), EACH, variants=3)
def failed_link(world, variant):
    """A name cannot be given when all was committed: it is undone."""
    store = world.start()
    store.post(JOE, ANN, BOB)
    world.rest()
    world.fail("link", after=variant % 2 + 1)
    store.post(JOE, ANN, BOB, size=BUFFER + 1000 if variant == 2 else 300)
    world.mend()
    store.post(JOE, ANN)


@scenario(Kind(), KEPT, variants=2)
def set_aside(world, variant):
    """A name cannot go, or cannot come, for long: it is set aside, and tried again at a login."""
    store = world.start()
    store.post(JOE, ANN)
    store.post(JOE)
    world.rest()
    if variant:
        store.post(JOE, ANN, size=BUFFER + 1000)
        store.post(JOE)
        world.power_cut(names=False)
        world.stay("joe/new", ".vault/joe")
        store = world.start()
    else:
        world.stay("joe/new", ".vault/joe")
    store.remove(JOE, 1)
    store.checkpoint()
    store.post(JOE)
    store.checkpoint()
    world.mend()
    store.remove(JOE, 1)
    store.checkpoint()
    store.post(ANN)


@scenario(EACH)
def failed_fsync(world, _):
    """A file, or a folder, cannot be synced."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    world.fail("sync", "/tmp/")
    store.post(JOE, ANN)
    world.fail("sync", "/new")
    store.post(JOE, ANN)
    store.post(JOE)


@scenario(Kind(), EACH, variants=8)
def failed_letters(world, variant):
    """A letter, or the end of what it is about, fails: both are tried again."""
    store = world.start()
    store.post(JOE, ANN)
    for _ in range(3):
        store.post(QUEUE)
    store.finish(1, marked=0)
    world.rest()
    kind, part, after = [
        ("sync", "/seg.", 0),
        ("link", "joe/new", 0),
        ("link", "ann/new", 0),
        ("rename", "/marks/new", 0),
        ("unlink", "/messages/new", 0),
        ("sync", "/messages/new", 0),
        ("sync", "/ann/new", 0),
        ("write", "/tmp/", 1),
    ][variant]
    for marked in (1, None, None):
        world.fail(kind, part, after=after)
        store.finish(1, (JOE, ANN), (JOE, QUEUE), marked=marked)
        world.mend()
    store.checkpoint()
    store.post(JOE, QUEUE)


@scenario(Kind(), variants=12)
def started_behind_a_kill(world, variant):
    """One process is killed, and the next one shows what it finds; then the power goes."""
    store = world.start()
    store.post(JOE)
    store.stop()
    world.rest()
    world.killed_after(12 + variant, lambda: world.start().post(JOE))
    other = world.start()
    other.look(JOE)
    other.post(JOE)
    other.remove(JOE, 1)
    other.checkpoint()


@scenario(Kind(), EACH, variants=40)
def killed_in_the_queue(world, variant):
    """One process is killed while it sends; another one starts behind it."""
    store = world.start()
    store.post(JOE, ANN)
    for _ in range(3):
        store.post(QUEUE)
    store.stop()
    world.rest()

    def work() -> None:
        store = world.start()
        store.post(JOE, QUEUE)
        store.finish(1, marked=0)
        store.finish(1, (JOE, ANN), (QUEUE,))
        store.finish(1)
        store.post(QUEUE, size=BUFFER + 1000)

    world.killed_after(3 * variant, work)
    other = world.start()
    other.look(JOE, ANN)
    other.post(JOE, QUEUE)
    other.checkpoint()


@scenario(Kind(), KEPT, variants=40)
def one_killed(world, variant):
    """One process is killed, another lives on."""
    other = world.start()
    other.post(JOE, ANN)
    world.rest()

    def work() -> None:
        store = world.start()
        store.post(JOE, ANN)
        store.remove(JOE, 1)
        store.post(JOE, size=BUFFER + 1000)
        store.checkpoint()
        store.post(ANN)

    world.killed_after(2 * variant, work)
    other.checkpoint()
    other.look(JOE, ANN)
    other.post(JOE, ANN)
    other.remove(JOE, 1)
    other.checkpoint()


@scenario(Kind(), variants=30)
def killed_at_a_failed_sync(world, variant):
    """The file system fails to sync, and who was told so is killed; another lives on."""
    other = world.start()
    other.post(JOE, ANN)
    world.rest()

    def work() -> None:
        store = world.start()
        store.post(JOE, ANN)
        store.remove(JOE, 1)
        world.fail("sync all")
        store.checkpoint()

    world.killed_after(18 + variant, work)
    other.checkpoint()
    other.look(JOE, ANN)
    other.post(JOE)


@scenario(Kind())
def taken_over(world, _):
    """Another process comes, and the one before it dies with mail that is not checkpointed."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.remove(JOE, 1)
    other = world.start()
    other.post(JOE)
    store.abandon()
    for _ in range(5):
        other.checkpoint()
    other.post(JOE)
    other.remove(JOE, 1)


@scenario(Kind(), EACH)
def another_program(world, _):
    """Another program moves what is new to cur, and syncs nothing."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE)
    world.move_to_cur(JOE)
    store.post(JOE, ANN)
    store.remove(JOE, 1)
    world.move_to_cur(ANN)
    store.checkpoint()
    store.post(JOE)


@scenario(Kind(), TINY)
def recovered_to_cur(world, _):
    """What a recovery finds in cur stays there, with its flags."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    world.move_to_cur(JOE)
    store.post(JOE)
    world.power_cut()
    world.start().look(JOE, ANN)
    world.move_to_cur(ANN)


@scenario(Kind(segment=8 * BLOCK))
def forged(world, _):
    """A text that holds groups of records, wherever they may come to lie."""
    store = world.start()
    store.post(JOE, ANN)
    store.post(JOE)
    world.rest()
    victims = tuple(
        name.partition(",")[0] for name in os.listdir(f"{world.root}/example.net/joe/new")
    )
    for turn in range(2):
        store.post(JOE, text=lambda name, turn=turn: _forged(name, turn, victims))
    store.post(ANN)


def _forged(name: str, turn: int, victims: tuple[str, ...]) -> bytes:
    """
    A sender's text: it fills the first block of its group, and is two groups in the next two.

    One places mail, one removes what is there; each says its own place.
    """
    size = 3 * BLOCK - 500
    final = f"{name},S={size},W={size}"
    records = [PutRecord(final, ("example.net/joe",), b"", size)]
    before = len(encode(bytes(32), 1, 0, records).rstrip(b"\0"))
    lies = (
        PutRecord("1.M1.forged", ("example.net/joe",), b"forged\r\n", 8),
        RemoveRecord((("example.net/joe", victims),)),
    )
    places = [(4 * turn + 1 + at) * BLOCK for at in range(len(lies))]
    blocks = b"".join(_signed(place, lie) for place, lie in zip(places, lies, strict=True))
    head = b"Subject: forged %d\r\n\r\n" % turn
    text = head + b"x" * (BLOCK - before - len(head)) + blocks
    return text + b"y" * (size - len(text) - 2) + b"\r\n"


def _signed(place: int, lie: Record) -> bytes:
    """With some key that is not ours; without octets that no text may have."""
    for number in count():
        octets = encode(number.to_bytes(32, "big"), 2, place, [lie])
        if not re.search(rb"\r(?!\n)|(?<!\r)\n", octets):
            return octets
    raise AssertionError


@scenario(Kind(), variants=3)
def no_space(world, variant):
    """A start finds no room to recover: mail waits, is not lost, and comes when there is room."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.post(JOE, size=BUFFER + 1000)
    store.remove(JOE, 1)
    world.power_cut(names=variant > 0)
    world.fill()
    store = world.start()
    store.post(JOE)
    store.checkpoint()
    if variant == 2:
        world.power_cut()
        world.fill()
        store = world.start()
    world.mend()
    store.checkpoint()
    store.look(JOE, ANN)
    store.post(JOE)


@scenario(Kind(), EACH, variants=2)
def discard(world, variant):
    """A maildrop goes, and another comes in its place."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.discard(JOE, keep=bool(variant))
    store.post(JOE, ANN)
    store.discard(JOE, keep=False)


@scenario(Kind(), variants=2)
def another_durability(world, variant):
    """What the journal holds is recovered by who does without one; and back."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.remove(JOE, 1)
    if variant:
        world.power_cut()
    else:
        store.abandon()
    store = world.start(durability=FILES)
    store.post(JOE)
    store.stop()
    store = world.start(durability=JOURNAL)
    store.post(ANN)
