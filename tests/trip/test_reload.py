"""The real daemon reads its configuration again, while clients are there."""

from __future__ import annotations

import json
import os
import poplib
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import tempfile
import threading
from pathlib import Path

import pytest

from postoffice.cli import self_signed

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
TEXT = b"Subject: x\r\n\r\nx\r\n"
RESTART = "this key has changed, which needs a restart; nothing was reloaded"


@pytest.fixture
def running(start, written):
    written()
    office = start().open()
    office.account("postmaster@example.net", "a password")
    return office


@pytest.fixture
def reload(command):
    """Reloads by the command, and returns what it says of itself."""

    def reload(status: int = 0) -> dict:
        done = command("reload", "--json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    return reload


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def size_of(client: smtplib.SMTP) -> str:
    client.ehlo()
    return client.esmtp_features["size"]


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_limits_hold_for_new_sessions_and_old_ones_keep_theirs(
    running, written, reload, command, tmp_path
):
    account = running.new_account()
    with smtplib.SMTP("127.0.0.1", running.smtp) as old:
        assert size_of(old) == str(50 << 20)
        written("limits: {message_size: 1 MiB}\n")
        file = str(tmp_path / "postoffice.yaml")
        assert reload() == {"configuration": file, "opened": [], "closed": [], "warnings": []}
        assert command("reload").stdout == f"{file} was reloaded\n"  # nothing has changed
        assert size_of(old) == str(50 << 20)
        with smtplib.SMTP("127.0.0.1", running.smtp) as new:
            assert size_of(new) == str(1 << 20)
            for client in (old, new):
                client.sendmail("a@example.org", [account.address], TEXT)
    assert len(running.collect(account)) == 2
    running.wait_for("configuration-reloaded")
    running.check()


@pytest.mark.parametrize("by", ["command", "signal"])
def test_a_broken_file_changes_nothing(running, written, command, by):
    written("limits: {errors: none, tarpit: soon}\n")
    if by == "signal":
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("SIGHUP: the log file is opened again")
        assert "limits.errors" in running.wait_for("reload-failed .*")[0]
        assert "limits.tarpit" in running.wait_for("reload-failed .*")[0]
    else:
        done = command("reload")
        assert done.returncode == 2
        assert "limits.errors: found 'none'; expected a whole number, 1 or more" in done.stderr
        assert "limits.tarpit" in done.stderr
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        assert client.noop()[0] == 250
    running.check()


def test_a_signal_reloads_too(running, written):
    written("limits: {message_size: 2 MiB}\n")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("configuration-reloaded")
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        assert size_of(client) == str(2 << 20)
    running.check()


def test_listeners_come_and_go_and_the_others_stay_open(running, written, reload, command):
    port = free_port()
    account = running.new_account()
    kept = smtplib.SMTP("127.0.0.1", running.smtp)
    left = smtplib.SMTP("127.0.0.1", running.ports["submission"])
    left.ehlo()
    written(
        "",
        ('submission: ["tcp:0:interface=127.0.0.1"]', "submission: []"),
        ("pop3: [", f'pop3: ["tcp:{port}:interface=127.0.0.1", '),
    )
    found = reload()
    assert found["opened"] == [f"pop3 127.0.0.1:{port}"]
    assert found["closed"] == [f"submission 127.0.0.1:{running.ports['submission']}"]
    assert refused(running.ports["submission"])
    assert left.noop()[0] == 250  # nobody is cut off
    assert left.login(account.address, account.password)[0] == 235
    left.sendmail(account.address, [account.address], TEXT)
    listed = json.loads(command("session", "list", "--json").stdout)["sessions"]
    assert sorted(one["service"] for one in listed) == ["smtp", "submission"]
    assert kept.noop()[0] == 250
    for number in (port, running.pop3):
        client = poplib.POP3("127.0.0.1", number)
        client.user(account.address)
        client.pass_(account.password)
        assert client.stat()[0] == 1
        client.quit()
    kept.quit()
    left.quit()
    running.check()


def test_a_port_that_is_taken_leaves_all_as_it_was(running, written, command):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f'"tcp:{other.getsockname()[1]}:interface=127.0.0.1"'
        free = free_port()
        written(
            "limits: {message_size: 1 MiB}\n",
            ("pop3: [", f'pop3: ["tcp:{free}:interface=127.0.0.1", {taken}, '),
            ('lmtp: ["tcp:0:interface=127.0.0.1"]', "lmtp: []"),
        )
        done = command("reload")
    assert done.returncode == 1
    assert "the reload failed, the old configuration stays: pop3 cannot listen on" in done.stderr
    assert "Address already in use" in done.stderr
    assert refused(free)
    assert not refused(running.ports["lmtp"])
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        assert size_of(client) == str(50 << 20)
    running.wait_for("reload-failed")
    running.check()


def test_a_listener_moves_to_an_endpoint_that_overlaps_its_old_one(start, written, reload):
    port = free_port()
    written("", ('smtp: ["tcp:0:interface=127.0.0.1"]', f'smtp: ["tcp:{port}"]'))
    running = start().open()
    old = smtplib.SMTP("127.0.0.1", port)
    written(
        "", ('smtp: ["tcp:0:interface=127.0.0.1"]', f'smtp: ["tcp:{port}:interface=127.0.0.1"]')
    )
    assert reload()["opened"] == [f"smtp 127.0.0.1:{port}"]
    assert old.noop()[0] == 250
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.noop()[0] == 250
    old.quit()
    running.check()


def test_a_listener_that_cannot_move_is_opened_again(start, written, command):
    port = free_port()
    smtp = 'smtp: ["tcp:0:interface=127.0.0.1"]'
    written("", (smtp, f'smtp: ["tcp:{port}"]'))
    running = start().open()
    old = smtplib.SMTP("127.0.0.1", port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        places = [port, other.getsockname()[1]]
        texts = ", ".join(f'"tcp:{one}:interface=127.0.0.1"' for one in places)
        written("", (smtp, f"smtp: [{texts}]"))
        assert command("reload").returncode == 1
        written("", (smtp, f"smtp: [{', '.join(reversed(texts.split(', ')))}]"))
        assert command("reload").returncode == 1
    assert old.noop()[0] == 250
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.noop()[0] == 250
    old.quit()
    running.check()


def test_an_endpoint_may_go_to_another_service(start, written, reload):
    port = free_port()
    place = f'["tcp:{port}:interface=127.0.0.1"]'
    written("", ('lmtp: ["tcp:0:interface=127.0.0.1"]', f"lmtp: {place}"))
    running = start().open()
    written(
        "",
        ('lmtp: ["tcp:0:interface=127.0.0.1"]', "lmtp: []"),
        ('submission: ["tcp:0:interface=127.0.0.1"]', f"submission: {place}"),
    )
    reload()
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.ehlo()[0] == 250  # LMTP says LHLO
    running.check()


def test_tls_is_turned_on_and_off(running, written, reload, tmp_path):
    certificate, key = self_signed.make(["mail.example.net"])
    (tmp_path / "mail.pem").write_bytes(certificate + key)
    port = free_port()
    plain = smtplib.SMTP("127.0.0.1", running.smtp)
    written(
        "tls: {certificates: [{certificate: mail.pem, key: mail.pem}]}\n",
        ("  pop3: [", f'  pop3s: ["tcp:{port}:interface=127.0.0.1"]\n  submissions: []\n  pop3: ['),
    )
    assert reload()["opened"] == [f"pop3s 127.0.0.1:{port}"]
    plain.ehlo()
    assert not plain.has_extn("starttls")
    context = ssl._create_unverified_context()
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        client.starttls(context=context)
        assert client.ehlo()[0] == 250
    secure = poplib.POP3_SSL("127.0.0.1", port, context=context)
    late = smtplib.SMTP("127.0.0.1", running.smtp)
    late.ehlo()
    written()
    assert reload()["closed"] == [f"pop3s 127.0.0.1:{port}"]
    assert secure.noop
    late.starttls(context=context)  # it was offered when this session began
    assert late.noop()[0] == 250
    secure.quit()
    for client in (plain, late):
        client.quit()
    running.check()


def test_a_certificate_that_cannot_be_used_is_an_error(running, written, command, tmp_path):
    (tmp_path / "mail.pem").write_text("nonsense")
    written("tls: {certificates: [{certificate: mail.pem, key: mail.pem}]}\n")
    done = command("reload")
    assert done.returncode == 1
    assert "has no certificate in PEM form" in done.stderr
    assert smtplib.SMTP("127.0.0.1", running.smtp).quit()[0] == 221
    running.check()


def test_what_needs_a_restart_is_said(running, written, command, reload):
    written(
        "store: {kind: maildir, undelete: 1 day}\nquota: {warnings: [50]}\n"
        "limits: {message_size: 1 MiB}\n",
        ("mail.example.net", "post.example.net"),
    )
    done = command("reload")
    assert done.returncode == 2
    for key in ("hostname", "store", "quota.warnings"):
        assert f"{key}: {RESTART}" in done.stderr
    assert [one["key"] for one in reload(2)["problems"]] == ["hostname", "store", "quota.warnings"]
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        assert size_of(client) == str(50 << 20)
    written("", ("state: state", "state: elsewhere"))
    done = command("reload")
    assert done.returncode == 1
    assert "if `state` was changed, restart the daemon" in done.stderr
    running.process.send_signal(signal.SIGHUP)
    assert "state: this key has changed" in running.wait_for("reload-failed .* state: .*")[0]
    running.check()


def test_policies_that_have_not_changed_remember_their_clients(running, written, reload):
    account = running.new_account()
    rate = "policies: [{kind: rate, client: 1/day, services: [smtp]}%s]\n"
    post = ("a@example.org", [account.address], TEXT)
    written(rate % "")
    reload()
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        client.sendmail(*post)
    written(rate % ", {kind: helo, services: [lmtp]}")
    reload()
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        with pytest.raises(smtplib.SMTPSenderRefused, match="Too many messages"):
            client.sendmail(*post)
        written()
        reload()
        with pytest.raises(smtplib.SMTPSenderRefused, match="Too many messages"):
            client.sendmail(*post)  # this session keeps the policies that it began with
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        client.sendmail(*post)
    running.check()


#: What is there in every other reload under load.
MORE = """\
tls: {certificates: [{certificate: mail.pem, key: mail.pem}]}
policies: [{kind: rate, client: 100000/s}, {kind: helo}]
"""


def test_no_session_is_lost_while_it_is_reloaded_under_load(running, written, reload, tmp_path):
    account = running.new_account()
    (tmp_path / "mail.pem").write_bytes(b"".join(self_signed.make(["mail.example.net"])))
    context = ssl._create_unverified_context()
    ended = threading.Event()
    posted: list[int] = []
    lost: list[BaseException] = []

    def post() -> None:
        try:
            while not ended.is_set():
                with smtplib.SMTP("127.0.0.1", running.smtp, timeout=30) as client:
                    client.ehlo("mail.example.org")
                    if client.has_extn("starttls"):
                        client.starttls(context=context)
                    for _ in range(3):
                        client.sendmail("a@example.org", [account.address], TEXT)
                        posted.append(1)
        except BaseException as error:
            lost.append(error)

    def look() -> None:
        try:
            while not ended.is_set():
                client = poplib.POP3("127.0.0.1", running.pop3, timeout=30)
                client.capa()
                client.quit()
        except BaseException as error:
            lost.append(error)

    clients = [threading.Thread(target=work) for work in (post, post, post, look)]
    for client in clients:
        client.start()
    try:
        for number in range(12):
            port = free_port()
            listeners = f'submissions: []\n  pop3s: []\n  lmtp: ["tcp:{port}:interface=127.0.0.1", '
            limits = f"limits: {{message_size: {number + 1} MiB}}\n"
            written(limits + MORE * (number % 2), ("lmtp: [", listeners))
            assert reload()["opened"] == [f"lmtp 127.0.0.1:{port}"]
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert not lost
    assert len(running.collect(account)) == len(posted) > 0
    running.check()


def test_systemd_is_told(start, written, tmp_path, with_path):
    written()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        running = start(env={**with_path(), "NOTIFY_SOCKET": str(tmp_path / "notify")}).open()
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=open: smtp 127.0.0.1:")
        running.process.send_signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=open: smtp 127.0.0.1:")
        written("limits: {errors: none}\n")
        running.process.send_signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\n")
        failed = b"READY=1\nSTATUS=the last reload failed; open: smtp 127.0.0.1:"
        assert manager.recv(4096).startswith(failed)
        running.check()
        assert manager.recv(4096) == b"STOPPING=1"


def test_without_a_daemon_that_is_said(written, command):
    written()
    done = command("reload")
    assert done.returncode == 1
    assert "the daemon is not running" in done.stderr


def test_a_certificate_that_was_renewed_is_used_at_once(start, written, reload, tmp_path):
    def renew() -> str:
        certificate, key = self_signed.make(["mail.example.net"])
        (tmp_path / "mail.pem").write_bytes(certificate + key)
        return certificate.decode().strip()

    port = free_port()
    services = f'  pop3s: ["tcp:{port}:interface=127.0.0.1"]\n  submissions: []\n  pop3: ['
    certificates = "tls: {certificates: [{certificate: mail.pem, key: mail.pem}]}\n"
    written(certificates, ("  pop3: [", services))
    first = renew()
    running = start().open()
    assert ssl.get_server_certificate(("127.0.0.1", port)).strip() == first
    second = renew()
    reload()
    assert ssl.get_server_certificate(("127.0.0.1", port)).strip() == second
    running.check()


@ROOT_ONLY
def test_root_reloads_a_daemon_that_has_become_another_user(start, written, command, tmp_path):
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    written("user: nobody\n")
    (folder / "state").mkdir(mode=0o700)
    os.chown(folder / "state", nobody.pw_uid, nobody.pw_gid)
    file = folder / "postoffice.yaml"
    text = (tmp_path / "postoffice.yaml").read_text()
    file.write_text(text)
    running = start("--pidfile=", "postoffice", cwd=folder).open()
    file.write_text(text + "limits: {message_size: 1 MiB}\n")
    assert command("reload", f"--config={file}").returncode == 0
    with smtplib.SMTP("127.0.0.1", running.smtp) as client:
        assert size_of(client) == str(1 << 20)
    running.check()
    shutil.rmtree(folder)
