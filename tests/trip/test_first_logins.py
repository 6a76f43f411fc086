"""Users of a real Dovecot log in here, at the running post office, for the first time."""

from __future__ import annotations

import poplib
import smtplib
from datetime import UTC, datetime, timedelta

import pytest

from tests.authority import Authority
from tests.old_servers import Dovecot, running

SECONDS = 60
ANN, BOB = "ann@example.net", "bob@example.net"
TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
ACCOUNTS = """
accounts:
  - kind: sqlite
  - {{kind: pop3, host: localhost, port: {port}, ca_file: {ca}, domains: [example.net],
     until: {until}, import: true}}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def dovecot(authority):
    files = authority.certify("localhost")
    with running(Dovecot, certificate={"certificate": str(files), "key": str(files)}) as server:
        for name in (ANN, BOB):
            server.add(name, f"pw of {name}")
        for number in range(3):
            text = f"Subject: {number}\n\nline\n"
            server.put(ANN, f"new/170000000{number}.M1P1.host", text)
        yield server


@pytest.fixture
def configured(written, dovecot, authority):
    def configured(until: str = TOMORROW) -> None:
        written(ACCOUNTS.format(port=dovecot.pop3s, ca=authority.path, until=until))

    return configured


@pytest.fixture
def moved(configured, command, start):
    """A post office to which the users of Dovecot move; bob's account is there already."""
    configured()
    for words in (
        ("domain", "add", "example.net"),
        ("account", "add", "postmaster@example.net", "--generate"),
    ):
        assert command(*words).returncode == 0
    done = command("account", "import", text=f"address\n{BOB}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    return start().open()


def log_in(office, name: str, password: str) -> int:
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=SECONDS)
    try:
        client.user(name)
        client.pass_(password)
        return client.stat()[0]
    finally:
        client.close()


def is_in(office, name: str) -> bool:
    """Whether a login succeeds; it may be too early."""
    try:
        log_in(office, name, f"pw of {name}")
    except poplib.error_proto as error:
        if b"[SYS/TEMP]" not in error.args[0]:
            raise
        return False
    return True


def post(office, name: str) -> int:
    with smtplib.SMTP("127.0.0.1", office.smtp, "pc.example.org", timeout=SECONDS) as client:
        client.ehlo()
        client.mail("a@example.org")
        code = client.rcpt(name)[0]
        if code == 250:
            assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
        return code


def test_the_old_server_is_asked_once_and_then_the_account_is_ours(moved, dovecot):
    assert (post(moved, ANN), post(moved, BOB)) == (550, 250), "mail is for accounts that exist"
    for name in (ANN, BOB):
        with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
            log_in(moved, name, "wrong")
    assert log_in(moved, ANN, f"pw of {ANN}") == 0
    moved.wait_for(f"first-login account={ANN} via=pop3s://localhost:{dovecot.pop3s}")
    moved.wait_for(f"first-import account={ANN} messages=3 ")
    assert post(moved, ANN) == 250
    assert log_in(moved, ANN, f"pw of {ANN}") == 4
    dovecot.stop()
    assert log_in(moved, ANN, f"pw of {ANN}") == 4
    with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/TEMP\]"):
        log_in(moved, BOB, f"pw of {BOB}")
    dovecot.start()
    while not is_in(moved, BOB):  # it is not asked during a pause
        pass
    assert log_in(moved, BOB, f"pw of {BOB}") == 1
    moved.wait_for(f"first-import account={BOB} messages=0 ")
    moved.check()


def test_check_config_says_who_can_make_no_first_login(configured, command):
    configured("2020-01-01")
    assert command("domain", "add", "example.org").returncode == 0
    assert "is not asked any more since 2020-01-01" in command("check-config").stdout
    configured()
    said = command("check-config").stdout
    assert "example.net is local in no directory that can be written to" in said
    assert "postoffice domain add example.net" in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("kind: sqlite", "kind: passwd-file, path: x"), "add kind: sqlite"),
        (("domains: [example.net]", "domains: []"), "give at least one domain"),
        (("until: 20", "until: x20"), "a day, such as 2027-03-01"),
        (("host: localhost,", "host: old.example.net, tls: none,"), "not sent in clear"),
        (("host: localhost,", "host: localhost, tls: none, starttls: true,"), "contradicts"),
        (("until:", "login: '%{bad}', until:"), "is not known"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_its_settings(configured, command, tmp_path, change, why):
    configured()
    path = tmp_path / "postoffice.yaml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace("- kind: sqlite", "- {kind: sqlite}").replace(*change))
    done = command("check-config")
    assert (done.returncode, why in done.stderr) == (2, True), done.stdout + done.stderr
