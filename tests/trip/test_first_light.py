"""A post office without any configuration: what it prints works."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import termios
import urllib.request
from pathlib import Path

import pytest

CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
PASSWORD = re.compile(r"password: (\S+)")
NEVER = 60


@pytest.fixture
def free_ports():
    """Its ports are the documented ones: they must be free, and nobody else's meanwhile."""
    with open(f"{tempfile.gettempdir()}/postoffice-tests-{os.geteuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for port in (2525, 2587, 2424, 2110, 8025):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    pytest.skip(f"another program holds port {port}")
        yield


def commands(text: str) -> list[str]:
    """The command lines in what is printed: indented, until an empty line."""
    blocks = re.findall(r"(?:^ {4}\S.*\n(?: {8}.*\n)*)", text, re.MULTILINE)
    return [block for block in blocks if "curl" in block]


def shell(line: str, cwd: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", line], cwd=cwd, capture_output=True, text=True, timeout=NEVER
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@CURL
def test_the_printed_lines_send_and_collect_a_message(start, free_ports, tmp_path, command):
    office = start()
    path = tmp_path / "postoffice-data" / "first-light.txt"
    assert office.wait_for("how to send a first message is explained in (.*)")[1] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    send, collect = commands(path.read_text())
    shell(send, tmp_path)
    message = shell(collect, tmp_path)
    assert "Subject: hello" in message
    assert "How are you?" in message
    assert PASSWORD.search(path.read_text())[1] not in office.said
    link = re.search(r"http://localhost:8025/link\?token=\S+", path.read_text())[0]
    with urllib.request.urlopen(link) as page:
        assert "logs you in as <strong>demo@localhost</strong>" in page.read().decode()
    assert '"messages": 1' in command("account", "show", "demo@localhost", "--json").stdout
    office.check()

    again = start()
    again.wait_for("a new password: postoffice account passwd demo@localhost")
    changed = command("account", "passwd", "demo@localhost", "--generate")
    assert changed.returncode == 0
    old, new = (PASSWORD.search(text)[1] for text in (path.read_text(), changed.stdout))
    assert "How are you?" in shell(collect.replace(old, new), tmp_path)
    again.check()


def test_on_a_terminal_it_is_printed_there_and_nowhere_else(start, free_ports, tmp_path):
    ours, theirs = os.openpty()
    # Not the standard output: the terminal of the session, which twistd leaves alone.
    office = start(preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0))
    office.open()
    shown = b""
    while b"postoffice init --help" not in shown:
        shown += os.read(ours, 65536)
    text = shown.decode().replace("\r\n", "\n")
    assert len(commands(text)) == 2
    assert not (tmp_path / "postoffice-data" / "first-light.txt").exists()
    assert PASSWORD.search(text)[1] not in office.said
    office.check()
    os.close(theirs)
    os.close(ours)


def test_a_port_in_use_is_told_and_leaves_nothing(start, free_ports, tmp_path):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 2110))
        other.listen()
        office = start()
        assert office.end() == 1
    assert "pop3 cannot listen on tcp:2110:interface=127.0.0.1" in "".join(office.err)
    assert not (tmp_path / "postoffice-data").exists()


def test_the_command_does_not_invent_a_post_office(command, tmp_path):
    done = command("account", "list")
    assert done.returncode == 2
    assert "there is no configuration: not postoffice.yaml" in done.stderr
    assert list(tmp_path.iterdir()) == []
