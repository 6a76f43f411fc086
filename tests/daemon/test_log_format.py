"""Log lines: quicker than Twisted's, and nearly the same."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import (
    FileLogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure

from postoffice.daemon.log_format import line_of
from postoffice.daemon.log_output import LogOutput

THEIRS = textFileLogObserver(io.StringIO()).formatEvent
VALUES = st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
FORMATS = ("{a}", "{a!r:>9} of {b}", "{a.real}{b[0]}", "{c()} {a}", "two\nlines", "", "{", b"{a}")
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "log_format": st.sampled_from(
            [
                "{a}",
                "{a!r:>9} of {b}",
                "{a.real}{b[0]}",
                "{c()} {a}",
                "two\nlines {a}",
                "",
                "{",
                b"{a}",
            ]
        )
        | st.text(max_size=5)
        | st.none(),
        "log_time": st.floats(0, 4e9) | st.none(),
        "log_namespace": st.sampled_from(
            ["postoffice.server.smtp", "twisted.internet.base", "postoffice", "-", "a.b"]
        ),
        "log_level": st.sampled_from(list(LogLevel.iterconstants())) | st.none(),
        "log_system": st.none() | st.just("some"),
        "log_failure": st.just(Failure(ValueError("no"))),
        "a": VALUES,
        "b": VALUES,
        "c": st.just(lambda: "called"),
    },
)


@given(st.lists(EVENTS, max_size=3))
def test_each_is_as_twisted_would_write_it(events):
    ours = line_of(THEIRS)
    for event in events:
        short = dict(event)
        if "." in short.get("log_namespace", "") and short["log_namespace"] != "a.b":
            short["log_namespace"] = short["log_namespace"].partition(".")[0]
        assert ours(event) == THEIRS(short)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("SMTPFactory starting on 25", False),
        ("SMTPFactory starting on 'lmtp.sock'", False),
        (
            "<class 'postoffice.server.neighbour_processes.Neighbours'> starting on '/proc/1/fd/2'",
            False,
        ),
        ("(TCP Port 25 Closed)", False),
        ("(UNIX Port lmtp.sock Closed)", False),
        ("(Port '/proc/self/fd/20/1' Closed)", False),
        ("Unhandled Error", True),
        ("starting on time", True),
    ],
)
def test_what_twisted_says_of_ports_is_left_out(text, kept):
    publisher = LogPublisher(textFileLogObserver(out := io.StringIO()))
    LogOutput().take_over(publisher)
    legacy.LogPublisher(publishPublisher=publisher).msg(text)
    assert (text in out.getvalue()) == kept


@pytest.mark.parametrize("second", [0, 1_774_745_999, 1_774_746_000])  # of Europe's summer time
def test_the_time_is_told_anew_each_second(second):
    ours = line_of(THEIRS)
    for when in (second, second + 0.999, second + 1.0, second):
        event = {"log_format": "x", "log_time": when, "log_level": LogLevel.info}
        event["log_namespace"] = "postoffice"
        assert ours(event) == THEIRS(event)


def test_only_those_who_write_text_to_files_are_other():
    text, json = io.StringIO(), io.StringIO()
    own = FileLogObserver(text, lambda event: "own\n")
    seen = []
    observers = [textFileLogObserver(text), own, jsonFileLogObserver(json), seen.append]
    before = [getattr(observer, "formatEvent", None) for observer in observers]
    publisher = LogPublisher(*observers)
    LogOutput().take_over(publisher)
    LogOutput().take_over(publisher)
    after = [getattr(observer, "formatEvent", None) for observer in observers]
    assert [one is other for one, other in zip(before, after, strict=True)] == [False, *[True] * 3]
    Logger("postoffice", observer=publisher).info("{what} came", what="mail")
    assert text.getvalue().endswith(" [postoffice#info] mail came\nown\n")
    assert '"what": "mail"' in json.getvalue()
    assert seen[0]["what"] == "mail"
