"""A post office of root's, for a user of its own: from init to a clean stop."""

from __future__ import annotations

import os
import pwd
import re
import signal
import smtplib
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
INIT = ("--hostname", "mail.example.net", "--domain", "example.net", "--tls-self-signed")
SERVICES = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s")
LISTEN = [word for one in SERVICES for word in ("--listen", f"{one}=tcp:0:interface=127.0.0.1")]


@pytest.fixture
def start_installed(start):
    """Starts the installed ``twistd`` in a new process, as an administrator starts it."""

    def start_installed(**more):
        return start(popen=subprocess.Popen, **more)

    return start_installed


@pytest.fixture
def machine():
    """A folder that other users reach, as / is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def made(machine, command):
    """A post office that init has made for nobody."""
    before = os.umask(0o077)
    try:
        done = command(
            *("init", str(machine / "etc" / "postoffice"), "--user", "nobody"),
            *("--state", str(machine / "lib" / "postoffice"), *INIT, *LISTEN),
        )
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    return machine


def mode(path: Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_uid, status.st_gid, oct(status.st_mode & 0o777)


@ROOT_ONLY
def test_what_init_makes_has_the_right_owners(made):
    nobody = pwd.getpwnam("nobody")
    his = nobody.pw_uid, nobody.pw_gid
    etc = made / "etc" / "postoffice"
    assert mode(etc) == (0, nobody.pw_gid, "0o750")
    assert mode(etc / "postoffice.yaml") == (0, nobody.pw_gid, "0o640")
    assert mode(etc / "tls") == (*his, "0o700")
    assert mode(etc / "tls" / "key.pem") == (*his, "0o600")
    assert mode(made / "lib" / "postoffice") == (*his, "0o700")
    for path in (made / "lib" / "postoffice").rglob("*"):
        assert mode(path)[:2] == his, path


@ROOT_ONLY
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_runs_as_its_user_and_leaves_no_pid_file(made, start_installed, command, how):
    nobody = pwd.getpwnam("nobody")
    etc = made / "etc" / "postoffice"
    there = f"--config={etc}/postoffice.yaml"
    assert command("account", "add", "ann@example.net", "--generate", there).returncode == 0
    assert command("check-config", there).returncode == 0
    office = start_installed(cwd=etc).open()
    assert (etc / "twistd.pid").read_text() == str(office.pid)
    status = Path(f"/proc/{office.pid}/status").read_text()
    assert re.search(rf"^Uid:\t{nobody.pw_uid}\t", status, re.MULTILINE)
    with smtplib.SMTP("127.0.0.1", office.smtp):
        pass  # the reactor runs
    office.stop(how)
    assert not (etc / "twistd.pid").exists()
    assert "No permission to delete pid file" not in office.said


@ROOT_ONLY
def test_a_start_that_fails_leaves_no_pid_file(made, start_installed):
    etc = made / "etc" / "postoffice"
    (made / "lib" / "postoffice" / "accounts.db").write_bytes(b"no database " * 1000)
    office = start_installed(cwd=etc)
    assert office.end() == 1
    assert "accounts.db cannot be used" in office.said
    assert not (etc / "twistd.pid").exists()


@pytest.mark.parametrize("left", ["1", "own", "", "\n"])
def test_a_file_of_another_program_stops_no_start(start, written, tmp_path, left):
    written()
    (tmp_path / "twistd.pid").write_text(left.replace("own", str(os.getpid())))
    office = start().open()
    assert (tmp_path / "twistd.pid").read_text() == str(office.pid)
    with smtplib.SMTP("127.0.0.1", office.smtp):
        pass  # the reactor runs
    office.stop()
    assert not (tmp_path / "twistd.pid").exists()


def test_a_post_office_that_runs_is_not_started_again(start_installed, start, written, tmp_path):
    written()
    office = start_installed().open()
    second = start()
    assert second.end() == 1
    assert f"Another twistd server is running, PID {office.pid}" in second.said
    assert (tmp_path / "twistd.pid").read_text() == str(office.pid)


def test_what_is_no_number_is_left_to_twistd(start, written, tmp_path):
    written()
    (tmp_path / "twistd.pid").write_text("precious")
    second = start()
    assert second.end() == 1
    assert (tmp_path / "twistd.pid").read_text() == "precious"
