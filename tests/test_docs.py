"""The manual names what is there: modules, functions, tests, files."""

from __future__ import annotations

import csv
import importlib
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
from zope.interface.interface import InterfaceClass

from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish
from tests import processes

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DOCS = ROOT / "docs"
LITERAL = re.compile(r"``([^`]+)``")


def rows(page: Path) -> list[list[str]]:
    """The rows of a page's csv-tables, without their heads."""
    lines = [line[3:] for line in page.read_text().split("\n") if line.startswith("   ")]
    cells = csv.reader((line for line in lines if line.count(" | ") == 3), delimiter="|")
    return [row for row in cells if row[0].strip() != "Section"]


ROWS = rows(DOCS / "rfc.rst")
PLACES = sorted({name for row in ROWS for name in LITERAL.findall(row[2])})
NAMED_TESTS = sorted({name for row in ROWS for name in LITERAL.findall(row[3])})


#: Packages that some modules need, and that need not be installed.
OPTIONAL = ("ldap", "psycopg")


def find(name: str) -> object:
    """What a dotted name within the package stands for.  Raises ImportError or AttributeError."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(["postoffice", *parts[:length]])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name in OPTIONAL:
                pytest.skip(f"{error.name} is not installed")
            if not module.startswith(str(error.name)):
                raise
            continue
        return reduce(member, parts[length:], found)
    raise ImportError(f"no module of postoffice: {name}")


def member(owner: object, name: str) -> object:
    """An attribute; of an interface, a method."""
    return owner[name] if isinstance(owner, InterfaceClass) else getattr(owner, name)


def test_the_tables_were_found():
    assert len(ROWS) > 60
    assert [row for row in ROWS if not all(cell.strip() for cell in row)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_every_section_has_its_code_and_its_test(row):
    assert LITERAL.findall(row[2])
    assert LITERAL.findall(row[3])


@pytest.mark.parametrize("name", PLACES)
def test_code_that_the_manual_names_is_there(name):
    find(name)


def test_tests_that_the_manual_names_are_there():
    sources = [path.read_text() for path in TESTS.rglob("test_*.py")]
    functions = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    functions |= set(re.findall(r"^    def (test_\w+)", "\n".join(sources), re.MULTILINE))
    dialogues = {str(path.relative_to(TESTS)) for path in TESTS.rglob("*.txt")}
    assert [name for name in NAMED_TESTS if name not in functions | dialogues] == []


@pytest.mark.parametrize("page", ["house.rst", "trip.rst", "plugins.rst", "embedding.rst"])
def test_what_a_page_tells_of_is_there(page):
    """Names of several parts whose first is a module or folder of the house."""
    plugins = {path.stem for path in (ROOT / "postoffice").iterdir() if path.stem[0] not in "_."}
    text = (DOCS / page).read_text()
    names = {n for n in LITERAL.findall(text) if re.fullmatch(r"\w+(?:\.\w+)+", n)}
    ours = {name.removeprefix("postoffice.") for name in names}
    for name in sorted(n for n in ours if n.split(".")[0] in plugins and not n.endswith(".py")):
        find(name)


def test_every_page_is_in_a_table_of_contents():
    listed = set(re.findall(r"^   ([\w/-]+)$", (DOCS / "index.rst").read_text(), re.MULTILINE))
    pages = {path.stem for path in DOCS.glob("*.rst")} - {"index"}
    assert pages | {"decisions/index"} == listed


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("0*.rst")), ids=lambda p: p.stem)
def test_a_decision_says_what_why_and_what_it_costs(page):
    text = page.read_text()
    assert text.startswith(page.name[:4] + ": ")
    for part in ("What.", "Why.", "What it costs."):
        assert f"**{part}**" in text


#: Words of an English that needs a second reading.
HARD = re.compile(r"\b(?:Whoever|[Ss]hall|[Hh]e|[Hh]is|[Hh]im|shown out|told to come later)\b")
PEOPLE = [ROOT / name for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.md")]


@pytest.mark.parametrize("page", [*PEOPLE, *sorted(DOCS.rglob("*.rst"))], ids=lambda p: p.stem)
def test_a_page_is_in_plain_english(page):
    prose = LITERAL.sub("", page.read_text())
    assert [line for line in prose.split("\n") if HARD.search(line)] == []


def test_the_readme_gives_the_two_commands():
    """As they are; .ci/run runs the second one as it stands there."""
    readme = (ROOT / "README.rst").read_text()
    venv = "\n    python3 -m venv .venv && .venv/bin/pip install"
    assert f"{venv} . && .venv/bin/twistd -n postoffice\n" in readme
    assert f"{venv} '.[test]' && .venv/bin/python -m pytest\n" in readme


EXAMPLES = DOCS / "examples"


def run(*command: str, cwd: Path) -> str:
    """What a program says."""
    done = processes.run([sys.executable, *command], cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_a_test_passes(tmp_path):
    example = EXAMPLES / "test_with_a_post_office.py"
    assert "PASSED (successes=1)" in run("-m", "twisted.trial", str(example), cwd=tmp_path)


OFFICE = """
hostname: mail.example.net
postmaster: joe@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
  submission: []
  lmtp: []
"""


@pytest.fixture
def office_of_a_tac(tmp_path):
    """The example .tac, run by twistd; the ports of SMTP and POP3."""
    (tmp_path / "postoffice.yaml").write_text(OFFICE)
    directory = SQLiteDirectory(str(tmp_path / "state" / "accounts.db"), ImmediateExecutor())
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    finish(directory.add("joe@example.net", hash_password(b"secret")))
    finish(directory.stop())
    twistd = "from twisted.scripts.twistd import run; run()"
    daemon = processes.Popen(
        [sys.executable, "-c", twistd, "-noy", str(EXAMPLES / "office.tac")],
        cwd=tmp_path,
        env=processes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with daemon:
        said = []
        for line in daemon.stdout:
            said.append(line)
            if found := re.search(r"smtp 127\.0\.0\.1:(\d+), pop3 127\.0\.0\.1:(\d+)", line):
                yield found.groups()
                break
        else:
            pytest.fail("".join(said))
        daemon.terminate()
        said += daemon.stdout
    assert "the post office is closed" in "".join(said), "".join(said)


def test_the_examples_of_a_tac_and_of_python_clients_work(office_of_a_tac, tmp_path):
    example = str(EXAMPLES / "post_and_collect.py")
    said = run(example, "joe@example.net", "secret", *office_of_a_tac, cwd=tmp_path)
    assert said.startswith("1 messages")
    assert "How are you?" in said
