"""How the `postoffice` command shows tables."""

from __future__ import annotations

import os

import pytest

from postoffice.cli import output
from postoffice.cli.output import table

ROWS = [("NAME", "STATE", "USED"), ("ann@example.net", "enabled", "12 MiB"), ("joe", "held", "")]
IN_FULL = [
    "NAME             STATE    USED",
    "ann@example.net  enabled  12 MiB",
    "joe              held",
]


@pytest.fixture
def terminal(monkeypatch):
    def terminal(columns: int) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        size = os.terminal_size((columns, 24))
        monkeypatch.setattr(output.shutil, "get_terminal_size", lambda: size)

    return terminal


def test_a_file_gets_a_line_a_row_however_long():
    assert table(ROWS) == IN_FULL


def test_a_terminal_with_room_gets_a_line_a_row(terminal):
    terminal(32)
    assert table(ROWS) == IN_FULL


def test_on_a_narrow_terminal_the_last_columns_are_on_a_line_of_their_own(terminal):
    terminal(31)
    assert table(ROWS) == [
        "NAME             STATE",
        "    USED",
        "ann@example.net  enabled",
        "    12 MiB",
        "joe              held",
    ]


def test_the_first_column_is_shown_on_any_terminal(terminal):
    terminal(5)
    assert table(ROWS)[:2] == ["NAME", "    STATE    USED"]


def test_cells_do_not_control_the_terminal():
    assert table([("\x1b[2J", "a\nb")]) == [r"'\x1b[2J'  'a\nb'"]
