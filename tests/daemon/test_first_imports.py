"""Imports behind first logins: their turns, what they wait for, and what becomes of them."""

from __future__ import annotations

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.daemon.first_imports import AT_ONCE, IN_USE, PAUSE, FirstImports, Outcome
from postoffice.testing import finish

ANN = "ann@example.net"
WORDS = ("pop3s://ann@example.net@old.example.net:995", "--tls", "verify")


class Scripted:
    """An executor; the test says what comes of each call."""

    def __init__(self):
        self.calls = []

    def run(self, function, *args):
        self.calls.append((args, Deferred()))
        return self.calls[-1][1]

    def answer(self, outcome):
        self.calls[-1][1].callback(outcome)


@pytest.fixture
def imports():
    return FirstImports("/etc/postoffice/postoffice.yaml", Scripted(), Clock())


def told(logged):
    return [text for one in logged if "first-import" in (text := eventAsText(one))]


def test_what_was_imported_is_told(imports):
    with capturedLogs() as logged:
        imports.begin(ANN, WORDS, b"hers")
        imports.executor.answer(Outcome(3, 90))
    assert imports.executor.calls[0][0] == (ANN, WORDS, b"hers")
    assert f"first-import account={ANN} messages=3 octets=90" in told(logged)[0]


def test_a_session_that_holds_the_maildrop_is_waited_for(imports):
    with capturedLogs() as logged:
        imports.begin(ANN, WORDS, b"hers")
        imports.executor.answer(Outcome(why=f"{IN_USE}; try again later"))
        imports.begin(ANN, WORDS, b"hers")
        assert len(imports.executor.calls) == 1, "one import for an account"
        imports.clock.advance(PAUSE)
        assert len(imports.executor.calls) == 2
        imports.executor.answer(Outcome(3, 90))
    assert len(told(logged)) == 1


def test_a_failure_is_told(imports):
    with capturedLogs() as logged:
        imports.begin(ANN, WORDS, b"hers")
        imports.executor.answer(Outcome(2, why="the old server is down"))
    assert 'first-import-failed account=ann@example.net messages=2 why="the old' in told(logged)[0]


def test_only_a_few_run_at_one_time(imports):
    for number in range(AT_ONCE + 1):
        imports.begin(f"u{number}@example.net", WORDS, b"x")
    assert len(imports.executor.calls) == AT_ONCE
    imports.executor.answer(Outcome())
    assert len(imports.executor.calls) == AT_ONCE + 1


def test_the_end_of_the_daemon_is_told(imports):
    with capturedLogs() as logged:
        imports.begin(ANN, WORDS, b"hers")
        finish(imports.stop())
        imports.begin("bob@example.net", WORDS, b"his")
    assert len(told(logged)) == 1
    assert "the post office was stopped" in told(logged)[0]


@pytest.mark.parametrize(
    ("said", "errors", "outcome"),
    [
        ({"maildrops": [{"messages": 3, "octets": 9, "error": None, "left": []}]}, b"",
         Outcome(3, 9)),
        ({"maildrops": [{"messages": 3, "octets": 9, "error": None, "left": ["x: y"]}]}, b"",
         Outcome(3, 9, "x: y")),
        ({"maildrops": [{"messages": 0, "octets": 0, "error": "down", "left": []}]}, b"",
         Outcome(why="down")),
        ({"error": "no such account"}, b"", Outcome(why="no such account")),
        ("", b"Traceback\nOops\n", Outcome(why="Oops")),
        ([], b"", Outcome(why="the command said nothing")),
    ],
)  # fmt: skip
def test_what_the_command_says(said, errors, outcome):
    assert Outcome.read(json.dumps(said).encode() if said else b"", errors) == outcome
