"""
The container's file and the example of compose, as far as that can be told without a registry.

Nobody builds the container here: its base comes from a registry.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from postoffice.cli import main, systemd_unit
from postoffice.cli.installation import FOLDER, STATE, public_places

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
FILE = PACKAGING / "Containerfile"
COMPOSE = yaml.safe_load((PACKAGING / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, in their order."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(" ", 1)) for line in text.split("\n") if line]


def of(name: str) -> list[str]:
    return [words for instruction, words in instructions() if instruction == name]


def copied() -> list[str]:
    """What is copied from the checkout."""
    return [path for words in of("COPY") if "--from" not in words for path in words.split()[:-1]]


def test_only_instructions_that_there_are():
    known = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in instructions()} == known


def test_what_is_copied_is_enough_for_a_whole_wheel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        path, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    words = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(words, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT) for path in (ROOT / "postoffice").rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix not in (".pyc", ".pyo")]
    assert {path.suffix for path in files} > {".py", ".po", ".css"}
    assert {str(path) for path in files} - names == set()
    plugins = [path.relative_to(ROOT) for path in (ROOT / "twisted" / "plugins").glob("*.py")]
    assert plugins
    assert {str(plugin) for plugin in plugins} <= names


def test_the_extras_are_ours():
    [extras] = re.findall(r"'\.\[(.*?)\]'", " ".join(of("RUN")))
    settings = (ROOT / "setup.cfg").read_text()
    assert all(f"\n{extra} =\n" in settings for extra in extras.split(","))


@pytest.mark.parametrize("words", of("RUN"))
def test_a_shell_understands_what_is_run(words):
    assert subprocess.run(["sh", "-n", "-c", words], capture_output=True).returncode == 0


def test_it_starts_what_the_unit_starts():
    [command] = of("CMD")
    unit = systemd_unit.text("/opt/postoffice")
    [start] = re.findall(r"^ExecStart=/opt/postoffice/bin/(.*)$", unit, re.MULTILINE)
    assert json.loads(command) == shlex.split(start)
    assert "ENV PATH=/opt/postoffice/bin:" in FILE.read_text()


def test_its_health_is_asked_with_a_command_of_ours():
    [asked] = re.findall(r"CMD (\[.*\])$", of("HEALTHCHECK")[0])
    shell, option, line = json.loads(asked)
    assert (shell, option) == ("sh", "-c")
    name, *words = shlex.split(line.partition(" || ")[0])
    assert name == "postoffice"
    found = main.get_command(None, words[0])
    found.make_context(words[0], words[1:])


def test_ports_and_volumes_are_those_of_quickstart():
    ports = sorted(int(place.rpartition(":")[2]) for place in public_places().values())
    assert sorted(map(int, of("EXPOSE")[0].split())) == ports
    service = COMPOSE["services"]["postoffice"]
    assert sorted(service["ports"]) == sorted(f"{port}:{port}" for port in ports)
    volumes = [one.split(":") for one in service["volumes"]]
    assert [where for _, where in volumes] == json.loads(of("VOLUME")[0]) == [FOLDER, STATE]
    assert [name for name, _ in volumes] == list(COMPOSE["volumes"])


def test_compose_builds_this_file():
    build = COMPOSE["services"]["postoffice"]["build"]
    assert (PACKAGING / build["context"] / build["dockerfile"]).resolve() == FILE
