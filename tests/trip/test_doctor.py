"""`postoffice doctor` beside the real daemon: its ports, its queue, and the DNS as it asks it."""

from __future__ import annotations

import json

import pytest

from postoffice.cli import self_signed
from tests.nameserver import NameServer
from tests.servers import free_port
from tests.trip.conftest import run

HOST, DOMAIN = "mail.example.net", "example.net"


@pytest.fixture(scope="module")
def names():
    server = NameServer()
    server.zone |= {
        (HOST, "A"): ["11.22.33.44"],
        (DOMAIN, "MX"): [f"10 {HOST}."],
        (DOMAIN, "TXT"): ['"v=spf1 mx ~all"'],
        (f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject"'],
        ("far.example", "NS"): ["ns.example."],
    }
    yield server
    server.stop()


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened, names):
    folder = tmp_path_factory.mktemp("doctor")
    self_signed.write(str(folder), [HOST])
    ports = {name: free_port() for name in ("smtp", "submission", "pop3", "pop3s")}
    listeners = "".join(
        f'  {name}: ["tcp:{port}:interface=127.0.0.1"]\n' for name, port in ports.items()
    )
    text = (
        f"hostname: {HOST}\npostmaster: postmaster@{DOMAIN}\nstate: state\n"
        "tls: {certificates: [{certificate: certificate.pem, key: key.pem}]}\n"
        f"listeners:\n{listeners}  submissions: []\n  lmtp: []\n"
        f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{free_port()}"}}],'
        f' dns: {{servers: ["127.0.0.1:{names.server[1]}"]}}}}\n'
    )
    for office in opened(folder, text):
        office.account(f"postmaster@{DOMAIN}", office.PASSWORD)
        yield office


def test_the_doctor_looks_at_the_daemon_and_at_the_dns(office):
    done = run("doctor", "--json", cwd=office.folder)
    found = json.loads(done.stdout)
    levels = {}
    for one in found["findings"]:
        levels.setdefault(one["kind"], {}).setdefault(one["level"], []).append(one["what"])
    answers = [f"{service} answers" for service in ("smtp", "submission", "pop3", "pop3s")]
    assert levels["daemon"] == {"ok": ["the daemon runs", *answers]}
    assert levels["queue"] == {"ok": ["nothing waits"]}
    assert levels["mail"].keys() == {"ok"}
    assert f"mail for {DOMAIN} comes here (MX {HOST})" in levels["dns"]["ok"]
    assert any("is not signed" in one for one in levels["dns"]["warning"])
    assert any("do not trust" in one for one in levels["tls"]["warning"])
    assert done.returncode == {"warning": 1, "error": 2}[found["level"]]


def test_only_one_kind_and_one_domain(office):
    done = run("doctor", "--only", "dns", "--domain", "far.example", cwd=office.folder)
    assert done.returncode == 2
    assert done.stdout.startswith("DNS\n")
    assert "there is no domain far.example" not in done.stdout
    assert "far.example has no MX record" in done.stdout
