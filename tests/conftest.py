"""A failure that is only logged fails the test."""

from __future__ import annotations

import gc

import pytest
from twisted.logger import globalLogPublisher


@pytest.fixture(autouse=True)
def failures():
    """What was logged as a failure; a test that means it takes it out."""
    seen = []

    def watch(event):
        if event.get("log_failure") is not None:
            seen.append(event["log_failure"])

    globalLogPublisher.addObserver(watch)
    yield seen
    if seen or gc.isenabled():
        gc.collect(0)
    globalLogPublisher.removeObserver(watch)
    assert not seen, "a failure was logged: " + "\n".join(
        failure.getTraceback() for failure in seen
    )
