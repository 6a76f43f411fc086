"""The real daemon starts, or says in plain words why not."""

from __future__ import annotations

import os
import pwd
import re
import resource
import shutil
import signal
import smtplib
import socket
import tempfile
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.trip.conftest import TWISTD

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def refuses(office, *words: str, status: int = 1) -> None:
    """It ends, and says these words on the standard error, without a traceback."""
    assert office.end() == status
    error = "".join(office.err)
    assert error.startswith("The post office cannot open:\n"), office.said
    for word in words:
        assert re.search(word, error), error
    assert "Traceback" not in office.said
    assert len(error) < 1000
    assert not (office.folder / "twistd.pid").exists()


def test_it_opens_and_closes(start, written, tmp_path):
    written()
    office = start().open()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        assert client.noop()[0] == 250
        office.process.send_signal(signal.SIGTERM)
        assert client.getreply()[0] == 421  # whoever is inside is told
    assert office.end() in (0, -signal.SIGTERM)
    assert "the post office is closed" in office.said


def test_it_says_where_it_listens_on_a_unix_socket(start, written, tmp_path):
    written("", ('smtp: ["tcp:0:interface=127.0.0.1', f'smtp: ["unix:{tmp_path}/smtp'))
    office = start()
    where = office.wait_for("the post office is open: (.*)")[1]
    assert where.startswith(f"smtp {tmp_path}/smtp, submission 127.0.0.1:")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/smtp")
        assert client.recv(100).startswith(b"220 mail.example.net ")


def test_a_port_in_use(start, written):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        written("", ('pop3: ["tcp:0:', f'pop3: ["tcp:{port}:'))
        refuses(
            start(),
            rf"pop3 cannot listen on tcp:{port}:interface=127\.0\.0\.1",
            r"postoffice\.yaml:8\)",
            "Address already in use",
        )


def test_a_port_in_use_is_said_before_state_is_touched(start, written, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        written("", ('smtp: ["tcp:0:', f'smtp: ["tcp:{other.getsockname()[1]}:'))
        refuses(start(), "Address already in use")
    assert not (tmp_path / "state").exists()


def test_a_daemon_tells_the_terminal_that_started_it(daemonize, written, tmp_path):
    """It has left its terminal by the time it finds out, and its log has no traceback either."""
    written()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "accounts.db").write_bytes(b"no database " * 1000)
    shown = daemonize("postoffice")
    assert shown.returncode == 1
    assert shown.stderr.startswith("The post office cannot open:\nthe accounts ")
    assert "Traceback" not in shown.stderr
    log = (tmp_path / "twistd.log").read_text()
    assert "The post office cannot open" in log
    assert "Traceback" not in log
    assert not (tmp_path / "twistd.pid").exists()


def test_a_daemon_is_open_when_the_terminal_is_free_again(daemonize, written, tmp_path):
    written()
    shown = daemonize("postoffice")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "the post office is open: smtp 127.0.0.1:" in (tmp_path / "twistd.log").read_text()


def test_a_corrupt_database(start, written, tmp_path):
    written()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "accounts.db").write_bytes(b"no database " * 1000)
    refuses(start(), f"{tmp_path}/state/accounts.db cannot be used")


def test_a_wrong_configuration(start, written):
    written("limits: {recipients: 3}\nqouta: 1\n")
    refuses(
        start(),
        r"postoffice\.yaml:9: limits\.recipients: found 3 ",
        r"postoffice\.yaml:10: qouta: unknown key",
    )


def test_a_certificate_that_is_not_there(start, written, tmp_path):
    written("tls: {certificates: [{certificate: mail.pem, key: mail.key}]}\n")
    refuses(start(), rf"{tmp_path}/mail\.pem cannot be read: No such file or directory\n")
    assert not (tmp_path / "state").exists()


def test_a_configuration_that_is_not_there(start):
    refuses(
        start("postoffice", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read: No such"
    )


def test_a_user_that_does_not_exist(start, written):
    written("user: nobody-of-this-name\n")
    refuses(start(), r"postoffice\.yaml:9: user: found 'nobody-of-this-name'")


def test_a_state_that_cannot_be_made(start, written, tmp_path):
    written()
    (tmp_path / "state").write_text("a file")
    refuses(start(), f"state: the folder {tmp_path}/state cannot be made: File exists")


def test_a_store_that_cannot_be_made(start, written, tmp_path):
    written()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "maildrops").write_text("a file")
    refuses(start(), f"the store {tmp_path}/state/maildrops is not a folder")


