"""What happens to the store before it crashes."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from crashes.world import ANN, BOB, JOE, Era, Kind, World
from postoffice.model.address import Quota
from postoffice.store.delivery import BUFFER
from postoffice.store.journal.filesystem import FILES, JOURNAL
from postoffice.store.journal.records import BLOCK, PutRecord, Record, RemoveRecord, encode

KEPT = Kind(undelete=86400.0)
TINY = Kind(segment=2 * BLOCK)
EACH = Kind(FILES)

LIMIT = Quota(octets=2500, messages=3, over="reject")
CROWDED = Quota(octets=0, messages=3, over="make-room")


@dataclass(frozen=True)
class Scenario:
    """What is played, in stores of some kinds; each of its variants is a play of its own."""

    play: Callable[[World, int], None]
    kinds: tuple[Kind, ...] = (Kind(),)
    variants: int = 1

    def recorded(self, folder: str, kind: Kind, variant: int) -> list[Era]:
        """Played once; the folder is new."""
        world = World(folder, kind)
        try:
            self.play(world, variant)
        finally:
            eras = world.close()
        return eras


SCENARIOS: dict[str, Scenario] = {}


def scenario(*kinds: Kind, variants: int = 1) -> Callable[[Callable[[World, int], None]], None]:
    """Put a function into the table; its name is the scenario's."""

    def put(play: Callable[[World, int], None]) -> None:
        name = play.__name__.strip("_").replace("_", "-")
        SCENARIOS[name] = Scenario(play, kinds or (Kind(),), variants)

    return put


@scenario(Kind(), EACH)
def first_start(world, _):
    """Nothing is there yet: the store, the journal and a maildrop are made."""
    world.start().post(JOE)


@scenario(Kind(), EACH)
def one(world, _):
    """One message for one who has had mail before."""
    store = world.start()
    store.post(JOE)
    world.rest()
    store.post(JOE)


@scenario(Kind(), EACH)
def many(world, _):
    """One message for several, some of whom never had any."""
    store = world.start()
    store.post(JOE)
    world.rest()
    store.post(JOE, ANN, BOB)
    store.post(ANN, JOE)


@scenario(KEPT, EACH)
def eight_bits(world, _):
    """Fields that are not ASCII: names say what they take for clients without UTF-8 (``H=``)."""

    def text(name):
        return f"Subject: ü {name}\r\nFrom: é@x\r\n\r\nà\r\n".encode()

    store = world.start()
    store.post(JOE, ANN, text=text)
    world.rest()
    store.post(JOE, text=text)
    assert all(",H=" in name for name in os.listdir(f"{world.root}/example.net/joe/new"))
    store.remove(JOE, 1)
    store.post(ANN, JOE, text=text)


@scenario(Kind(), EACH)
def large(world, _):
    """What goes to disk as it arrives, for one and for two; and a small one behind it."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, size=BUFFER + 1000)
    store.post(JOE, ANN, size=2 * BUFFER)
    store.post(JOE)
    store.checkpoint()
    store.post(ANN)


@scenario(Kind(), EACH)
def groups(world, _):
    """Several are placed together."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post_together((JOE,), (ANN,), (JOE, BOB), (ANN, JOE), (BOB,), (JOE,))


@scenario(Kind(), EACH, KEPT, Kind(FILES, undelete=86400.0))
def removal(world, _):
    """What came long ago is removed with what came just now; then all of it is."""
    store = world.start()
    for _ in range(2):
        store.post(JOE)
    world.rest()
    store.post(JOE, ANN)
    store.post(JOE)
    store.remove(JOE, 1, 3)
    store.post(JOE)
    store.remove(JOE)


@scenario(KEPT, Kind())
def collected_at_once(world, _):
    """What came just now is removed, before it has reached the disk itself."""
    store = world.start()
    store.post(JOE)
    store.remove(JOE)
    world.rest()
    store.post(JOE)
    store.remove(JOE, 1)


@scenario(Kind(), KEPT, EACH)
def large_removed(world, _):
    """A large message goes before it was retired."""
    store = world.start()
    store.post(JOE)
    world.rest()
    store.post(JOE, ANN, size=BUFFER + 1000)
    store.remove(JOE, 2)
    store.checkpoint()
    store.remove(ANN)


