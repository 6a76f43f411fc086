"""`postoffice directory create-schema`, the commands over its tables, and what is checked."""

from __future__ import annotations

import pytest


@pytest.fixture
def server(postgresql):
    postgresql.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS postoffice CASCADE")
    return postgresql


def configure(office, keys: str, kind: str = "postgresql") -> None:
    """The office has its accounts in a directory of this kind, with these keys."""
    pytest.importorskip({"postgresql": "psycopg", "ldap": "ldap"}[kind])
    config = office / "postoffice.yaml"
    text = config.read_text().replace("    path: accounts.db\n", "")
    if kind != "postgresql":
        text = text.replace("    key_file: accounts.key\n", "")
    config.write_text(text.replace("  - kind: sqlite\n", f"  - kind: {kind}\n{keys}\n"))


@pytest.fixture
def in_postgresql(office, server):
    configure(office, f"    connection: {server.conninfo}")
    return office


def test_every_command_works_over_tables_of_ours(ask, run, in_postgresql):
    before = run("account", "list", status=1)
    assert "run `postoffice directory create-schema`" in before.stderr
    assert ask("directory", "create-schema") == {"created": True}
    assert "already exists" in run("directory", "create-schema", status=1).stderr
    run("domain", "add", "example.net")
    run("account", "add", "ann@example.net", "--generate")
    run("account", "set", "ann@example.net", "--quota", "1 GiB")
    run("account", "set", "ann@example.net", "--generate-shared-secret")
    [ann] = ask("account", "list")["accounts"]
    assert ann["address"] == "ann@example.net"
    assert ask("account", "show", "ann@example.net")["quota"]["octets"] == 1 << 30
    run("account", "rename", "ann@example.net", "anne@example.net")
    run("account", "remove", "anne@example.net")
    assert ask("account", "list")["accounts"] == []


def test_a_backup_has_the_mail_and_leaves_the_database_to_others(ask, run, in_postgresql):
    run("directory", "create-schema")
    run("domain", "add", "example.net")
    run("account", "add", "ann@example.net", "--generate")
    folder = in_postgresql / "state" / "maildrops" / "example.net" / "ann" / "new"
    folder.mkdir(parents=True)
    (folder / "1700000000.M1P1Q1.h,S=14").write_bytes(b"Subject: x\r\n\r\n")
    run("backup", "whole.tar")
    run("backup", "one.tar", "--maildrop", "ann@example.net")
    (folder / "1700000000.M1P1Q1.h,S=14").unlink()
    [ann] = ask("restore", "one.tar", "--maildrop", "ann@example.net")["maildrops"]
    assert (ann["account"], ann["messages"]) == ("there", 1)


def test_what_is_printed_makes_the_same(ask, run, in_postgresql, server):
    server.sql(run("directory", "create-schema", "--print").stdout)
    assert ask("domain", "list")["domains"] == []
    assert "CREATE TABLE account" in ask("directory", "create-schema", "--print")["sql"]


def test_where_nothing_is_of_that_kind_it_is_refused(run, office):
    said = run("directory", "create-schema", status=1).stderr
    assert "no directory under accounts: is of kind postgresql" in said


def test_a_server_that_is_down_is_told(run, in_postgresql, server):
    config = in_postgresql / "postoffice.yaml"
    config.write_text(config.read_text().replace("host=", "host=/nowhere"))
    assert "connecting to PostgreSQL failed" in run("directory", "create-schema", status=1).stderr
    assert "connecting to PostgreSQL failed" in run("domain", "list", status=1).stderr


@pytest.mark.parametrize(
    ("connection", "more", "problem"),
    [
        ("nonsense", "", "what libpq connects by"),
        ("dbname=x", "find: SELECT 1", "accounts[0].domain: it is needed, as find is given"),
        ("dbname=x", "alias: SELECT 1", "accounts[0].find: it is needed, as alias is given"),
        ("dbname=x", "{find: a = %x, domain: x}", "accounts[0].find: the variable %x is not known"),
    ],
)
def test_what_makes_no_sense_is_told(ask, office, connection, more, problem):
    lines = more.strip("{}").split(", ") if more else []
    configure(office, "\n".join(f"    {line}" for line in (f"connection: {connection}", *lines)))
    problems = ask("check-config", status=2)["problems"]
    assert any(problem in f"{one['key']}: {one['text']}" for one in problems), problems


LDAP = ["uri: ['ldaps://x.example']", "base: dc=x", "domains: [example.net]"]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (["uri: [http://x]"], "accounts[0].uri"),
        (["base: dc=x"], "accounts[0].uri"),
        ([*LDAP, "filter: (mail=%{pass})"], "accounts[0].filter: the variable %{pass} is not"),
        ([*LDAP, "starttls: true"], "accounts[0].starttls: it is for ldap:// only"),
        ([*LDAP, "bind_dn: cn=x"], "accounts[0].bind_password_file: bind_dn needs a password"),
        ([*LDAP, "bind_password_file: none"], "accounts[0].bind_password_file: it cannot be read"),
    ],
)
def test_what_makes_no_sense_of_an_ldap_server_is_told(ask, office, keys, problem):
    configure(office, "\n".join(f"    {line}" for line in keys), "ldap")
    problems = ask("check-config", status=2)["problems"]
    assert any(problem in f"{one['key']}: {one['text']}" for one in problems), problems


@pytest.mark.parametrize("postmaster", ["postmaster@example.net", "postmaster@example.org"])
def test_an_ldap_server_that_cannot_be_reached_is_told(run, office, postmaster):
    config = office / "postoffice.yaml"
    text = config.read_text().replace(
        "postmaster: postmaster@example.net", f"postmaster: {postmaster}"
    )
    config.write_text(text)
    (office / "password").write_text("secret\n")
    more = ("bind_dn: cn=x", f"bind_password_file: {office / 'password'}", "stale: 2 h")
    configure(office, "\n".join(f"    {line}" for line in (*LDAP, *more)), "ldap")
    assert "Can't contact LDAP server" in run("check-config", status=1).stderr