@pytest.fixture
def public(written, tmp_path):
    """A folder that other users reach, with a configuration; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "state").mkdir()
        written("user: nobody\n")
        shutil.copy(tmp_path / "postoffice.yaml", folder)
        yield folder


@ROOT_ONLY
def test_a_state_that_its_user_may_not_write_to(start, public):
    words = (f"state: nobody may not write to the folder {public}/state", "chown -R nobody")
    refuses(start("--pidfile=", "postoffice", cwd=public), *words)


@ROOT_ONLY
def test_root_becomes_the_user_before_it_touches_state(start, public, command):
    nobody = pwd.getpwnam("nobody")
    os.chown(public / "state", nobody.pw_uid, nobody.pw_gid)
    office = start(cwd=public).open()
    there = f"--config={public}/postoffice.yaml"
    assert command("domain", "add", "example.net", there).returncode == 0
    assert command(there, "account", "add", "joe@example.net", "--generate").returncode == 0
    status = Path(f"/proc/{office.pid}/status").read_text()
    uids, gids, groups = (
        re.search(rf"^{name}:\s(.*)$", status, re.MULTILINE)[1].split()
        for name in ("Uid", "Gid", "Groups")
    )
    assert uids == [str(nobody.pw_uid)] * 4
    assert gids == [str(nobody.pw_gid)] * 4
    assert set(groups) <= {str(gid) for gid in os.getgrouplist("nobody", nobody.pw_gid)}
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.org", ["joe@example.net"], b"Subject: x\r\n\r\nx\r\n")
    found = list((public / "state").rglob("*"))
    assert any(path.parent.name == "new" for path in found)
    assert {path.stat().st_uid for path in found} == {nobody.pw_uid}
    assert "runs as root" not in office.said


def with_its_own_proc(options: str) -> tuple[str, ...]:
    """twistd where /proc shows less, as systemd makes it."""
    script = f'mount -t proc -o {options} proc /proc && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh", *TWISTD)


@ROOT_ONLY
def test_it_opens_with_as_much_of_proc_as_the_unit_leaves_it(start, public):
    nobody = pwd.getpwnam("nobody")
    os.chown(public / "state", nobody.pw_uid, nobody.pw_gid)
    unit = dict(
        line.split("=", 1)
        for line in (ROOT / "etc" / "postoffice.service").read_text().splitlines()
        if re.match(r"Proc|ProtectProc", line)
    )
    options = f"hidepid={unit['ProtectProc']}"
    if "ProcSubset" in unit:
        options += f",subset={unit['ProcSubset']}"
    start(cwd=public, twistd=with_its_own_proc(options)).open()


@ROOT_ONLY
def test_a_machine_that_does_not_say_which_boot_it_is(start, written):
    written()
    office = start("--pidfile=", "postoffice", twistd=with_its_own_proc("subset=pid"))
    refuses(office, "boot_id cannot be read", "started anew; let .* see /proc/sys")


@ROOT_ONLY
def test_a_socket_that_its_user_may_not_remove_stays_behind_and_is_no_hindrance(start, public):
    nobody = pwd.getpwnam("nobody")
    os.chown(public / "state", nobody.pw_uid, nobody.pw_gid)
    configuration = public / "postoffice.yaml"
    text = configuration.read_text()
    socket_of_lmtp = f'lmtp: ["unix:{public}/lmtp"]'
    configuration.write_text(text.replace('lmtp: ["tcp:0:interface=127.0.0.1"]', socket_of_lmtp))
    for _ in range(2):  # the second time it is in the way
        office = start(cwd=public).open()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{public}/lmtp")
            assert client.recv(100).startswith(b"220 mail.example.net LMTP ")
            client.sendall(b"QUIT\r\n")
            assert client.recv(100).startswith(b"221 ")
        office.check()
        assert f"removing the socket {public}/lmtp failed: Permission denied" in office.said
        assert "the post office is closed" in office.said


@ROOT_ONLY
def test_root_stays_root_with_a_warning(start, written):
    written()
    assert "the post office runs as root; set user:" in start().open().said


def test_a_postmaster_without_an_account_is_a_warning(start, written):
    written()
    assert "no account postmaster@example.net" in start().open().said


def test_too_few_open_files_lower_the_limit_of_connections(start, written):
    written()

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 400))

    office = start(preexec_fn=few).open()
    office_limits = Path(f"/proc/{office.pid}/limits").read_text()
    assert re.search(r"Max open files +400 +400", office_limits)
    assert "limits.connections is 10000, but" in office.said
    assert "for 100 only" in office.said


def test_too_many_clients_are_told_so(start, written):
    written("limits: {connections: 3, connections_per_client: 2}\n")
    office = start().open()
    inside = [socket.create_connection(("127.0.0.1", office.smtp)) for _ in range(2)]
    for client in inside:
        assert client.recv(100).startswith(b"220 ")
    with socket.create_connection(("127.0.0.1", office.smtp)) as client:
        assert client.recv(100) == b"421 4.7.0 Too many connections; please try again later\r\n"
        assert client.recv(100) == b""
    with socket.create_connection(("127.0.0.1", office.pop3)) as client:
        assert client.recv(100).startswith(b"-ERR [SYS/TEMP] too many connections")
    inside[0].sendall(b"QUIT\r\n")
    assert inside[0].recv(100).startswith(b"221 ")
    inside[0].close()
    office.wait_for("session-ended .* service=smtp client=127.0.0.1 ")
    with socket.create_connection(("127.0.0.1", office.pop3)) as client:
        assert client.recv(100).startswith(b"+OK ")
    inside[1].close()


TAC = """\
from twisted.application.service import Application
from twisted.internet import reactor

