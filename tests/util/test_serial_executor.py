"""Functions that run one at a time, and waits that end before the work does."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from postoffice.testing import ManualExecutor
from postoffice.util.serial_executor import SerialExecutor


def test_a_cancelled_call_that_waits_is_never_made_and_one_in_progress_ends():
    executor = ManualExecutor()
    serial = SerialExecutor(executor)
    called: list[int] = []
    calls = [Deferred.fromCoroutine(serial.run(called.append, number)) for number in range(4)]
    idle = Deferred.fromCoroutine(serial.idle())
    assert len(executor.waiting) == 1
    for gone in calls[:2]:
        gone.cancel()
        gone.addErrback(lambda failure: failure.trap(CancelledError))
    assert len(executor.waiting) == 1
    executor.work_on()
    assert called == [0, 2, 3]
    assert idle.called


def test_a_failure_lets_the_next_call_go_on():
    executor = ManualExecutor()
    serial = SerialExecutor(executor)
    failed = Deferred.fromCoroutine(serial.run(int, "no number"))
    after = Deferred.fromCoroutine(serial.run(int, "7"))
    executor.work_on()
    failed.addErrback(lambda failure: failure.trap(ValueError))
    assert after.result == 7
