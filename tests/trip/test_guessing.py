"""Wrong passwords at the real daemon: slowed, shown and cleared, while owners come and go."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

GUESSER, OWNER = "192.0.2.66", "198.51.100.7"
JOE, PASSWORD = "joe@example.net", "his own word"
CONFIGURATION = """\
hostname: mail.example.net
postmaster: joe@example.net
state: state
tls: {plaintext_login: always}
listeners:
  submission: [{endpoint: "tcp:0:interface=127.0.0.1", proxy_from: [127.0.0.2]}]
  pop3: [{endpoint: "tcp:0:interface=127.0.0.1", proxy_from: [127.0.0.2]}]
  smtp: ["tcp:0:interface=127.0.0.1"]
  lmtp: []
limits: {wrong_passwords: 6/min, wrong_passwords_per_account: 10/h}
"""


@pytest.fixture
def guarded(tmp_path, start):
    (tmp_path / "postoffice.yaml").write_text(CONFIGURATION)
    office = start().open()
    office.account(JOE, PASSWORD)
    yield office
    office.check()


@pytest.fixture
def login(guarded, raw):
    """Tries to log in from somewhere: what the service says."""

    def login(password: str, address: str, service: str = "pop3", user: str = JOE) -> bytes:
        with raw(guarded.ports[service], "127.0.0.2") as client:
            client.say(f"PROXY TCP4 {address} 198.51.100.1 4000 110\r\n".encode())
            client.reply()
            if service == "pop3":
                assert client.ask(f"USER {user}".encode()) == b"+OK\r\n"
                return client.ask(f"PASS {password}".encode())
            client.ask(b"EHLO pc")
            return client.ask(b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()))

    return login


def test_guessers_are_slowed_and_owners_get_in(guarded, login, command):
    assert login(PASSWORD, OWNER).startswith(b"+OK ")
    for n in range(9):  # and not once more for each
        assert login("an old password", GUESSER).startswith(b"-ERR [AUTH] "), n
    assert login("another", GUESSER).startswith(b"-ERR [AUTH] ")
    assert login("a third", GUESSER, "submission").startswith(b"535 5.7.8 ")
    assert login("nobody's", GUESSER, "submission", "eve@example.net").startswith(b"454 4.7.0 ")
    for n in range(2):
        assert login(f"guess {n}", f"192.0.2.{n}").startswith(b"-ERR [AUTH] ")
    assert login(PASSWORD, OWNER).startswith(b"+OK "), "from where he was"
    assert login(PASSWORD, OWNER, "submission").startswith(b"235 ")
    shown = json.loads(command("auth-failures", "--json").stdout)["failures"]
    counted = {one["name"]: one["count"] for one in shown}
    assert counted == {JOE: 5, GUESSER: 3, "192.0.2.0": 1, "192.0.2.1": 1}
    assert {one["name"] for one in shown if one["until"]} == {JOE, GUESSER}
    assert command("auth-failures", "--clear-all").returncode == 0
    assert login(PASSWORD, GUESSER, "submission").startswith(b"235 ")
    assert not any(word in guarded.said for word in (PASSWORD, "an old password", "guess 1"))