from postoffice.config import loader as config
from postoffice.daemon.build import build
from postoffice.daemon.plugin_makers import find_maker

application = Application("mail and more")
settings = config.load("postoffice.yaml", find_maker)
build(settings, reactor).setServiceParent(application)
"""


def test_a_post_office_in_a_tac_file(start, written, tmp_path):
    written()
    (tmp_path / "office.tac").write_text(TAC)
    office = start("-oy", "office.tac").open()
    account = office.new_account()
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.org", [account.address], b"Subject: x\r\n\r\nx\r\n")
    office.check()


# -- root, and a state of another's -----------------------------------------------------------


@pytest.fixture
def others(public):
    """The state folder of somebody, whom the configuration does not name."""
    nobody = pwd.getpwnam("nobody")
    os.chown(public / "state", nobody.pw_uid, nobody.pw_gid)
    text = (public / "postoffice.yaml").read_text()
    (public / "postoffice.yaml").write_text(text.replace("user: nobody\n", ""))
    return public


def all_of(folder: Path) -> set[int]:
    """Whose files are in there."""
    return {path.lstat().st_uid for path in folder.rglob("*")}


@ROOT_ONLY
def test_root_becomes_the_owner_of_the_state_folder(start, others, command):
    nobody = pwd.getpwnam("nobody")
    there = f"--config={others}/postoffice.yaml"
    for words in (("domain", "add", "example.net"), ("account", "list"), ("maildrop", "list")):
        done = command(*words, there)
        assert done.returncode == 0, done.stderr
        assert all_of(others / "state") == {nobody.pw_uid}
    office = start(cwd=others).open()
    assert f"Uid:\t{nobody.pw_uid}" in Path(f"/proc/{office.pid}/status").read_text()
    assert "runs as the owner of the state folder, nobody" in office.said
    assert all_of(others / "state") == {nobody.pw_uid}


@ROOT_ONLY
@pytest.mark.parametrize("user", ["", "user: root\n"])
@pytest.mark.parametrize("name", ["accounts.db-wal", "accounts.db-shm"])
def test_links_that_the_owner_planted_lead_root_nowhere(others, command, tmp_path, user, name):
    with (others / "postoffice.yaml").open("a") as file:
        file.write(user)
    there = f"--config={others}/postoffice.yaml"
    assert command("domain", "add", "example.net", there).returncode == 0
    victim = others / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    planted = others / "state" / name
    planted.unlink(missing_ok=True)
    planted.symlink_to(victim)
    command("account", "list", there)
    assert victim.stat().st_mode & 0o777 == 0o644
    assert victim.read_text() == "precious"


@ROOT_ONLY
def test_a_state_that_is_still_to_be_made_is_its_parents_owners(others, command):
    nobody = pwd.getpwnam("nobody")
    text = (others / "postoffice.yaml").read_text()
    (others / "postoffice.yaml").write_text(text.replace("state: state", "state: state/of/mine"))
    there = f"--config={others}/postoffice.yaml"
    assert command("domain", "add", "example.net", there).returncode == 0
    assert all_of(others / "state") == {nobody.pw_uid}


@ROOT_ONLY
def test_an_owner_without_a_name(others, command):
    os.chown(others / "state", 65432, 65432)
    done = command("domain", "add", "example.net", f"--config={others}/postoffice.yaml")
    assert done.returncode == 0, done.stderr
    assert all_of(others / "state") == {65432}


BY_HABIT = pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])


@BY_HABIT
def test_signals_that_are_sent_by_habit_do_not_end_it(start, written, number):
    written()
    office = start().open()
    for _ in range(2):
        office.process.send_signal(number)
        office.wait_for(f"{number.name}: the log file is opened again")
        with smtplib.SMTP("127.0.0.1", office.smtp) as client:
            assert client.noop()[0] == 250
    assert office.stop() in (0, -signal.SIGTERM)


@BY_HABIT
def test_a_log_file_that_was_moved_away_is_made_anew(daemonize, written, tmp_path, number):
    written()
    assert daemonize("postoffice").returncode == 0
    log = tmp_path / "twistd.log"
    port = int(re.search(r"is open: smtp 127\.0\.0\.1:(\d+)", log.read_text())[1])
    log.rename(tmp_path / "old.log")
    os.kill(int((tmp_path / "twistd.pid").read_text()), number)
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.noop()[0] == 250
    assert f"{number.name}: the log file is opened again" in log.read_text()
    assert "the post office is open" in (tmp_path / "old.log").read_text()
