"""What is likely a mistake: a person is asked, a script is warned, and it is done."""

from __future__ import annotations

import pytest

from postoffice.accounts.password_rules import weakness
from postoffice.accounts.passwords import generate_password
from postoffice.cli.confirmation import SMALL, smallness

ANN = "ann.smith@example.net"
WEAK = [
    "x", "sesame", "1234567", "ann.smith", "Ann.Smith1", ANN, ANN.upper(), "example.net",
    "password", "Password", "password1", "PASSWORD123!", "passwort", "aaaaaaaa", "12345678",
    "1234567890", "987654321", "пароль",
]  # fmt: skip
STRONG = ["correct horse", "p4ssw0rdly", "ann.smithy", "a-password", "13572468", "длинный пароль"]


@pytest.fixture
def at_a_terminal(monkeypatch):
    for module in ("new_password", "confirmation"):
        monkeypatch.setattr(f"postoffice.cli.{module}.on_a_terminal", lambda: True)


@pytest.mark.parametrize("password", WEAK)
def test_scripts_are_warned_of_a_weak_password_and_it_is_set(run, office, password):
    done = run("account", "add", ANN, "--password-stdin", text=password)
    assert done.stdout == f"{ANN} is added\n"
    assert done.stderr.startswith("warning: the password ")
    assert password not in done.stderr or password in ("x", "password", "passwort")


@pytest.mark.parametrize("password", STRONG)
def test_nothing_is_said_of_others(run, office, password):
    done = run("account", "add", ANN, "--password-stdin", text=password)
    assert done.stderr == ""


def test_what_is_made_up_is_never_weak():
    assert not any(weakness(generate_password().encode(), ANN) for _ in range(100))


@pytest.mark.parametrize(
    "words",
    [("account", "add", ANN), ("account", "passwd", "postmaster@example.net")],
    ids=" ".join,
)
def test_people_are_asked_until_they_are_content(run, office, at_a_terminal, words):
    said = run(*words, text="sesame\nsesame\nn\na longer one\na longer one\n")
    assert said.stderr.count("easily guessed. Use it? [y/N]") == 1
    said = run("account", "passwd", words[-1], text="sesame\nsesame\ny\n")
    assert said.stdout == f"{words[-1]} has a new password\n"


def test_so_it_is_with_shared_secrets(run, office):
    run("account", "add", ANN, "--generate")
    done = run("account", "set", ANN, "--shared-secret-stdin", text="12345678")
    assert "is digits in a row" in done.stderr


@pytest.mark.parametrize("size", ["1", "5", "1000", "63KiB"])
@pytest.mark.parametrize(
    "words",
    [
        ("account", "add", ANN, "--generate"),
        ("account", "set", "postmaster@example.net"),
        ("domain", "add", "example.org"),
        ("domain", "set", "example.net"),
    ],
    ids=" ".join,
)
def test_quotas_that_hold_nothing_are_doubted(run, office, at_a_terminal, monkeypatch, words, size):
    no = run(*words, "--quota", size, text="n\n", status=1)
    assert "holds hardly a message; units are KiB" in no.stderr
    yes = run(*words, "--quota", size, text="y\n")
    assert "Go on?" in yes.stderr


def test_scripts_are_warned_of_such_a_quota(run, ask, office):
    done = run("account", "set", "postmaster@example.net", "--quota", "5")
    assert done.stderr.startswith("warning: a quota of 5 octets")
    assert ask("account", "set", "postmaster@example.net", "--quota", "5")["changed"]


@pytest.mark.parametrize("octets", [None, 0, SMALL, 1 << 30])
def test_other_quotas_are_not(octets):
    assert smallness(octets) == ""


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("quota:\n  bytes: 5\n", "quota.bytes"),
        ("quota:\n  bytes: 20 KiB\n", "quota.bytes"),
        ("quota:\n  postmaster: 5\n", "quota.postmaster"),
    ],
)
def test_check_config_warns_of_them(run, ask, office, said, key):
    path = office / "postoffice.yaml"
    lines = path.read_text().split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("quota:"))
    end = next(n for n in range(at + 1, len(lines)) if lines[n][:1] not in ("", " ", "#"))
    path.write_text("\n".join([*lines[:at], *said.split("\n"), *lines[end:]]))
    (warning,) = [one for one in ask("check-config")["warnings"] if "hardly" in one]
    assert f"postoffice.yaml:{at + 2}: {key}: a quota of" in warning
