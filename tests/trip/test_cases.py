"""Every file under tests/cases, played against the real daemon, with the outcome beside it."""

from __future__ import annotations

import poplib
import re
from pathlib import Path

import pytest
import yaml

CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(path for path in CASES.rglob("*") if path.suffix in (".txt", ".eml"))
PASSWORD = "pw-one-two"
PEOPLE = ("u1", "u2", "postmaster")
CONFIGURATION = """\
hostname: mail.example.test
postmaster: postmaster@example.test
state: state
listeners:
  smtp:
    - "tcp:0:interface=127.0.0.1"
    - {endpoint: "tcp:0:interface=127.0.0.1", xclient_from: [127.0.0.1]}
  submission: ["tcp:0:interface=127.0.0.1"]
  lmtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
limits: {tarpit: 0}
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory, opened):
    """The ports of an office for the cases, by the names that outcomes have for its services."""
    for office in opened(tmp_path_factory.mktemp("cases"), CONFIGURATION):
        for name in PEOPLE:
            office.account(f"{name}@example.test", PASSWORD)
        smtp, relay = office.places["smtp"]
        yield {**office.ports, "smtp": smtp, "relay": relay}


def outcomes(path: Path) -> list[dict]:
    return yaml.safe_load(path.with_suffix(".yaml").read_text("utf-8"))


def octets(text: str) -> bytes:
    if "\\" in text:
        return text.encode().decode("unicode_escape").encode("latin-1")
    return text.encode()


def last_line(reply: bytes) -> str:
    lines = reply.decode("utf-8", "backslashreplace").splitlines()
    return lines[-1] if lines else "<closed>"


def rest(client) -> list[str]:
    said = client.rest()
    return [*said.decode("utf-8", "backslashreplace").splitlines(), "<closed>"]


def play(path: Path, client) -> list[str]:
    """What a client hears that says a dialogue."""
    heard: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        what, said = line[:2], octets(line[3:])
        if line == "!rest":
            heard += rest(client)
        elif line == "!rst":
            client.reset()
        elif what in ("C:", "D:", "B:"):
            client.say(said if what == "B:" else said + b"\r\n")
        elif what not in ("S:", "R:"):
            assert not line or line.startswith("#"), line
            continue
        if what in ("C:", "S:", "R:"):
            heard.append(last_line(client.reply()))
    return heard


def post(path: Path, client) -> list[str]:
    """What a client hears that posts a message, LF or CRLF at the ends of its lines."""
    text = re.sub(rb"(?m)^\.", b"..", b"\r\n".join(path.read_bytes().splitlines()))
    heard = [last_line(client.reply())]
    lines = (b"EHLO box", b"MAIL FROM:<a@example.org>", b"RCPT TO:<u1@example.test>", b"DATA")
    heard += [last_line(client.ask(line)) for line in lines]
    return [*heard, last_line(client.ask(text + b"\r\n.")), last_line(client.ask(b"QUIT"))]


@pytest.fixture(autouse=True)
def long_lines(monkeypatch):
    monkeypatch.setattr(poplib, "_MAXLINE", 1 << 20)


def collect(port: int, *, utf8: bool) -> dict[str, list[str]]:
    """What lies in the maildrops, as it is written in an outcome."""
    found: dict[str, list[str]] = {}
    for name in PEOPLE:
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        if utf8:
            client.utf8()
        client.user(f"{name}@example.test")
        client.pass_(PASSWORD)
        for number, size in (map(int, line.split()) for line in client.list()[1]):
            text = b"".join(line + b"\r\n" for line in client.retr(number)[1])
            assert len(text) == size
            shown = text.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
            found.setdefault(name, []).append(shown)
            if utf8:
                client.dele(number)
        client.quit()
    return found


def fits(said: str, pattern: str) -> bool:
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), said) is not None


def compare(said: list[str], expected: list[str]) -> None:
    for number, (line, pattern) in enumerate(zip(said, expected, strict=False), 1):
        assert fits(line, pattern), f"{number}: {line!r} is not {pattern!r}"
    assert len(said) == len(expected), said


def compare_maildrops(found: dict[str, list[str]], expected: dict[str, list[str]]) -> None:
    assert found.keys() == expected.keys()
    for name, texts in expected.items():
        compare(found[name], texts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_case_ends_as_it_should(path, tried, raw):
    for outcome in outcomes(path):
        with raw(tried[outcome["service"]]) as client:
            said = (post if path.suffix == ".eml" else play)(path, client)
        served = collect(tried["pop3"], utf8=False)
        kept = collect(tried["pop3"], utf8=True)
        compare(said, outcome["replies"])
        compare_maildrops(kept, outcome["kept"])
        compare_maildrops(served, outcome.get("served", outcome["kept"]))


def test_every_case_has_its_outcome():
    names = {path.with_suffix(".yaml") for path in FILES}
    assert len(FILES) == len(names), "two cases of one name"
    files = {path for path in CASES.rglob("*") if path.is_file()}
    assert files - set(FILES) - {CASES / "README.rst"} == names
    for path in FILES:
        assert outcomes(path), path
