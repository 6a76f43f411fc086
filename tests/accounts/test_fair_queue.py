"""Those who wait: bounded by network and prefix, in turns."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts.fair_queue import Bounds, FairQueue, QueueFull
from postoffice.util.networks import prefix_of

BOUNDS = Bounds(total=10, per_network=2, per_prefix=4)


@pytest.mark.parametrize(
    ("network", "prefix"),
    [
        ("", ""),
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8::1", "2001:db8::/48"),
    ],
)
def test_the_prefix_of_a_network(network, prefix):
    assert prefix_of(network) == prefix


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        (["192.0.2.1"] * 3, "2 from 192.0.2.1"),
        (["2001:db8::/64"] * 3, "2 from 2001:db8::/64"),
        ([f"192.0.2.{n}" for n in range(5)], "4 from 192.0.2.0/24"),
        ([f"2001:db8:0:{n}::/64" for n in range(5)], "4 from 2001:db8::/48"),
        ([f"192.0.{n}.1" for n in range(11)], "10"),
        ([""] * 11, "10"),
    ],
)
def test_a_full_queue_refuses(networks, why):
    line = FairQueue(BOUNDS)
    for n, network in enumerate(networks[:-1]):
        assert line.join(n, network) is None
    with pytest.raises(QueueFull, match=f"^{why}$"):
        line.join("one more", networks[-1])
    line.leave(0, networks[0])
    line.join("one more", networks[-1])


def test_prefixes_take_turns_and_in_each_the_first_is_first():
    line = FairQueue(BOUNDS)
    for name, network in [
        ("a1", "192.0.2.1"), ("a2", "192.0.2.1"), ("a3", "192.0.2.2"),
        ("b1", "192.0.3.1"), ("c1", "2001:db8::/64"), ("c2", "2001:db8:0:1::/64"),
    ]:  # fmt: skip
        line.join(name, network)
    order = ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert [line.next() for _ in range(7)] == [*order, None]


def test_leaving_twice_counts_once():
    line = FairQueue(BOUNDS)
    line.join("a", "192.0.2.1")
    line.join("b", "192.0.2.1")
    for _ in range(2):
        line.leave("a", "192.0.2.1")
        line.leave("a", "203.0.113.1")
    assert (len(line), line.next(), line.next()) == (1, "b", None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans())))
def test_it_is_never_longer_than_its_bounds(steps):
    line, inside = FairQueue(BOUNDS), {}
    for n, (prefix, host, joins) in enumerate(steps):
        network = f"192.0.{prefix}.{host}" if prefix else ""
        if joins:
            try:
                gone = line.join(n, network)
            except QueueFull:
                continue
            inside[n] = network
            if gone is not None:
                del inside[gone]
        elif (one := line.next()) is not None:
            del inside[one]
        assert len(line) == len(inside) <= BOUNDS.total
        for place, most in ((str, BOUNDS.per_network), (prefix_of, BOUNDS.per_prefix)):
            counts = Counter(place(one) for one in inside.values() if one)
            assert not counts or max(counts.values()) <= most
