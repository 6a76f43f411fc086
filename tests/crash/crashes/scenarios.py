"""What happens to a store before it crashes, where nothing else goes wrong."""

from __future__ import annotations

import os

from crashes.promises import QUEUE
from crashes.scenario import EACH, KEPT, TINY, scenario
from crashes.world import ANN, BOB, JOE, Kind
from postoffice.model.address import Quota
from postoffice.store.delivery import BUFFER
from postoffice.store.journal.filesystem import FILES
from postoffice.store.journal.records import BLOCK

LIMIT = Quota(octets=2500, messages=3, over="reject")
CROWDED = Quota(octets=0, messages=3, over="make-room")


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
    """Several are committed together."""
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
    """A large message goes before it was checkpointed."""
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
    """All segments are full: whoever posts checkpoints them first."""
    store = world.start()
    store.post(JOE)
    world.rest()
    for _ in range(17):
        store.post(JOE, size=5000)
    store.remove(JOE, 1, 2, 3)


@scenario(Kind())
def checkpointed(world, _):
    """Checkpointed in between, again and again."""
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
    """Mail comes in during a checkpoint: a later segment is used before an earlier one."""
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
def cut_recovery(world, variant):
    """A start recovers, is cut itself, and so is the one behind it."""
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


@scenario(Kind(), EACH)
def queued(world, _):
    """Messages for other servers, and for maildrops too; the queue is made with the first."""
    store = world.start()
    store.post(JOE)
    world.rest()
    store.post(QUEUE)
    store.post(JOE, QUEUE)
    store.post(JOE, ANN, QUEUE, size=BUFFER + 1000)
    store.post(QUEUE, size=BUFFER + 1000)
    store.checkpoint()
    store.post_together((QUEUE,), (JOE, QUEUE), (ANN,), (QUEUE,), (JOE, ANN, QUEUE), (JOE,))


@scenario(Kind(), EACH, TINY)
def sent(world, _):
    """They are sent, one recipient after the other or at once, just now or long ago."""
    store = world.start()
    for _ in range(3):
        store.post(QUEUE)
    store.post(JOE, QUEUE)
    store.finish(2, marked=0)
    world.rest()
    store.post(JOE, QUEUE)
    store.finish(5)
    store.finish(1)
    store.finish(2, marked=1)
    store.checkpoint()
    store.finish(1, marked=1)
    store.finish(1)
    store.post(QUEUE)
    store.finish(2)
    store.finish(1)


@scenario(Kind(), EACH, TINY)
def sent_meanwhile(world, _):
    """What was sent leaves the queue with a group that comes in."""
    store = world.start()
    for _ in range(4):
        store.post(QUEUE)
    store.finish(2, marked=0)
    world.rest()
    store.post_together((QUEUE,), (JOE,), (ANN,), (JOE, QUEUE), ended=3)
    store.checkpoint()
    store.post_together((JOE,), (QUEUE,), (ANN,), ended=2)


@scenario(Kind(), EACH, TINY)
def letters(world, _):
    """What failed is told exactly once, to people here and elsewhere."""
    store = world.start()
    store.post(JOE, ANN)
    for _ in range(4):
        store.post(QUEUE)
    world.rest()
    store.finish(1, (JOE,), marked=0)
    store.finish(1, (JOE, ANN))
    store.finish(1, (QUEUE,))
    store.post(JOE, QUEUE)
    store.checkpoint()
    store.finish(1, (JOE, QUEUE), (ANN,), marked=1)
    store.finish(1, (BOB, QUEUE), (JOE,))
    store.remove(JOE)
    store.finish(2)
