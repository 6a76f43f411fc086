"""Who may come in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.doors import Doorkeeper, place_of


def opened(total: int = 100, per_client: int = 100) -> Doorkeeper:
    doors = Doorkeeper(total, per_client)
    doors.open()
    return doors


def test_nobody_comes_in_before_the_doors_are_open():
    doors = Doorkeeper(1, 1)
    assert not doors.admit("192.0.2.1")
    doors.open()
    assert doors.admit("192.0.2.1")


def test_who_leaves_makes_room():
    doors = opened(total=2)
    assert [doors.admit(f"192.0.2.{n}") for n in range(3)] == [True, True, False]
    doors.leave("192.0.2.0")
    assert [doors.admit("192.0.2.9"), doors.admit("192.0.2.9")] == [True, False]


def test_one_place_has_its_share_and_no_more():
    doors = opened(per_client=2)
    assert [doors.admit("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert doors.admit("192.0.2.2")
    doors.leave("192.0.2.1")
    assert doors.admit("192.0.2.1")


def test_an_ipv6_network_is_one_place():
    doors = opened(per_client=1)
    assert doors.admit("2001:db8:0:1::1")
    assert not doors.admit("2001:db8:0:1:ffff::2")
    assert doors.admit("2001:db8:0:2::1")
    assert place_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_clients_on_unix_sockets_count_only_in_the_total():
    doors = opened(total=3, per_client=1)
    assert [doors.admit("") for _ in range(4)] == [True, True, True, False]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "192.0.2.1", "2001:db8::1"]))))
def test_whoever_comes_and_goes_the_counts_are_kept(steps):
    doors = opened(total=4, per_client=2)
    inside: list[str] = []
    for comes, who in steps:
        if comes:
            room = len(inside) < 4 and (not who or inside.count(who) < 2)
            assert doors.admit(who) == room
            inside += [who] * room
        elif who in inside:
            inside.remove(who)
            doors.leave(who)
