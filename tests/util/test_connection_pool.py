"""Idle connections are used again, and closed when the pool is."""

from __future__ import annotations

from postoffice.util.connection_pool import ConnectionPool


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
