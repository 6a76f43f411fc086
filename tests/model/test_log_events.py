"""The events of the log: one table, plain lines, nothing that breaks one."""

from __future__ import annotations

import ast
import inspect
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher, jsonFileLogObserver

import postoffice
from postoffice.model import log_event, log_events
from postoffice.model.log_event import LINE, LIST, Event, portions, shown, tell
from postoffice.model.log_events import EVENTS, FIELDS

ALL = sorted(EVENTS.values(), key=lambda event: event.name)
NAMES = {name: one for name, one in vars(log_events).items() if isinstance(one, Event)}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("joe@example.net", "joe@example.net"),
        ("SRS0=x=y@example.org", "SRS0=x=y@example.org"),
        ("two words", '"two words"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("a\r\nb\tc\0", r'"a\r\nb\tc\x00"'),
        ("\x1b[2J", r'"\x1b[2J"'),
        ("jürgen@exämple.net", "jürgen@exämple.net"),
        ("a\u202eb", r'"a\u202eb"'),
        ("\udcff", r'"\udcff"'),
        (b"joe", "joe"),
        (b"\xff", r'"\\xff"'),
        (12, "12"),
        (1.5, "1.5"),
        ("", '""'),
    ],
)
def test_a_value_is_one_word_or_quoted(value, said):
    assert shown(value) == said


@given(st.text())
def test_no_value_breaks_a_line_or_is_too_long(value):
    said = shown(value)
    assert said.isprintable()
    assert len(said.encode()) <= log_event.VALUE + 5
    assert " " not in said or (said[0] == said[-1] == '"')


@given(st.data())
def test_no_line_is_longer_than_a_kib(data):
    event = data.draw(st.sampled_from(ALL))
    long = st.text(min_size=200, max_size=400) | st.just("\0" * 300) | st.just("x" * 9000)
    values = {field: data.draw(long) for field in event.fields if field not in ("to", "uidls")}
    line = event.line(values)
    assert len(line.encode()) <= LINE
    assert f"{line} ".startswith(f"{event.name} ")


def test_what_has_no_value_is_left_out_and_the_order_is_the_tables():
    line = log_events.LOGIN.line({"account": "joe@x", "tls": "", "id": "1", "device": None})
    assert line == "login id=1 account=joe@x"


@given(st.lists(st.text(min_size=1, max_size=400), max_size=30), st.integers(-100, LIST))
def test_portions_lose_nothing_and_fit(words, first):
    found = list(portions(words, first))
    assert ",".join(one for one in found if one) == ",".join(words)
    for one in found:
        if len(one) < 300:
            assert len(shown(one, LIST).encode()) <= LIST + 5


def test_observers_get_the_fields():
    json = io.StringIO()
    log = Logger("postoffice", observer=LogPublisher(jsonFileLogObserver(json)))
    tell(log, log_events.LOGIN_REFUSED, id="1", user=b"joe", client="192.0.2.1")
    assert '"event": "login-refused"' in json.getvalue()
    assert '"client": "192.0.2.1"' in json.getvalue()


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.name)
def test_fields_are_known_and_in_their_order(event):
    order = list(FIELDS)
    assert list(event.fields) == sorted(event.fields, key=order.index)
    assert event.level in ("debug", "info", "warn", "error", "critical")
    assert event.meaning.endswith(".")
    assert not {"level", "format", "failure", "event", "line"} & set(event.fields)


def test_every_event_and_field_is_used():
    sources = [
        path.read_text()
        for path in Path(postoffice.__file__).parent.rglob("*.py")
        if path.name != "log_events.py"
    ]
    source = "\n".join(sources)
    assert [name for name in NAMES if f"log_events.{name}" not in source] == []
    assert {one.name for one in NAMES.values()} == set(EVENTS)
    assert set(FIELDS) == {field for event in ALL for field in event.fields}


def calls():
    """Every call that logs an event: where, which event, and which fields it names."""
    for path in Path(postoffice.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "log_events" in text else ():
            if not isinstance(node, ast.Call):
                continue
            named = [arg.attr for arg in node.args if isinstance(arg, ast.Attribute)]
            for name in named:
                if name in NAMES:
                    fields = {word.arg for word in node.keywords if word.arg}
                    yield f"{path.name}:{node.lineno}", NAMES[name], fields


def test_every_call_names_fields_of_its_event():
    found = list(calls())
    assert len(found) > 10
    assert [
        (where, fields - set(event.fields))
        for where, event, fields in found
        if not fields <= set(event.fields)
    ] == []


def test_the_ground_floor_does_not_know_twisted():
    assert "import twisted" not in inspect.getsource(log_events)
