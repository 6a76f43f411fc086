"""docs/moving.rst is followed, line by line: users of a Dovecot move here, and back."""

from __future__ import annotations

import os
import poplib
import re
import shlex
import subprocess

import pytest

from tests.old_servers import Dovecot, running
from tests.trip.conftest import Office
from tests.trip.test_manual import SHELL
from tests.trip.test_moving import OLD, PASSWORD, collect, fill, post

__all__ = ["collect"]  # the fixture

ANN, BOB = "ann@example.net", "bob@example.net"
#: What would change the machine, or ask the network.
STAND_INS = ("dig", "systemctl", "chown")


class OneFile(Dovecot):
    """Its accounts are in one file, so that doveadm lists them."""

    users = "passwd"


@pytest.fixture
def dovecot():
    with running(OneFile) as server:
        for name in (ANN, BOB):
            server.add(name, PASSWORD)
            fill(server, name)
        yield server


@pytest.fixture
def moved(written, start, command):
    written()
    assert command("domain", "add", "example.net").returncode == 0
    assert command("account", "add", "postmaster@example.net", "--generate").returncode == 0
    return start().open()


@pytest.fixture
def types(dovecot, command, tmp_path):
    """Types a line of the page, with the paths and servers of this test."""
    for folder in ("bin", "srv/mail", "root"):
        (tmp_path / folder).mkdir(parents=True)
    scripts = dict.fromkeys(STAND_INS, "")
    scripts |= {
        name: f'exec /usr/bin/{name} -c {dovecot.folder}/conf "$@"'
        for name in ("doveadm", "doveconf")
    }
    for name, text in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    (tmp_path / "srv/mail/accounts.csv").write_text(
        f"address,password\n{ANN},{PASSWORD}\n{BOB},{PASSWORD}\n"
    )
    (tmp_path / "root/ann").write_text(PASSWORD)

    def types(line: str) -> str:
        line = re.sub(r"(?<![\w/])/(srv|root)/", rf"{tmp_path}/\1/", line)
        line = line.replace("pop3s://old.example.net", f"pop3://localhost:{dovecot.port}")
        if line.startswith("postoffice "):
            done = command(*shlex.split(line)[1:])
        else:
            done = subprocess.run(
                ["bash", "-euc", line], env=environment, capture_output=True, text=True, timeout=60
            )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    return types


def typed() -> list[str]:
    """All lines of the page, in their order."""
    found: list[str] = []
    for block in SHELL:
        if block.page == "moving.rst":
            text = re.sub(r"\\\n\s*", "", block.text)
            found += [re.sub(r"^[$#] ", "", line) for line in text.split("\n") if line.strip()]
    return found


def take_all(name: str, port: int) -> list[bytes]:
    """The subjects of what lies there; it is deleted."""
    client = poplib.POP3("localhost", port, timeout=60)
    client.user(name)
    client.pass_(PASSWORD)
    found = []
    for number in range(1, client.stat()[0] + 1):
        header = client.top(number, 0)[1]
        found += [line[9:] for line in header if line.startswith(b"Subject: ")]
        client.dele(number)
    client.quit()
    return found


def test_the_days_of_a_change(collect, dovecot, moved: Office, types, tmp_path):
    """Ann leaves her mail on the server, bob does not."""
    day, after, back = "systemctl stop", "import --from-csv", "export --all"
    assert collect("mpop", ANN, dovecot.port) == OLD
    lines = iter(typed())
    for line in lines:
        if line.startswith(day):
            break
        types(line)
    assert len(take_all(BOB, dovecot.port)) == 4
    dovecot.put(ANN, "new/1800000000.M1P1.host", "Subject: late\n\nline\n")
    post(moved, BOB, "first")
    types(line)
    dovecot.stop()
    types(next(lines))
    assert collect("mpop", ANN, moved.pop3) == ["late"]
    assert take_all(BOB, moved.pop3) == [b"first"]
    dovecot.put(BOB, "new/1900000000.M1P1.host", "Subject: later\n\nline\n")
    line = next(lines)
    assert after in line
    types(line)
    assert take_all(BOB, moved.pop3) == [b"later"]
    post(moved, ANN, "here")
    assert collect("mpop", ANN, moved.pop3) == ["here"]
    for line in lines:
        types(line)
        if back in line:
            dovecot.take_back(ANN, tmp_path / "srv/out/example.net/ann")
    dovecot.start()
    assert collect("mpop", ANN, dovecot.port) == []
