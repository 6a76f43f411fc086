"""The journal's groups: whole or not at all, whatever lies around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.store.journal.records import (
    BLOCK,
    PutRecord,
    RemoveRecord,
    batches,
    encode,
    room_for,
)

KEY = bytes(range(32))

NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1)
TEXTS = st.one_of(
    st.binary(), st.builds(bytes.__mul__, st.binary(min_size=1, max_size=3), st.integers(0, 5000))
)
SMALL = st.builds(
    lambda name, maildrops, text: PutRecord(name, tuple(maildrops), text, len(text)),
    NAMES,
    st.lists(NAMES, min_size=1),
    TEXTS,
)
LARGE = st.builds(
    lambda name, maildrops, size: PutRecord(name, tuple(maildrops), None, size),
    NAMES,
    st.lists(NAMES, min_size=1),
    st.integers(0, 2**63),
)
REMOVALS = st.builds(
    RemoveRecord,
    st.lists(st.tuples(NAMES, st.lists(NAMES).map(tuple))).map(tuple),
    st.one_of(st.just(""), NAMES),
)
RECORDS = st.lists(st.one_of(SMALL, LARGE, REMOVALS), min_size=1, max_size=5)

SOME = [
    PutRecord("1.x,S=4,W=4", ("example.net/joe", "example.net/ann"), b"hi\r\n", 4),
    PutRecord("2.x,S=9,W=9", ("example.net/joe",), None, 9),
    RemoveRecord((("example.net/joe", ("1.x", "2.x")), ("example.net/ann", ("3.x",))), "77.abc"),
]


def found(octets: bytes, *, above: int = 0, key: bytes = KEY):
    return list(batches(key, octets, above))


def records_in(octets: bytes, **named):
    return [list(batch.records) for batch in found(octets, **named)]


@given(RECORDS, st.integers(1, 2**63), st.integers(0, 3))
def test_any_records_survive(records, generation, blocks):
    octets = encode(KEY, generation, blocks * BLOCK, records)
    assert len(octets) % BLOCK == 0
    assert len(octets) == room_for(records)
    [batch] = found(bytes(blocks * BLOCK) + octets + bytes(BLOCK))
    assert list(batch.records) == records
    assert (batch.generation, batch.offset) == (generation, blocks * BLOCK)
    assert batch.end == blocks * BLOCK + len(octets)


@given(st.lists(RECORDS, max_size=4))
def test_groups_are_found_one_behind_the_other(wanted):
    octets = b""
    for records in wanted:
        octets += encode(KEY, 7, len(octets), records)
    assert records_in(octets) == wanted


def test_what_the_file_system_calls_a_maildrop_may_be_no_text():
    odd = PutRecord("1", ("example.net/j\udcf6e",), b"", 0)
    assert records_in(encode(KEY, 1, 0, [odd])) == [[odd]]


# -- damage ---------------------------------------------------------------------------

GOOD = encode(KEY, 3, BLOCK, SOME)
SIGNED = len(GOOD.rstrip(b"\0"))  # behind that there is only padding


@given(st.integers(0, SIGNED - 1), st.integers(1, 255))
def test_any_damaged_octet_makes_the_group_vanish_and_no_other(at, change):
    bad = bytearray(GOOD)
    bad[at] ^= change
    before = encode(KEY, 3, 0, SOME[:1])
    behind = encode(KEY, 3, BLOCK + len(GOOD), SOME[1:])
    assert records_in(before + bytes(bad) + behind) == [SOME[:1], SOME[1:]]


@given(st.integers(0, SIGNED))
def test_a_group_that_was_cut_is_none(end):
    torn = GOOD[:end]
    whole = SOME if end == SIGNED else None
    assert records_in(bytes(BLOCK) + torn.ljust(len(GOOD), b"\0")) == ([whole] if whole else [])


def test_a_segment_that_ends_in_the_middle_of_a_group_is_no_error():
    long = encode(KEY, 1, 0, [PutRecord("1", ("a/b",), b"x" * 3 * BLOCK, 3 * BLOCK)])
    assert [records_in(long[:end]) for end in (0, 1, 100, BLOCK, BLOCK + 1, 3 * BLOCK)] == [[]] * 6


@given(st.binary(max_size=3 * BLOCK), st.binary(max_size=200))
def test_any_octets_are_no_group_and_no_error(octets, head):
    assert found(octets) == []
    assert found(GOOD[: 8 + len(head) % 40] + head + octets) == []  # it begins like one


def test_another_key_finds_nothing():
    assert records_in(bytes(BLOCK) + GOOD, key=KEY[::-1]) == []


def test_a_group_at_another_place_is_none():
    assert records_in(GOOD) == []
    assert records_in(bytes(2 * BLOCK) + GOOD) == []
    assert records_in(bytes(BLOCK + 512) + GOOD) == []


@pytest.mark.parametrize(("above", "there"), [(0, True), (2, True), (3, False), (4, False)])
def test_a_batch_of_a_generation_that_is_checkpointed_is_not_found(above, there):
    assert bool(found(bytes(BLOCK) + GOOD, above=above)) is there


# -- forgery ----------------------------------------------------------------------------


def forgery(place: int, *, key: bytes = b"the sender does not know the key") -> bytes:
    """A group as a sender would write it into a message."""
    return encode(key, 2**40, place, [RemoveRecord((("example.net/ann", ("1.x",)),))])


def text_with(groups_at: range) -> bytes:
    """A text with groups in it, aligned so that they begin where blocks do."""
    head = 2 * BLOCK - room_head()
    return b"x" * head + b"".join(forgery(place) for place in groups_at)


def room_head() -> int:
    """Octets of a group that come before the first text in it."""
    return encode(KEY, 1, 0, [LETTER]).index(LETTER.text)


LETTER = PutRecord("1", ("example.net/joe",), b"a text that is found again", 26)


def test_groups_in_the_text_of_a_sender_are_never_taken():
    text = text_with(range(2 * BLOCK, 6 * BLOCK, BLOCK))
    letter = replace(LETTER, text=text, size=len(text))
    octets = encode(KEY, 5, 0, [letter])
    assert octets[2 * BLOCK :].startswith(b"PostJrnl"), "a forged group is where one could be"
    assert records_in(octets) == [[letter]]
    # nor where the group around it is damaged, or an old one whose beginning was written over
    damaged = bytearray(octets)
    damaged[50] ^= 1
    assert records_in(bytes(damaged)) == []
    new = encode(KEY, 6, 0, [LETTER])
    assert records_in(new + octets[len(new) :]) == [[LETTER]]


def test_a_true_head_does_not_vouch_for_another_body():
    one, two = (encode(KEY, 1, 0, [replace(LETTER, text=letter * 26)]) for letter in (b"a", b"b"))
    assert records_in(one[: room_head()] + two[room_head() :]) == []
