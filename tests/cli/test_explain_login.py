"""`postoffice explain login`: who can log in, and why not; no attempt is counted."""

from __future__ import annotations

import re

import pytest
from zope.interface import implementer

from postoffice.interfaces import IAccountDirectory, IFirstLogins
from tests.cli.test_auth_failures import attempts, guessed  # noqa: F401
from twisted.plugins.postoffice_makers import SQLiteMaker

ANN, RIGHT = "ann@example.net", "correct horse battery"


@pytest.fixture
def ann(run, office):
    run("account", "add", ANN, "--password-stdin", text=RIGHT)
    return ANN


@pytest.fixture
def explained(run, ask, ann):
    """The steps, the result, and whether the login is accepted."""

    def explained(*words: str, password: str | None = None, name: str = ANN):
        given = [] if password is None else ["--password-stdin"]
        said = ask("explain", "login", name, *words, *given, text=password)
        steps = {one["step"]: one["found"] for one in said["steps"]}
        return steps, said["result"], said["accepted"]

    return explained


def test_an_account_that_can_log_in(explained, run):
    steps, result, accepted = explained()
    assert steps["account"] == f"{ANN} is in accounts[0] (sqlite)"
    assert steps["state"] == "enabled: it may log in"
    assert steps["password"].startswith("set, hashed by ARGON2ID")
    assert (result, accepted) == ("accepted with the right password", None)
    lines = run("explain", "login", ANN).stdout.splitlines()
    assert re.split(r"  +", lines[-1]) == ["login", "accepted with the right password"]


def test_the_password_is_right_or_wrong_and_no_attempt_is_counted(explained, run):
    assert explained(password=f"{RIGHT}\n")[1:] == ("accepted", True)
    steps, *said = explained(password="wrong")
    assert steps["given"] == "the password is wrong"
    assert said == ["refused: the password is wrong", False]
    assert "no wrong passwords" in run("auth-failures").stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [("nobody@example.net", "no directory has"), ("joe@far.example", "is not ours")],
)
def test_nobody(explained, name, said):
    steps, result, accepted = explained(name=name, password=RIGHT)
    assert said in steps["account"]
    assert (result, accepted) == ("refused: there is no such account", False)


def test_a_state_refuses_also_the_right_password(explained, run):
    run("account", "disable", ANN, "--why", "left us")
    steps, result, accepted = explained(password=RIGHT)
    assert "may not log in" in steps["state"]
    assert "left us" in steps["state"]
    assert (result, accepted) == ("refused: the account is disabled", False)


def test_a_service_and_the_rule_of_tls(explained):
    steps, *_ = explained("--service", "pop3")
    assert "offers" in steps["service"]
    assert "from this machine only" in steps["service"]
    _, result, accepted = explained("--service", "pop3s", password=RIGHT)
    assert (result, accepted) == ("refused: nothing listens for pop3s", False)


def test_an_app_password_with_its_limits(explained, ask):
    limits = ("--protocol", "pop3", "--network", "192.0.2.0/24")
    token = ask("account", "device", "add", ANN, "phone", *limits)["generated_password"]
    steps, *_ = explained()
    assert steps["device"] == "phone: for pop3 services, from 192.0.2.0/24"
    assert explained(password=token)[1:] == ("accepted", True)
    near = ("--service", "pop3", "--from-ip", "192.0.2.9")
    assert explained(*near, password=token)[1:] == ("accepted", True)
    for words, why in (
        (("--service", "submission"), "it is for pop3 only"),
        (("--from-ip", "198.51.100.1"), "it is for 192.0.2.0/24 only"),
    ):
        steps, result, accepted = explained(*words, password=token)
        assert steps["device"].endswith(f"refused: {why}")
        assert why in result
        assert accepted is False


def test_wrong_passwords_and_how_long_they_block(ask, ann, guessed):  # noqa: F811
    said = ask("explain", "login", ANN, "--from-ip", "192.0.2.7")
    network, account = (one["found"] for one in said["steps"] if one["step"] == "throttle")
    assert "6 wrong passwords of the network 192.0.2.7 within a day; blocked until" in network
    assert account == f"1 wrong password of the account {ANN} within a day"
    [one] = [one for one in ask("explain", "login", ANN)["steps"] if one["step"] == "throttle"]
    assert one["found"] == account


@implementer(IAccountDirectory, IFirstLogins)
class OldServer:
    """Would be asked about first logins in example.net; asking it here would fail."""

    async def start(self):
        """Nothing."""

    stop = start

    async def serves(self, domain):
        return False

    async def find(self, name):
        return None

    def asks_about(self, name):
        return name.endswith("@example.net")


def test_a_first_login_is_left_to_the_old_server(explained, office, run, monkeypatch):
    run("alias", "add", "info@example.net", ANN)
    real = SQLiteMaker.make
    made = []

    def make(*args):
        made.append(args)
        return OldServer() if len(made) % 2 else real(*args)

    monkeypatch.setattr(SQLiteMaker, "make", make)
    file = office / "postoffice.yaml"
    old = "accounts:\n  - kind: sqlite\n    path: old.db\n"
    file.write_text(file.read_text().replace("\naccounts:\n", f"\n{old}", 1))
    steps, result, accepted = explained(name="nobody@example.net", password="old")
    assert "the first login asks the old server" in steps["account"]
    assert (result, accepted) == ("accepted with the right password", None)
    assert explained(password="wrong")[1] == "refused: the password is wrong"
    assert explained(name="info@example.net", password="old")[2] is False
