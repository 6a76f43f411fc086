"""Long commands say how far they have come, to people only."""

from __future__ import annotations

import io
import sys
from contextlib import suppress

import pytest

from postoffice.cli.progress import PATIENCE, REDRAW, Progress


class Screen(io.StringIO):
    """Standard error, on a terminal or elsewhere."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


class Hands:
    """A clock that only tests move."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def hands():
    return Hands()


def screen(monkeypatch, terminal=True):
    monkeypatch.setattr(sys, "stderr", Screen(terminal))
    return sys.stderr


@pytest.mark.parametrize("length", [None, 0, 1, 10])
@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_quick_shows_nothing(monkeypatch, hands, length, terminal):
    shown = screen(monkeypatch, terminal)
    with Progress("reading", length, hands) as progress:
        for _ in range(10):
            progress.step()
        hands.now += PATIENCE
        progress.step()
    assert shown.getvalue() == ""


def test_scripts_see_nothing_however_long_it_takes(monkeypatch, hands):
    shown = screen(monkeypatch, False)
    with Progress("reading", 10, hands) as progress:
        for _ in range(10):
            hands.now += 100
            progress.step()
    assert shown.getvalue() == ""


def test_on_a_terminal_a_bar_appears_and_comes_to_its_end(monkeypatch, hands):
    shown = screen(monkeypatch)
    with Progress("reading", 10, hands) as progress:
        for _ in range(10):
            hands.now += PATIENCE
            progress.step()
    text = shown.getvalue()
    assert "reading" in text
    assert "20%" in text
    assert text.count("\n") == 1
    assert "100%" in text.split("\r")[-1]


def test_it_is_not_drawn_for_each_step(monkeypatch, hands):
    shown = screen(monkeypatch)
    with Progress("reading", 100_000, hands) as progress:
        progress.step()
        hands.now += 2 * PATIENCE
        for _ in range(50_000):
            progress.step()
        assert shown.getvalue().count("\r") == 1
        hands.now += REDRAW
        progress.step()
        assert shown.getvalue().count("\r") == 2
    assert "50%" in shown.getvalue()


def test_where_nobody_knows_how_much_it_is_it_counts(monkeypatch, hands):
    shown = screen(monkeypatch)
    with Progress("reading", None, hands) as progress:
        hands.now += 2 * PATIENCE
        progress.step(7)
        hands.now += PATIENCE
        progress.step(5)
    assert "7" in shown.getvalue()
    assert "12" in shown.getvalue().split("\r")[-1]


def test_what_fails_leaves_the_line_whole(monkeypatch, hands):
    shown = screen(monkeypatch)
    with suppress(KeyError), Progress("reading", 10, hands) as progress:
        hands.now += 2 * PATIENCE
        progress.step()
        raise KeyError
    assert shown.getvalue().endswith("\n")
    assert "100%" not in shown.getvalue()


def test_how_much_it_is_may_be_learned_on_the_way(monkeypatch, hands):
    shown = screen(monkeypatch)
    with Progress("reading", None, hands) as progress:
        hands.now += 2 * PATIENCE
        progress.at(10, None)
        hands.now += PATIENCE
        progress.at(20, 40)
    assert "20/40" in shown.getvalue().split("\r")[-1]
