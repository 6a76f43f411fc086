"""SMTP replies on the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model import reply
from postoffice.model.reply import Reply

ALL = [value for value in vars(reply).values() if isinstance(value, Reply)]


@pytest.mark.parametrize("said", ALL, ids=str)
def test_the_status_agrees_with_the_code(said):
    if said.status:
        assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", said.status)
        assert said.status[0] == str(said.code)[0]
    assert len(said.wire) <= 512  # RFC 5321 §4.5.3.1.5


def test_a_reply_of_several_lines():
    assert Reply(214, "2.0.0", "one\ntwo").wire == b"214-2.0.0 one\r\n214 2.0.0 two\r\n"


@given(st.text())
def test_no_text_breaks_the_line(text):
    wire = Reply(550, "5.0.0", text.replace("\n", " ")).wire
    assert wire.count(b"\r") == wire.count(b"\n") == 1
    assert wire.endswith(b"\r\n")
    assert wire.isascii()


def test_yes_and_never():
    assert reply.OK.positive
    assert reply.GO_AHEAD.positive
    assert not reply.TRY_LATER.positive
    assert not reply.TRY_LATER.permanent
    assert reply.NO_RELAY.permanent
