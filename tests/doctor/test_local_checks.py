"""What the doctor says of certificates, ports, this machine, files and mail: on real ones."""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from postoffice.config import loader
from postoffice.config.listeners import SERVICES
from postoffice.daemon.build import find_maker
from postoffice.doctor import system_checks
from postoffice.doctor.certificate_checks import check_certificates
from postoffice.doctor.file_checks import check_modes
from postoffice.doctor.findings import ERROR, NOTE, OK, WARNING, Finding, status, worst
from postoffice.doctor.port_checks import check_ports, check_way_out, daemon_process, holder
from postoffice.doctor.queue_checks import check_destinations, check_queue
from postoffice.server.certificates import CertificateFiles
from tests.authority import Authority

HOST = "mail.example.net"
CONFIG = "hostname: mail.example.net\npostmaster: p@example.net\nstate: state\n"


def of(findings, word):
    """The level of the one finding that has this word."""
    [found] = [one.level for one in findings if word in one.what]
    return found


def test_the_exit_code_is_that_of_monitoring():
    found = [Finding(kind="dns", level=level, what="x") for level in (OK, NOTE, WARNING, ERROR)]
    assert [status(found[:n]) for n in range(5)] == [0, 0, 0, 1, 2]
    assert worst(found) == ERROR


# -- certificates ------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """An authority that this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    return made


def certificate(path):
    os.chmod(path, 0o600)
    return [CertificateFiles(str(path), str(path))]


def test_a_good_certificate(authority):
    found = check_certificates(certificate(authority.certify(HOST, days=60)), HOST)
    assert {one.level for one in found} == {OK}


@pytest.mark.parametrize(("days", "level"), [(-1, ERROR), (3, WARNING), (30, OK)])
def test_the_days_of_a_certificate(authority, days, level):
    found = check_certificates(certificate(authority.certify(HOST, days=days)), HOST)
    assert worst(found) == level


def test_a_certificate_for_another_name_or_of_nobody_or_for_everybody(authority, monkeypatch):
    files = certificate(authority.certify("other.example", days=60))
    assert of(check_certificates(files, HOST), f"no certificate is for {HOST}") == ERROR
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    assert of(check_certificates(files, HOST), "do not trust") == WARNING
    os.chmod(files[0].key, 0o644)
    assert of(check_certificates(files, HOST), "private key") == ERROR


def test_no_certificate_and_one_that_cannot_be_used(tmp_path):
    assert of(check_certificates([], HOST), "no certificate") == WARNING
    path = tmp_path / "x.pem"
    path.write_text("x")
    assert of(check_certificates([CertificateFiles(str(path), str(path))], HOST), "PEM") == ERROR


# -- ports -------------------------------------------------------------------------------


