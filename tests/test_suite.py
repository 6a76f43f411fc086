"""The tests leave a post office alone that lives on the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_the_suite_leaves_living_post_offices_alone(tmp_path):
    """One in the folder that it is started in, and one of the machine."""
    folder, states = tmp_path / "checkout", []
    folder.mkdir()
    for place in (folder, tmp_path):
        states.append(tmp_path / f"living-{len(states)}")
        (place / "postoffice.yaml").write_text(LIVING.format(state=states[-1]))
    words = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    # not where pytest would remove the folders of earlier runs, which are many
    words += ["--basetemp", str(tmp_path / "nested")]
    words += [str(TESTS / test) for test in LOOKING]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, OTHER_PLACES: str(tmp_path / "postoffice.yaml")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert not any(state.exists() for state in states)
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
