"""Idle connections are used again, and closed when the pool is."""

from __future__ import annotations

from twisted.internet.task import Clock

from postoffice.util.connection_pool import IDLE, ConnectionPool


def test_a_connection_that_is_given_back_is_taken_again():
    pool = ConnectionPool(lambda connection: None)
    assert pool.take() is None
    pool.give_back("one")
    assert pool.take() == "one"
    assert pool.take() is None


def test_all_are_closed_the_idle_ones_at_once():
    closed = []
    pool = ConnectionPool(closed.append)
    pool.give_back("idle")
    pool.close()
    assert closed == ["idle"]
    pool.give_back("busy")
    assert closed == ["idle", "busy"]
    assert pool.take() is None


def test_a_pool_can_be_opened_again():
    pool = ConnectionPool(lambda connection: None)
    pool.close()
    pool.open()
    pool.give_back("one")
    assert pool.take() == "one"


def test_what_was_idle_for_long_is_closed():
    closed, clock = [], Clock()
    pool = ConnectionPool(closed.append, clock.seconds)
    for name in ("one", "two"):
        pool.give_back(name)
    clock.advance(IDLE)
    assert pool.take() == "two"
    pool.give_back("two")
    clock.advance(IDLE + 1)
    assert pool.take() is None
    assert closed == ["one", "two"]
