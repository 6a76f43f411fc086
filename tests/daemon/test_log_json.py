"""The log in JSON: the fields of the text, one object a line, whatever is logged."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import Application
from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure

from postoffice.daemon.log_json import KEYS, TRACEBACK, json_of
from postoffice.daemon.log_output import LogOutput
from postoffice.model import log_events
from postoffice.model.log_event import SHORT, tell, tell_failure
from postoffice.model.log_events import EVENTS, FIELDS

ALL = sorted(EVENTS.values(), key=lambda event: event.name)


class Written:
    """A log of ours, and the lines that were written."""

    def __init__(self, form: str = "text") -> None:
        self.file = io.StringIO()
        self.publisher = LogPublisher(textFileLogObserver(self.file))
        self.output = LogOutput(form)
        self.output.take_over(self.publisher)
        self.log = Logger("postoffice.server.smtp", observer=self.publisher)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def written():
    return Written("json")


def test_an_event_is_an_object_with_the_fields_in_their_order(written):
    tell(written.log, log_events.MESSAGE_TAKEN, id="1.1", size=1830, sender="<ann@example.org>",
         helo=b"mx.example.org", device=None, tls="")  # fmt: skip
    [line] = written.lines
    found = json.loads(line)
    when = datetime.fromisoformat(found.pop("time"))
    assert when.tzinfo is not None
    assert list(found.items()) == [
        ("program", "postoffice"),
        ("level", "info"),
        ("event", "message-taken"),
        ("id", "1.1"),
        ("sender", "<ann@example.org>"),
        ("size", 1830),
        ("helo", "mx.example.org"),
    ]


VALUES = st.text(max_size=SHORT // 8) | st.integers() | st.binary(min_size=1, max_size=SHORT // 16)


@given(st.data())
def test_the_values_are_those_of_the_text(data):
    event = data.draw(st.sampled_from(ALL))
    values = {field: data.draw(VALUES | st.none()) for field in event.fields}
    found = event.values(values)
    assert event.line(found) == event.line(values)
    assert all(type(one) in (str, int, float) for one in found.values())


@given(st.sampled_from(ALL), st.text(min_size=0, max_size=2000))
def test_a_long_value_is_cut_where_the_text_cuts_it(event, text):
    field = event.fields[0]
    [cut] = event.values({field: text}).values() if text else [""]
    if text:
        again, once = (event.line({field: one}) for one in (cut, text))
        assert again.rstrip('."') == once.rstrip('."')  # the dots of the cut may be cut, too


ANYTHING = st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "log_format": st.sampled_from(["{a}", "{a()}", "{", b"{a}", "{a!r:>9}", ""]) | ANYTHING,
            "log_time": st.floats() | ANYTHING,
            "log_namespace": ANYTHING,
            "log_level": st.sampled_from(list(LogLevel.iterconstants())) | ANYTHING,
            "log_failure": st.just(Failure(ValueError("no"))) | ANYTHING,
            "event": st.sampled_from(sorted(EVENTS)) | ANYTHING,
            "a": ANYTHING,
            **dict.fromkeys(FIELDS, ANYTHING),
        },
    )
)
def test_whatever_is_logged_is_at_most_one_line_of_json(event):
    line = json_of(event)
    if line is not None:
        assert line.isascii()
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        found = json.loads(line, parse_constant=pytest.fail)
        assert list(found)[:3] == ["time", "program", "level"]


def test_a_sentence_a_failure_and_what_twisted_says_are_objects_too(written):
    written.log.info("two\nlines of {what}", what="mail")
    try:
        raise ValueError("a bug\x1b[2J")
    except ValueError:
        tell_failure(written.log, log_events.FAULT, id="1", why="no")
    old = legacy.LogPublisher(publishPublisher=written.publisher)
    old.msg("Server Shut Down.")
    old.msg("SMTPFactory starting on 25")
    sentence, fault, twisteds = written.objects
    assert sentence["message"] == "two\nlines of mail"
    assert (fault["event"], fault["id"], fault["why"]) == ("fault", "1", "no")
    assert fault["level"] == "critical"
    assert fault["traceback"].rstrip().endswith("ValueError: a bug\x1b[2J")
    assert "message" not in fault
    assert twisteds["message"] == "Server Shut Down."
    assert len(written.lines) == 3


def test_a_traceback_has_its_bound(written):
    tell_failure(written.log, log_events.FAULT, Failure(ValueError("x" * 100_000 + "end")))
    assert written.objects[0]["traceback"].rstrip().endswith("xend")
    assert len(written.lines[0]) < TRACEBACK + 1000


def test_no_field_is_called_as_what_every_line_has():
    assert not set(KEYS) & set(FIELDS)


def test_format_and_level_change_at_once():
    written = Written()
    written.log.info("text")
    written.log.debug("too low")
    written.output.use("json", "warn")
    written.log.info("too low")
    written.log.warn("{a} is wrong", a=1)
    written.output.use("text", "debug")
    written.log.debug("all")
    text, json_line, debug = written.lines
    assert text.endswith("[postoffice#info] text")
    assert json.loads(json_line)["message"] == "1 is wrong"
    assert debug.endswith("[postoffice#debug] all")


def test_observers_of_others_write_as_they_want():
    file = io.StringIO()
    publisher = LogPublisher(jsonFileLogObserver(file))
    LogOutput("json", "error").take_over(publisher)
    Logger("postoffice", observer=publisher).info("all")
    assert '"log_format": "all"' in file.getvalue()


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({"nodaemon": True}, True),
        ({"nodaemon": True, "logfile": "-"}, True),
        ({"logfile": "LOG"}, True),
        ({"logfile": "-"}, False),
        ({"syslog": True}, False),
        ({"nodaemon": True, "logger": "some"}, False),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_twistds_first_lines_are_json_where_twistd_would_write_text(tmp_path, options, ours, form):
    if options.get("logfile") == "LOG":
        options = {"logfile": str(tmp_path / "twistd.log")}
    application = Application("postoffice")
    output = LogOutput(form)
    output.begin(application, options)
    observer = application.getComponent(ILogObserver, None)
    assert (observer is not None) == (ours and form == "json")
    if observer is not None:
        output.take_over(publisher := LogPublisher(observer))
        assert observer in publisher._observers
        assert json.loads(observer.formatEvent({"log_format": "twistd starts"}))["message"]
