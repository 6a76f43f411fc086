"""What `check-config` says of targets that are no longer there, and of loops."""

from __future__ import annotations

import pytest

from postoffice.accounts import directories
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.doctor import dead_ends
from postoffice.model.address import Address
from postoffice.model.alias import DISCARD, REFUSE, Alias, Domain
from postoffice.testing import ImmediateExecutor, finish

ANN, BOB = "ann@example.net", "bob@example.net"


def targets(*names):
    return tuple(Address.parse(name if "@" in name else f"{name}@example.net") for name in names)


@pytest.fixture
def directory(run, office):
    """The office's directory, which nothing checks."""
    for name in (ANN, BOB):
        run("account", "add", name, "--generate")
    directory = SQLiteDirectory(str(office / "state" / "accounts.db"), ImmediateExecutor())
    finish(directory.start())
    yield directory
    finish(directory.stop())


@pytest.fixture
def warnings(ask):
    def warnings():
        said = ask("check-config")["warnings"]
        return [one for one in said if "target" in one]

    return warnings


def add(directory, name, *to, **fields):
    assert finish(directory.add_alias(Alias(f"{name}@example.net", targets(*to), **fields)))


def test_what_leads_somewhere_is_not_reported(directory, warnings):
    add(directory, "info", "ann", "bob+x", "left", "null", "abuse", "joe@elsewhere.example")
    add(directory, "left", kind=REFUSE, words="She has left")
    add(directory, "null", kind=DISCARD)
    finish(directory.set_forward(BOB, targets("ann"), False))
    finish(directory.set_state(ANN, "disabled"))
    assert warnings() == []


def test_targets_that_are_not_there_and_loops_are_reported(directory, warnings):
    add(directory, "info", "ann", "gone", "nested")
    add(directory, "nested", "gone+x", "ann")
    add(directory, "a", "b")
    add(directory, "b", "a")
    finish(directory.set_forward(ANN, targets("lost"), True))
    finish(directory.set_domain(Domain("example.net", catch_all=())))
    finish(directory.add_domain("example.com"))
    finish(directory.set_domain(Domain("example.com", catch_all=targets("nobody@example.com"))))
    assert [one for one in warnings() if "loop" not in one] == [
        "ann@example.net has the target lost@example.net: there is no such address",
        "info@example.net has the target gone@example.net: there is no such address",
        "nested@example.net has the target gone+x@example.net: there is no such address",
    ]
    assert [one.partition(" -> ")[0] for one in warnings() if "loop" in one] == [
        "*@example.com has the target nobody@example.com: a loop of aliases: *@example.com",
        "a@example.net has the target b@example.net: a loop of aliases: b@example.net",
        "b@example.net has the target a@example.net: a loop of aliases: a@example.net",
    ]


def test_of_many_the_first_are_shown(directory, warnings, monkeypatch):
    monkeypatch.setattr(directories, "PAGE", 2)
    monkeypatch.setattr(dead_ends, "SHOWN", 3)
    for number in range(5):
        add(directory, f"a{number}", f"gone{number}")
    said = warnings()
    assert len(said) == 4
    assert said[-1] == "2 more targets lead nowhere"


def test_aliases_in_files_are_looked_at_too(run, office, warnings):
    (office / "state" / "staff.yaml").write_text(
        "domains: {example.org: }\naccounts:\naliases: {info@example.org: [nobody@example.org]}\n"
    )
    file = office / "postoffice.yaml"
    both = "kind: yaml\n    path: staff.yaml\n  - kind: sqlite"
    file.write_text(file.read_text().replace("kind: sqlite", both, 1))
    assert warnings() == [
        "info@example.org has the target nobody@example.org: there is no such address"
    ]


def test_the_postmaster_may_be_an_alias_that_leads_somewhere(directory, ask, office):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("postmaster: postmaster@", "postmaster: chief@"))

    def said():
        return [one for one in ask("check-config")["warnings"] if "postmaster" in one]

    add(directory, "chief", "ann", "bob")
    assert said() == []
    assert ask("explain", "rcpt", "abuse@example.net")["accepted"]
    for name in (ANN, BOB):
        finish(directory.set_state(name, "disabled"))
    assert said() == ["mail to the postmaster is refused: 550 5.2.1 This mailbox is disabled"]
    finish(directory.set_alias(Alias("chief@example.net", targets("chief"))))
    (why,) = said()
    assert why.startswith("mail to the postmaster gets a temporary error: a loop of aliases")
