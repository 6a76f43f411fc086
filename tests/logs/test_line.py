"""Lines of the log are read back as they were meant, in both formats and out of the journal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher, textFileLogObserver

from postoffice.daemon.log_output import LogOutput
from postoffice.logs.line import LONGEST, addresses, parse
from postoffice.logs.sentences import sentence
from postoffice.model.log_event import tell
from postoffice.model.log_events import EVENTS, MESSAGE_TAKEN

ALL = sorted(EVENTS.values(), key=lambda event: event.name)
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=30)


def written(form: str, event, values) -> bytes:
    """The line that the daemon writes."""
    file = io.StringIO()
    publisher = LogPublisher(textFileLogObserver(file))
    LogOutput(form, "debug").take_over(publisher)
    tell(Logger("postoffice", observer=publisher), event, **values)
    return file.getvalue().encode()


def journaled(line: bytes, *, octets: bool = False) -> bytes:
    """As ``journalctl -o json`` shows it."""
    message = list(line.rstrip(b"\n")) if octets else line.decode().rstrip("\n")
    return json.dumps({"__REALTIME_TIMESTAMP": "1", "MESSAGE": message}).encode()


@pytest.mark.parametrize("form", ["text", "json"])
@given(st.data())
def test_what_was_logged_is_read_again(form, data):
    event = data.draw(st.sampled_from(ALL))
    values = {field: data.draw(TEXT | st.integers(0)) for field in event.fields}
    wanted = {field: str(value) for field, value in values.items() if value != ""}
    if len(event.line(values)) > 400:  # such a line may be cut
        return
    line = written(form, event, values)
    for one in (line, journaled(line), journaled(line, octets=True)):
        found = parse(one)
        assert (found.event, found.level) == (event.name, event.level)
        assert found.fields == wanted
        assert found.time > 1e9
        assert sentence(found).isprintable()


@given(st.binary() | st.text().map(str.encode))
def test_any_octets_are_a_line_or_none(octets):
    head = b"2026-11-29T10:05:03+0000 [postoffice#info] message-taken "
    for line in (octets, head + octets, b"{" + octets, json.dumps({"MESSAGE": "x"}).encode()):
        found = parse(line)
        if found is not None:
            assert sentence(found).isprintable()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"2026-11-29T10:05:03+0000 [postoffice#info] the post office is open: smtp 127.0.0.1:25",
        b"2026-99-29T10:05:03+0000 [postoffice#info] login id=1",
        b"{}",
        b'{"time": 1, "event": "login"}',
        b'{"time": "2026-11-29T10:05:03.1+00:00", "event": ["login"]}',
        b'{"MESSAGE": null}',
        b'{"MESSAGE": [1000]}',
        b"[" * 100_000,
        b'{"MESSAGE":' * 10_000,
    ],
)
def test_what_is_no_event_is_none(line):
    assert parse(line) is None


def test_a_value_cannot_add_a_field():
    values = {"id": "1.1", "sender": '<"x" id=2.2 to=<a@b>>', "helo": "x size=9"}
    for form in ("text", "json"):
        found = parse(written(form, MESSAGE_TAKEN, values))
        assert found.fields == values


def test_a_long_line_is_read_up_to_its_bound():
    head = b"2026-11-29T10:05:03+0000 [postoffice#info] login id=1 account="
    assert len(parse(head + b"x" * (1 << 20))["account"]) == LONGEST - len(head)


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.name)
def test_every_event_has_a_sentence(event):
    values = {field: f"<{field}\x1b[2J\u202e>" for field in event.fields}
    told = sentence(parse(written("json", event, values)))
    assert told.isprintable()
    assert "\u202e" not in told
    assert told.endswith(".")
    assert "  " not in told


def test_addresses_of_a_field():
    assert addresses('<a@b.example>,<"x, <y>"@c.example>') == ["a@b.example", '"x, <y>"@c.example']
    assert addresses("a@b.example,c@d.example e@f.example") == [
        "a@b.example", "c@d.example", "e@f.example",
    ]  # fmt: skip
    assert addresses("<>") == addresses("") == []
    assert addresses("<" * 100_000) == []
