"""The numbered snapshot of a maildrop."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model import listing as listings
from postoffice.model.listing import Entries, Entry, Listing

ENTRIES = tuple(Entry(f"u{n}", n * 10) for n in (1, 2, 3))

uidls = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)
names = st.one_of(
    st.just(""),
    st.text(max_size=300),
    uidls.map(lambda uidl: f"new/{uidl},S=1"),
    st.binary(max_size=20).map(lambda name: name.decode("utf-8", "surrogateescape")),
)
entries = st.builds(
    Entry, uidls, st.integers(0, 1 << 50), names, st.none() | st.integers(0, 1 << 50)
)


@pytest.fixture(params=[tuple, Entries])
def listing(request):
    return Listing(request.param(ENTRIES))


def test_messages_are_numbered_from_one(listing):
    assert list(listing.sizes()) == [(1, 10), (2, 20), (3, 30)]
    assert list(listing.uidls()) == [(1, b"u1"), (2, b"u2"), (3, b"u3")]
    assert [listing.has(n) for n in (0, 1, 3, 4, -1)] == [False, True, True, False, False]


def test_what_is_marked_is_out_of_sight_and_can_come_back(listing):
    listing.collect(1)
    listing.collect(2)
    listing.delete(3)
    listing.delete(1)
    assert (len(listing), listing.octets) == (1, 20)
    assert list(listing.sizes()) == [(2, 20)]
    assert list(listing.uidls()) == [(2, b"u2")]
    assert listing.marked() == [ENTRIES[0], ENTRIES[2]]
    assert listing.collected() == [ENTRIES[1]]
    assert not listing.has(1)
    listing.reset()
    assert (len(listing), listing.octets, listing.marked()) == (3, 60, [])
    assert listing.collected() == [ENTRIES[0], ENTRIES[1]]
    assert listing.has(1)


@given(st.lists(entries), st.data())
def test_packed_entries_are_the_same(some, data):
    packed = Entries(some)
    assert packed == some
    assert list(packed) == some
    assert [packed[position] for position in range(len(packed))] == some
    assert [entry.position for entry in packed] == list(range(len(some)))
    assert list(packed.uidls()) == [entry.uidl.encode() for entry in some]
    assert packed.octets == sum(entry.size for entry in some)
    start, stop = data.draw(st.integers(-9, 9)), data.draw(st.integers(-9, 9))
    assert packed[start:stop] == some[start:stop]
    with pytest.raises(IndexError):
        packed[len(some)]


@pytest.mark.parametrize("few", [0, listings.FEW], ids=["by columns", "one by one"])
@given(st.lists(entries), st.lists(entries), st.sets(st.integers(0, 20)))
def test_packed_entries_change_as_a_list_does(few, before, fresh, gone):
    gone = {position for position in gone if position < len(before)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "FEW", few)
        changed = Entries(before).changed(gone, fresh)
    after = [entry for position, entry in enumerate(before) if position not in gone] + fresh
    assert list(changed) == after
    assert list(changed.names()) == [entry.name for entry in after]
    assert list(changed.uidls()) == [entry.uidl.encode() for entry in after]
    assert changed.octets == sum(entry.size for entry in after)
    assert changed.weight <= 2 * Entries(after).weight + Entries(before).weight


def test_packed_entries_forget_the_names_of_what_is_gone():
    entries = Entries(Entry(f"u{n}", n, f"new/u{n}") for n in range(1000))
    for _ in range(999):
        entries = entries.changed([0], ())
    assert entries == [Entry("u999", 999, "new/u999")]
    assert entries.weight < 1000


@pytest.mark.parametrize("kind", [tuple, Entries])
def test_sizes_are_of_what_a_client_without_utf8_gets(kind):
    listing = Listing(kind([Entry("u1", 10), Entry("u2", 20, "", 21), Entry("u3", 30, "", 0)]))
    listing.downgrade()
    assert list(listing.sizes()) == [(1, 10), (2, 21), (3, 30)]
    assert listing.octets == 61
    assert [listing.size(number) for number in (1, 2, 3)] == [10, 21, 30]
    listing.delete(2)
    assert listing.octets == 40


def test_a_hundred_thousand_entries_take_little_room():
    def entry(n: int) -> Entry:
        uidl = f"1767600000.M{n:06d}P12345Q{n}R0123abcd.mail-example-net"
        return Entry(uidl, 4000 + n, f"new/{uidl},S={4000 + n},W={4000 + n}")

    tracemalloc.start()
    packed = Entries(map(entry, range(10_000)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10_000 * 120
    assert packed.weight == pytest.approx(used, rel=0.1)
