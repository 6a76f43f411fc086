"""Who may come in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.server.connection_limits import ConnectionLimits
from postoffice.util.networks import network_of


def test_a_client_that_leaves_makes_room():
    connection_limits = ConnectionLimits(2, 100)
    assert [connection_limits.admit(f"192.0.2.{n}") for n in range(3)] == [True, True, False]
    connection_limits.leave("192.0.2.0")
    assert [connection_limits.admit("192.0.2.9"), connection_limits.admit("192.0.2.9")] == [
        True,
        False,
    ]


def test_one_place_has_its_share_and_no_more():
    connection_limits = ConnectionLimits(100, 2)
    assert [connection_limits.admit("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert connection_limits.admit("192.0.2.2")
    connection_limits.leave("192.0.2.1")
    assert connection_limits.admit("192.0.2.1")


def test_an_ipv6_network_is_one_place():
    connection_limits = ConnectionLimits(100, 1)
    assert connection_limits.admit("2001:db8:0:1::1")
    assert not connection_limits.admit("2001:db8:0:1:ffff::2")
    assert connection_limits.admit("2001:db8:0:2::1")
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_clients_on_unix_sockets_count_only_in_the_total():
    connection_limits = ConnectionLimits(3, 1)
    assert [connection_limits.admit("") for _ in range(4)] == [True, True, True, False]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "192.0.2.1", "2001:db8::1"]))))
def test_the_counts_are_kept_over_any_arrivals_and_departures(steps):
    connection_limits = ConnectionLimits(4, 2)
    inside: list[str] = []
    for comes, who in steps:
        if comes:
            room = len(inside) < 4 and (not who or inside.count(who) < 2)
            assert connection_limits.admit(who) == room
            inside += [who] * room
        elif who in inside:
            inside.remove(who)
            connection_limits.leave(who)


def test_an_ipv6_48_has_four_times_what_a_64_has():
    connection_limits = ConnectionLimits(100, 3)
    admitted = [connection_limits.admit(f"2001:db8:1:{n % 8:x}::{n + 1:x}") for n in range(24)]
    assert admitted == [True] * 12 + [False] * 12
    assert connection_limits.admit("2001:db8:2::1")
    assert connection_limits.admit("192.0.2.1")
    connection_limits.leave("2001:db8:1:7::9")
    assert connection_limits.admit("2001:db8:1:ffff::1")
    assert not connection_limits.admit("2001:db8:1:fffe::1")


@pytest.mark.parametrize("greedy", ["smtp", "pop3", "lmtp"])
def test_no_service_takes_what_is_kept_for_the_others(greedy):
    services = ["smtp", "pop3", "lmtp"]
    connection_limits = ConnectionLimits(60, 1000, services)
    taken = sum(connection_limits.admit(f"192.0.2.{n}", greedy) for n in range(100))
    assert taken == 60 - 2 * 10
    for other in set(services) - {greedy}:
        assert all(connection_limits.admit("192.0.2.1", other) for _ in range(10))
        assert not connection_limits.admit("192.0.2.1", other)
    connection_limits.leave("192.0.2.0", greedy)
    assert connection_limits.admit("192.0.2.0", greedy)


def test_places_that_are_not_reserved_go_to_the_first():
    connection_limits = ConnectionLimits(20, 1000, ["smtp", "pop3"])
    assert sum(connection_limits.admit("", "smtp") for _ in range(20)) == 15
    assert sum(connection_limits.admit("", "pop3") for _ in range(20)) == 5
    for _ in range(10):
        connection_limits.leave("", "smtp")
    assert sum(connection_limits.admit("", "pop3") for _ in range(20)) == 10


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["smtp", "pop3", "lmtp"]))))
def test_each_service_can_have_its_part_whatever_came_before(steps):
    connection_limits = ConnectionLimits(12, 1000, ["smtp", "pop3", "lmtp"])
    inside = []
    for comes, service in steps:
        if comes and connection_limits.admit("", service):
            inside.append(service)
        elif not comes and service in inside:
            inside.remove(service)
            connection_limits.leave("", service)
        elif comes:
            assert inside.count(service) >= 2
    assert len(inside) <= 12
