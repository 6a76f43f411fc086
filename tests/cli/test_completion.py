"""What a shell offers behind ``postoffice``."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from postoffice.cli import main

ANN, BOB, POSTMASTER = "ann@example.net", "bob@example.net", "postmaster@example.net"


@pytest.fixture
def offers(run):
    """What is offered for the last of these words."""

    def offers(*words):
        *before, last = words
        found = ShellComplete(main, {}, "postoffice", "_POSTOFFICE_COMPLETE")
        return [one.value for one in found.get_completions(before, last)]

    return offers


@pytest.fixture
def people(furnish):
    accounts = (f"account add {name} --generate" for name in (ANN, BOB))
    furnish(*accounts, "domain add example.org")


def test_commands_are_offered(offers):
    assert "maildrop" in offers("")
    assert offers("maildrop", "ver") == ["verify"]


@pytest.mark.parametrize(
    "words",
    [
        ("account", "show"),
        ("account", "remove"),
        ("account", "device", "list"),
        ("account", "passwd", "--generate"),
        ("maildrop", "purge", "--over-quota"),
        ("explain", "rcpt"),
        ("explain", "login"),
        ("session", "end"),
    ],
    ids=" ".join,
)
def test_accounts_are_offered(people, offers, words):
    assert offers(*words, "") == [ANN, BOB, POSTMASTER]
    assert offers(*words, "b") == [BOB]
    assert offers(*words, "x") == []


@pytest.mark.parametrize("words", [("domain", "show"), ("domain", "remove"), ("account", "list")])
def test_domains_are_offered(people, offers, words):
    assert offers(*words, "example.") == ["example.net", "example.org"]


@pytest.mark.parametrize("words", [("account", "add"), ("domain", "add")])
def test_what_is_to_be_made_is_not_offered(people, offers, words):
    assert offers(*words, "") == []


@pytest.mark.parametrize("before", [True, False])
def test_the_configuration_may_be_named(run, offers, tmp_path, before):
    run("init", "there", "--hostname", "mail.example.com", "--domain", "example.com")
    given = ("--config", str(tmp_path / "there" / "postoffice.yaml"))
    words = (*given, "account", "show") if before else ("account", "show", *given)
    assert offers(*words, "") == ["postmaster@example.com"]


@pytest.mark.parametrize("broken", ["", "hostname: [", "hostname: x\nstate: /nowhere\n"])
def test_with_a_wrong_configuration_nothing_is_offered_or_said(offers, tmp_path, capfd, broken):
    (tmp_path / "postoffice.yaml").write_text(broken)
    assert offers("account", "show", "") == []
    assert capfd.readouterr() == ("", "")


def test_where_there_is_no_state_none_is_made(office, offers):
    (office / "state").rename(office / "elsewhere")
    assert offers("account", "show", "") == []
    assert not (office / "state").exists()


def test_where_the_database_cannot_be_read_nothing_is_offered(people, office, offers, capfd):
    (office / "state" / "accounts.db").write_bytes(b"no database at all, but some octets" * 100)
    assert offers("account", "show", "") == []
    assert capfd.readouterr() == ("", "")
