"""What a start imports: what the configuration has, and nothing in a session of a client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import postoffice
from tests.trip.conftest import CONFIGURATION

ROOT = Path(postoffice.__file__).parent.parent
#: Starts the daemon, lets a client post and another collect, and shows the modules at each step.
PROGRAM = """
import json, poplib, re, smtplib, sys
from twisted.internet import reactor, threads
from postoffice.daemon.twistd_service import build_office
from postoffice.util.process_tuning import tune

def named():
    return sorted(name for name in sys.modules if not name.startswith("encodings."))

def session():
    places = {service: int(one[0].rpartition(":")[2]) for service, one in office.addresses.items()}
    with smtplib.SMTP("127.0.0.1", places["smtp"]) as client:
        client.ehlo("client.example")
        client.mail("someone@example.com")
        client.rcpt("nobody@example.net")
    client = poplib.POP3("127.0.0.1", places["pop3"])
    client.capa()
    try:
        client.user("joe@example.net")
        client.pass_("wrong")
    except poplib.error_proto:
        client.quit()

def opened(_):
    before = named()
    def ended(_):
        print("@" + json.dumps([before, sorted(set(named()) - set(before))]))
        return office.stopService()
    return threads.deferToThread(session).addCallback(ended)

tune()
office = build_office("postoffice.yaml", reactor)
reactor.callWhenRunning(office.startService)
office.whenOpen().addCallback(opened).addErrback(print).addBoth(lambda _: reactor.stop())
reactor.run()
"""
#: What belongs to parts that the plain configuration does not have.
SENDING = {
    "dns", "twisted.names", "twisted.web", "postoffice.dns", "postoffice.daemon.queue_runner",
    "postoffice.queue.manager", "postoffice.queue.queue_db", "postoffice.server.client_connection",
    "postoffice.server.letters", "postoffice.server.relay", "postoffice.smtp.client",
}  # fmt: skip
OTHERS = {
    "click", "jinja2", "ldap", "prometheus_client", "psycopg", "pyotp", "segno",
    "postoffice.backup", "postoffice.cli", "postoffice.logs", "postoffice.metrics",
    "postoffice.moving", "postoffice.pop3.client", "postoffice.web",
    "postoffice.store.transfer.export_maildrop", "postoffice.store.transfer.import_maildrop",
    "postoffice.accounts.ldap_directory", "postoffice.accounts.postgresql_directory",
}  # fmt: skip
OUTBOUND = """\
outbound:
  dns: {servers: [127.0.0.1]}
"""


def belong(names: list[str], parts: set[str]) -> set[str]:
    """The names of modules that belong to one of these packages, or are one of these modules."""
    return {name for name in names for part in parts if f"{name}.".startswith(f"{part}.")}


def modules(folder: Path, configuration: str) -> tuple[list[str], list[str]]:
    """The modules of a daemon that has just opened, and those that sessions imported."""
    (folder / "postoffice.yaml").write_text(configuration)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("@")]
    assert found, done.stdout + done.stderr
    opened, later = json.loads(found[0][1:])
    return opened, later


@pytest.mark.parametrize("sends", [False, True])
def test_a_start_imports_what_the_configuration_has(tmp_path, sends):
    opened, later = modules(tmp_path, CONFIGURATION + (OUTBOUND if sends else ""))
    assert belong(opened, OTHERS) == set()
    if sends:
        assert SENDING - set(opened) == set()
    else:
        assert belong(opened, SENDING) == set()
    ours = {"postoffice", "twisted", "cryptography", "argon2", "sqlite3", "email"}
    assert belong(later, ours) == set(), "a session waits for an import"


def test_the_store_process_is_small():
    program = """if True:
        import json, sys
        import postoffice.daemon.child_process, postoffice.store.store_process
        print(json.dumps(sorted(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    parts = {"twisted", "cryptography", "sqlite3", "yaml", "asyncio", "ssl", "email.policy"}
    assert belong(json.loads(done.stdout), parts) == set()
