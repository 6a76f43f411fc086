"""The `postoffice` command in this process, and a post office that it has made."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from postoffice.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command; with ``status``, what it must exit with."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0, text: str | bytes | None = None):
        result = CliRunner().invoke(main, words, input=text, prog_name="postoffice")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def office(run, tmp_path):
    """A post office that init has made, in the folder that commands are run in."""
    run("init", ".", "--hostname", "mail.example.net", "--domain", "example.net")
    return tmp_path


@pytest.fixture
def ask(run):
    """What a command answers, as an object."""

    def ask(*words: str, **more):
        return json.loads(run(*words, "--json", **more).stdout)

    return ask
