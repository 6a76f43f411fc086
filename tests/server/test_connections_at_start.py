"""Clients that connect while the daemon is starting."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from postoffice.server.connection_setup import (
    LINGER,
    STARTUP_WAIT,
)
from postoffice.server.listener_options import ListenerOptions
from tests.server.echoes import connected, lose, reasons, said


def test_a_client_that_comes_early_is_greeted_when_the_office_is_open(factory, clock):
    factory.starting = True
    early = connected(factory)
    early.transport.deliver(b"a\n")
    clock.advance(STARTUP_WAIT - 1)
    assert said(early) == b""
    factory.open()
    assert said(early) == b"hello\r\n"
    clock.advance(0)
    assert said(early) == b"aa"
    assert said(connected(factory)) == b"hello\r\n"
    lose(early)
    assert not early.transport.aborted


def test_a_client_that_waited_too_long_is_told_of_the_start(factory, clock, logged):
    factory.starting = True
    early = connected(factory)
    clock.advance(STARTUP_WAIT)
    assert said(early) == b"not yet\r\n"
    assert early.transport.disconnecting
    factory.open()
    assert said(early) == b""
    clock.advance(LINGER)
    assert early.transport.aborted
    lose(early)
    assert reasons(logged) == ["timed out: the daemon is still starting"]
    assert not clock.getDelayedCalls()


def test_a_start_that_fails_tells_those_who_wait(factory, clock):
    factory.starting = True
    early = connected(factory)
    closed = Deferred.fromCoroutine(factory.close(30))
    assert said(early) == b"not yet\r\n"
    lose(early)
    assert closed.called


def test_a_client_of_implicit_tls_gets_nothing_in_clear_at_the_start(factory, clock):
    factory.listener_options = ListenerOptions(implicit=True)
    factory.starting = True
    early = connected(factory)
    clock.advance(STARTUP_WAIT)
    assert said(early) == b""
    assert early.transport.disconnecting
    patient = connected(factory)
    assert patient.transport.secured_by is None
    factory.listener_options = ListenerOptions(implicit=True, certificates="certificates")
    factory.open()
    assert patient.transport.secured_by == "certificates"
    clock.advance(0)
    assert patient.transport.producerState == "producing"
