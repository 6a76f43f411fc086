"""The numbered snapshot of a maildrop."""

from __future__ import annotations

from postoffice.listing import Entry, Listing

ENTRIES = tuple(Entry(f"u{n}", n * 10) for n in (1, 2, 3))


def test_messages_are_numbered_from_one():
    listing = Listing(ENTRIES)
    assert list(listing.numbered()) == list(enumerate(ENTRIES, 1))
    assert [listing.get(n) for n in (0, 1, 3, 4, -1)] == [None, ENTRIES[0], ENTRIES[2], None, None]


def test_what_is_marked_is_out_of_sight_and_can_come_back():
    listing = Listing(ENTRIES)
    listing.delete(3)
    listing.delete(1)
    assert (len(listing), listing.octets) == (1, 20)
    assert [number for number, _ in listing.numbered()] == [2]
    assert listing.marked() == [ENTRIES[0], ENTRIES[2]]
    assert listing.get(1) is None
    listing.reset()
    assert (len(listing), listing.octets, listing.marked()) == (3, 60, [])
