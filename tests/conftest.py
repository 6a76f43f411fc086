"""What all tests share: their options, and that a failure which is only logged fails the test."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from twisted.logger import globalLogPublisher

import postoffice


def pytest_addoption(parser):
    parser.addoption(
        "--corpus",
        metavar="DIR",
        help="post the messages DIR/*.eml over the real sockets, instead of generated ones",
    )


def pytest_report_header(config):
    corpus = config.getoption("corpus") or "none given: messages are generated"
    return [f"postoffice: {Path(postoffice.__file__).parent}", f"corpus: {corpus}"]


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