@scenario(TINY, Kind(segment=2 * BLOCK, undelete=86400.0))
def segments(world, _):
    """A segment for each two groups, or one: they are used again and again."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    for turn in range(5):
        store.post(JOE)
        store.post(JOE, ANN, size=3000)
        store.remove(JOE, 1)
        if turn % 2:
            store.checkpoint()
    store.remove(ANN)


@scenario(TINY)
def full_journal(world, _):
    """All segments are full: whoever posts retires them first."""
    store = world.start()
    store.post(JOE)
    world.rest()
    for _ in range(17):
        store.post(JOE, size=5000)
    store.remove(JOE, 1, 2, 3)


@scenario(Kind())
def checkpointed(world, _):
    """Retired in between, again and again."""
    store = world.start()
    store.post(JOE)
    world.rest()
    for _ in range(3):
        store.post(JOE, ANN)
        store.checkpoint()
        store.remove(JOE, 1)
        store.checkpoint()


@scenario(TINY, Kind(segment=2 * BLOCK, undelete=86400.0))
def busy(world, _):
    """Mail comes in while it is retired, so that a later segment is used before an earlier one."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE)
    store.post(JOE)
    store.post(ANN)

    def meanwhile() -> None:
        store.post(JOE)
        store.post(JOE)

    world.recorder.meanwhile = meanwhile
    store.checkpoint()
    store.remove(JOE, 4)
    store.checkpoint()
    store.post(ANN)
    store.remove(JOE, 1, 4)


@scenario(Kind(), EACH)
def clean_stop(world, _):
    """A stop leaves nothing; another start finds that."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.stop()
    store = world.start()
    store.post(JOE)
    store.remove(ANN, 1)
    store.stop()


@scenario(Kind(), KEPT, TINY, variants=3)
def cut_replay(world, variant):
    """A start replays, is cut itself, and so is the one behind it."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.post(BOB, JOE, size=BUFFER + 1000)
    store.post(JOE)
    store.remove(JOE, 1, 2)
    world.power_cut(names=variant > 0, octets=variant > 1)
    world.start().look(JOE, ANN, BOB)
    world.power_cut()
    store = world.start()
    store.post(JOE)
    store.remove(JOE, 1)


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
    """A name cannot be given when all was promised: it is undone."""
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


@scenario(KEPT, Kind(FILES, undelete=86400.0), Kind(), EACH)
def expiry(world, _):
    """What was collected is noted, and goes by itself; what nobody has collected stays."""
    store = world.start()
    for _ in range(3):
        store.post(JOE)
    store.collect(JOE, 1)
    world.rest()
    store.post(JOE)
    store.collect(JOE, 1, 3)
    store.expire(JOE, 1, 3)
    store.collect(JOE, 2)
    store.post(JOE)
    store.expire(JOE, 2)


@scenario(KEPT)
def expired_and_back(world, _):
    """What went by itself comes back, and stays then."""
    store = world.start()
    store.post(JOE)
    store.post(JOE)
    world.rest()
    store.collect(JOE, 1, 2)
    store.expire(JOE, 1, 2)
    store.undelete(JOE)
    store.collect(JOE, 2)
    store.post(JOE)
    store.expire(JOE, 2)


@scenario(KEPT, Kind(FILES, undelete=86400.0))
def undelete(world, _):
    """What was removed comes back; and goes again."""
    store = world.start()
    store.post(JOE)
    world.rest()
    store.post(JOE, ANN)
    store.remove(JOE)
    store.undelete(JOE)
    store.post(JOE)
    store.remove(JOE, 1)


@scenario(Kind(), KEPT, EACH)
def purge(world, _):
    """An administrator lets everything go."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE, ANN)
    store.purge(JOE)
    store.post(JOE)


@scenario(Kind(quota=LIMIT), Kind(FILES, quota=LIMIT), Kind(quota=LIMIT, undelete=86400.0))
def limited(world, _):
    """Maildrops have quotas, and get full."""
    store = world.start()
    store.post(JOE, ANN)
    world.rest()
    store.post(JOE)
    store.post(JOE, ANN, size=1000)
    store.post(JOE, ANN)
    store.remove(JOE, 1)
    store.post(ANN, JOE)
    store.checkpoint()
    store.remove(ANN, 1, 2)


@scenario(
    Kind(quota=CROWDED),
    Kind(quota=CROWDED, undelete=86400.0),
    Kind(FILES, quota=CROWDED, undelete=86400.0),
)
def make_room(world, _):
    """The oldest go when others come."""
    store = world.start()
    store.post(JOE, ANN)
    store.post(JOE)
    world.told(JOE)
    world.rest()
    store.post(JOE)
    store.post_and_make_room(JOE)
    store.post_and_make_room(JOE, ANN)
    store.remove(JOE, 1)


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
    """Another process comes, and whoever was there before dies with mail that is not retired."""
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
def replayed_to_cur(world, _):
    """What a replay finds in cur stays there, with its flags."""
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
    """A start finds no room to replay: mail waits, is not lost, and comes when there is room."""
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
    """What the journal holds is replayed by who does without one; and back."""
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
