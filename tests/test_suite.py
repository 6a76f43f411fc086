"""The tests leave a post office alone that lives on the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from postoffice.config import loader
from postoffice.config.loader import OTHER_PLACES

TESTS = Path(__file__).parent
#: Those that look for a configuration, here and in processes of their own.
LOOKING = (
    "cli/test_cli.py::test_config_and_json_stand_before_or_behind",
    "trip/test_first_light.py::test_the_command_does_not_invent_a_post_office",
)
LIVING = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: {state}
user: nobody
"""


@pytest.mark.parametrize("place", ["the folder", "the machine"])
def test_the_suite_leaves_a_living_post_office_alone(tmp_path, place):
    folder, state = tmp_path / "checkout", tmp_path / "living"
    folder.mkdir()
    living = (folder if place == "the folder" else tmp_path) / "postoffice.yaml"
    living.write_text(LIVING.format(state=state))
    words = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    words += [str(TESTS / test) for test in LOOKING]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, OTHER_PLACES: str(living)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert not state.exists()
    assert "configuration in" not in done.stdout  # as skipped tests said


def test_no_place_of_the_machine_is_looked_at():
    assert loader.places() == ("postoffice.yaml",)
    assert loader.find(None) is None


def test_the_environment_names_the_places(monkeypatch, tmp_path):
    monkeypatch.setenv(OTHER_PLACES, f"nowhere.yaml::{tmp_path / 'here.yaml'}")
    assert loader.find(None) is None
    (tmp_path / "here.yaml").touch()
    assert loader.find(None) == str(tmp_path / "here.yaml")
    for nothing in ("", ":"):
        monkeypatch.setenv(OTHER_PLACES, nothing)
        assert loader.places() == loader.PLACES