class Speaker:
    """Says a line to everybody who connects, with TLS if there is a certificate."""

    def __init__(self, line, certificate=None):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self._line = line
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._thread = Thread(target=self._serve)
        self._thread.start()

    @property
    def endpoint(self):
        return f"tcp:{self.port}:interface=127.0.0.1"

    def _serve(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                connection.sendall(self._line)
                connection.recv(100)

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join()


@pytest.fixture
def speak():
    speakers = []

    def speak(*facts):
        speakers.append(Speaker(*facts))
        return speakers[-1]

    yield speak
    for one in speakers:
        one.close()


def listeners(**endpoints):
    lines = [f'  {name}: ["{endpoint}"]\n' for name, endpoint in endpoints.items()]
    lines += [f"  {name}: []\n" for name in SERVICES if name not in endpoints]
    certificate = "tls: {certificates: [{certificate: x.pem, key: x.pem}]}\n"
    text = f"{CONFIG}{certificate}listeners:\n{''.join(lines)}"
    return loader.read(text, "postoffice.yaml", find_maker).listeners


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"tcp:{listening.getsockname()[1]}:interface=127.0.0.1"


def test_listeners_answer_as_ours(speak, tmp_path):
    pem = Authority(tmp_path).certify(HOST)
    wanted = listeners(
        smtp=speak(b"220 mail.example.net ESMTP\r\n").endpoint,
        pop3s=speak(b"+OK hello\r\n", pem).endpoint,
    )
    found = check_ports(wanted, HOST, running=True)
    assert [one.level for one in found] == [OK, OK, OK]


def test_another_program_has_the_port_and_is_named(speak):
    other = speak(b"220 other.example Postfix\r\n")
    [down, found] = check_ports(listeners(smtp=other.endpoint), HOST, running=False)
    assert "does not run" in down.what
    assert f"(process {os.getpid()})" in found.what
    assert "Postfix" in found.what
    assert holder(other.endpoint)


def test_a_closed_port_of_a_daemon_that_runs():
    found = check_ports(listeners(smtp=closed_port(), pop3="tcp:0"), HOST, running=True)
    assert of(found, "smtp does not answer") == ERROR
    assert of(found, "pop3 was not tried") == NOTE


def test_services_that_do_not_greet_are_connected_to(speak):
    others = {"web": speak(b"").endpoint, "metrics": closed_port(), "free": "tcp:0"}
    found = check_ports(listeners(), HOST, running=True, others=others)
    assert of(found, "web answers") == OK
    assert of(found, "metrics does not answer") == ERROR
    assert of(found, "free was not tried") == NOTE
    assert of(check_ports(listeners(), HOST, running=False, others=others), "web answers") == OK


def test_nobody_answers_on_the_control_socket(tmp_path):
    path = str(tmp_path / "control")
    assert daemon_process(path) is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert daemon_process(path) == os.getpid()


def test_the_way_out(speak):
    there = speak(b"220 mx.far.example\r\n")
    assert of(check_way_out([("mx", "127.0.0.1")], there.port), "can be reached") == OK
    closed = int(closed_port().split(":")[1])
    assert of(check_way_out([("mx", "127.0.0.1")], closed), "nothing can be sent") == ERROR
    assert of(check_way_out([]), "could not be tried") == NOTE


# -- this machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [(0.5, 0.5, OK), (0.05, 0.5, WARNING), (0.5, 0.05, WARNING), (0.001, 0.5, ERROR),
     (0.5, 0.001, ERROR), (0.5, None, OK)],
)  # fmt: skip
def test_the_disk(monkeypatch, tmp_path, free, inodes, level):
    blocks = 10 << 20  # of 4096 octets: 40 GiB

    def statvfs(path):
        files = 1000000 if inodes is not None else 0
        usable = int(files * (inodes or 0))
        return os.statvfs_result(
            (4096, 4096, blocks, 0, int(blocks * free), files, 0, usable, 0, 255)
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert worst(system_checks.check_disk(str(tmp_path))) == level


def test_file_systems_that_forget_are_told_of(monkeypatch, tmp_path):
    kinds = {}
    for kind in ("ext4", "tmpfs", "nfs4", "fuse.sshfs"):
        monkeypatch.setattr(system_checks, "file_system", lambda path, kind=kind: kind)
        kinds[kind] = worst(system_checks.check_file_system(str(tmp_path)))
    assert kinds == {"ext4": OK, "tmpfs": ERROR, "nfs4": WARNING, "fuse.sshfs": WARNING}


def test_open_files_and_the_clock_of_this_process():
    assert worst(system_checks.check_open_files(1, os.getpid())) == OK
    assert worst(system_checks.check_open_files(1 << 40, os.getpid())) in (OK, WARNING)
    kept = system_checks.clock_is_kept()
    expected = {True: OK, False: WARNING, None: NOTE}[kept]
    assert worst(system_checks.check_clock()) == expected


# -- files and the queue -------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "postoffice.yaml"
    path.write_text(CONFIG)
    path.chmod(0o644)
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "accounts.db").write_bytes(b"")
    return loader.load(str(path), find_maker)


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        ({"postoffice.yaml": 0o644, "state": 0o700}, []),
        ({"postoffice.yaml": 0o666}, ["change"]),
        ({"state": 0o755, "state/accounts.db": 0o600}, ["read"]),
        ({"state": 0o711, "state/accounts.db": 0o644}, ["read", "read"]),
    ],
)
def test_the_modes_of_files(settings, tmp_path, modes, words):
    for name, mode in modes.items():
        Path(tmp_path / name).chmod(mode)
    found = [one for one in check_modes(settings) if one.level != OK]
    assert [word for one in found for word in ("change", "read") if word in one.what] == words
    assert all(one.mend.startswith("chmod") for one in found)


def test_an_empty_queue_and_destinations(tmp_path):
    assert worst(check_queue(str(tmp_path), 100)) == OK
    probe = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    dead = {"destination": "far.example", "state": "unreachable", "waiting": 3, "probe": probe}
    paused = {**dead, "destination": "slow.example", "state": "paused"}
    found = check_destinations([dead, paused, {"destination": "ok", "state": "reachable"}])
    assert [one.level for one in found] == [WARNING, NOTE]
    assert "12:00 UTC" in found[0].what
    assert len(check_destinations([dead] * 30)) == 11
