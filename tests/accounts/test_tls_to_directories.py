"""TLS to a PostgreSQL and to a slapd: no password goes to a server whose certificate is wrong."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.cli import self_signed
from postoffice.testing import ImmediateExecutor, finish
from tests.servers import HOSTS, LDAP, PostgreSQL

HERE, OTHER = HOSTS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed.write(str(tmp_path_factory.mktemp("tls")), ["mail.example.net"])


@pytest.fixture(scope="module")
def over_tls(certificate):
    """Makes a server with a certificate; it goes in the end."""
    made = []

    def over_tls(kind):
        made.append(kind(certificate))
        return made[-1]

    yield over_tls
    for server in made:
        server.remove()


@pytest.fixture(scope="module")
def postgresql_with_tls(over_tls):
    pytest.importorskip("psycopg")
    return over_tls(PostgreSQL)


@pytest.fixture(scope="module")
def slapd_with_tls(over_tls):
    pytest.importorskip("ldap")
    return over_tls(LDAP)


def from_postgresql(server, host, authority):
    from postoffice.accounts.postgresql_connections import PostgreSQLConnections

    rootcert = authority or "/nowhere/root.crt"
    conninfo = f"host={host} port={server.port} dbname=mail user=postoffice sslmode=verify-full"
    connections = PostgreSQLConnections(f"{conninfo} sslrootcert={rootcert}", 30)
    try:
        ask = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return connections.read(lambda connection: connection.execute(ask).fetchone()[0])
    finally:
        connections.close()


def test_postgresql_is_asked_over_tls(postgresql_with_tls, certificate):
    found = from_postgresql(postgresql_with_tls, HERE, certificate["certificate"])
    assert found.startswith("TLSv1.")


@pytest.mark.parametrize(
    ("host", "known", "why"),
    [
        (OTHER, True, 'does not match host name "127.0.0.2"'),
        (HERE, False, "root certificate file .* does not exist"),
    ],
)
def test_another_postgresql_is_not(postgresql_with_tls, certificate, host, known, why):
    authority = certificate["certificate"] if known else ""
    with pytest.raises(Unavailable, match=f"connecting to PostgreSQL failed: .*{why}"):
        from_postgresql(postgresql_with_tls, host, authority)


def in_ldap(server, host, authority):
    from postoffice.accounts.ldap_connections import LDAPServer
    from postoffice.accounts.ldap_directory import LDAPDirectory, LDAPSearch

    who = {"bind_dn": f"cn=reader,{server.base}", "bind_password": "may read"}
    directory = LDAPDirectory(
        LDAPServer((f"ldaps://{host}:{server.port}",), 30, ca_file=authority, **who),
        ImmediateExecutor(),
        Clock(),
        LDAPSearch(f"ou=people,{server.base}", "(mail=%{user})"),
        ["example.net"],
        stale=0,
    )
    try:
        return finish(directory.find("nobody@example.net"))
    finally:
        finish(directory.stop())


def test_a_slapd_is_asked_over_tls(slapd_with_tls, certificate):
    assert in_ldap(slapd_with_tls, HERE, certificate["certificate"]) is None


@pytest.mark.parametrize(("host", "known"), [(OTHER, True), (HERE, False)])
def test_another_slapd_is_not(slapd_with_tls, certificate, host, known):
    with pytest.raises(
        Unavailable, match=r"LDAP failed: Can't contact LDAP server.*certificate does not fit"
    ):
        in_ldap(slapd_with_tls, host, certificate["certificate"] if known else "")
