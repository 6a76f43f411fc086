"""Accounts in a PostgreSQL and in a slapd, which go away and come back under the real daemon."""

from __future__ import annotations

import poplib
import smtplib
from contextlib import contextmanager

import pytest

from tests.servers import LDAP, PostgreSQL

pytest.importorskip("psycopg")
pytest.importorskip("ldap")

ANN, JOE, SUE = "ann@example.net", "joe@example.net", "sue@example.org"
ENTRIES = f"""\
dn: uid=sue,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: sue
cn: sue
sn: sue
mail: {SUE}
userPassword: pw of sue
"""
PASSWORDS = {JOE: "pw of joe", SUE: "pw of sue"}


@pytest.fixture(scope="module")
def servers():
    made = []
    try:
        for kind in (PostgreSQL, LDAP):
            made.append(kind())
        made[1].change("ldapadd", ENTRIES)
        yield made
    finally:
        for server in made:
            server.remove()


@pytest.fixture
def running(servers, start, written, command):
    postgresql, ldap = servers
    written(
        f"""
accounts:
  - kind: ldap
    uri: ['{ldap.uri}']
    domains: [example.org]
    base: ou=people,{ldap.base}
    bind_dn: cn=reader,{ldap.base}
    bind_password_file: {ldap.folder}/reader
  - kind: postgresql
    connection: {postgresql.conninfo}
"""
    )
    (ldap.folder / "reader").write_text("may read\n")
    for words, text in (
        (("directory", "create-schema"), ""),
        (("domain", "add", "example.net"), ""),
        (("account", "add", "postmaster@example.net", "--generate"), ""),
        (("account", "add", ANN, "--generate"), ""),
        (("account", "add", JOE, "--password-stdin"), PASSWORDS[JOE]),
    ):
        done = command(*words, text=text)
        assert done.returncode == 0, done.stderr
    return start().open()


@contextmanager
def stranger(running):
    with smtplib.SMTP("127.0.0.1", running.smtp, timeout=60) as client:
        client.ehlo()
        client.mail("a@example.com")
        yield client


def told(running, name) -> str:
    """The code, and the status, for a recipient."""
    with stranger(running) as client:
        code, text = client.rcpt(name)
        return f"{code} {text.split()[0].decode()}"


def post(running, name) -> None:
    with stranger(running) as client:
        assert client.rcpt(name)[0] == 250
        assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250


def logged_in(running, name) -> int:
    """How many messages there are."""
    client = poplib.POP3("127.0.0.1", running.pop3, timeout=60)
    try:
        client.user(name)
        client.pass_(PASSWORDS[name])
        return client.stat()[0]
    finally:
        client.quit()


def test_what_is_down_is_for_later_and_what_is_known_goes_on(running, servers):
    for name in (JOE, SUE):
        post(running, name)
        assert logged_in(running, name) == 1
    assert told(running, "nobody@example.net") == told(running, "nobody@example.org") == "550 5.1.1"
    for server in servers:
        server.stop()
    for name in (JOE, SUE):
        post(running, name)
    for name in (ANN, "nobody@example.net", "nobody@example.org"):
        assert told(running, name) == "451 4.3.0"
    assert logged_in(running, JOE) == 2, "his password is verified here"
    with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/TEMP\]"):
        logged_in(running, SUE)
    for server in servers:
        server.start()
    while told(running, ANN) == "451 4.3.0":  # as soon as the pause is over
        pass
    while told(running, "nobody@example.org") == "451 4.3.0":
        pass
    assert told(running, ANN) == "250 2.1.5"
    assert told(running, "nobody@example.net") == told(running, "nobody@example.org") == "550 5.1.1"
    for name in (JOE, SUE):
        assert logged_in(running, name) == 2
    assert "Traceback" not in running.said
