"""What ``postoffice --help`` says: whole sentences, on a terminal of 80 columns."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from postoffice.cli import main


def walk(command, path=()):
    """Every command, by the words that lead to it."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from walk(inner, (*path, name))


EVERY = list(walk(main))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_help_fits_and_nothing_in_it_is_cut(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(main, [*words, "--help"], prog_name="postoffice").output
    for metavar in ("[ARGS]...", "[TARGET]...", "[ID]..."):
        said = said.replace(metavar, "")
    assert "..." not in said
    assert "…" not in said
    assert max(map(len, said.split("\n"))) <= 80


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_each_summary_is_a_sentence(words):
    command = main
    for word in words:
        command = command.commands[word]
    summary = command.get_short_help_str(1000)
    assert summary.endswith(".")
    assert len(summary) > 10
