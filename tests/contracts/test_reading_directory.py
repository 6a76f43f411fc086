"""What every directory of accounts must keep that is only read (``IAccountDirectory``)."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.accounts.directories import Directories
from postoffice.accounts.file_directory import FileDirectory
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwd_file import PasswdFile
from postoffice.accounts.passwords import verify
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.config import accounts_file
from postoffice.interfaces import IAccountDirectory, IAccountListing, IAccountSettings, IAddresses
from postoffice.model.address import Quota
from postoffice.model.alias import Domain, Found
from postoffice.model.mail_policy import UNSPECIFIED
from postoffice.testing import ImmediateExecutor, finish, finish_all

ANN, JÖRG, POSTMASTER = "ann@example.net", "jörg@xn--bcher-kva.example", "postmaster@example.net"
#: Who is in each directory, and the hash of the password (tea, grüner Tee); one has none.
PEOPLE = {
    ANN: "{SSHA256.hex}e694bd87486d5c48b7782bf4288b089a0541496e46cd03158c49aabdaa41aa6c73616c74",
    JÖRG: "$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc.",
    POSTMASTER: None,
}
QUOTA = Quota(5 << 20, 100)


def written(directory):
    finish(directory.start())
    for name, secret in PEOPLE.items():
        finish(directory.add_domain(name.rpartition("@")[2]))
        finish(directory.add(name, secret))
    finish(directory.set_quota(ANN, QUOTA))
    return directory


def passwd_file(folder):
    path = folder / "passwd"
    path.write_text(
        f"ann@Example.NET:{PEOPLE[ANN]}::::::userdb_quota_rule=*:storage=5M:messages=100\n"
        f"Jörg@bücher.example:{PEOPLE[JÖRG]}\n"
        "postmaster@example.net:*::::::\n"
    )
    directory = FileDirectory(str(path), PasswdFile().parse, ImmediateExecutor())
    finish(directory.start())
    return directory


def yaml_file(folder):
    path = folder / "accounts.yaml"
    path.write_text(f"""
        domains: {{example.net: , bücher.example: }}
        accounts:
            Ann@example.net: {{password: "{PEOPLE[ANN]}", quota: {{bytes: 5 MiB, messages: 100}}}}
            JÖRG@bücher.example: {{password: {PEOPLE[JÖRG]}}}
            postmaster@example.net:
        """)
    directory = FileDirectory(str(path), accounts_file.parse, ImmediateExecutor())
    finish(directory.start())
    return directory


def by_queries(server):
    """In tables of another program."""
    from postoffice.accounts.query_directory import Query, QueryDirectory

    quotas = {ANN: "5 << 20, 100"}
    rows = ", ".join(
        f"('{name}', nullif('{secret or ''}', ''), {quotas.get(name, 'NULL, NULL')})"
        for name, secret in PEOPLE.items()
    )
    server.sql(
        "SET client_min_messages = error; DROP TABLE IF EXISTS people;"
        "CREATE TABLE people (name text, secret text, octets bigint, messages bigint);"
        f"INSERT INTO people VALUES {rows}"
    )
    queries = {
        "find": "SELECT secret AS password, octets AS quota, messages AS quota_messages"
        " FROM people WHERE name = %{user}",
        "iterate": "SELECT name AS user, secret AS password, octets AS quota,"
        " messages AS quota_messages FROM people",
        "domain": "SELECT DISTINCT 1 FROM people WHERE split_part(name, '@', 2) = %{user|domain}",
    }
    read = {key: Query.read(key, text) for key, text in queries.items()}
    how = (server.conninfo, ImmediateExecutor(), Clock(), read)
    return started(QueryDirectory(*how, timeout=60, stale=0))


def in_ldap(server):
    """In a slapd, in an attribute that may have any letters; it has no quota of messages."""
    from postoffice.accounts.ldap_connections import LDAPServer
    from postoffice.accounts.ldap_directory import LDAPDirectory, LDAPSearch

    if not server.peopled:
        server.peopled = True
        for number, (name, secret) in enumerate(PEOPLE.items()):
            server.change(
                "ldapadd",
                f"dn: cn={number},ou=people,{server.base}\nobjectClass: inetOrgPerson\n"
                f"sn: x\ndisplayName: {name}\n"
                + (f"userPassword: {secret}\n" if secret else "")
                + ("employeeNumber: 5 MiB\n" if name == ANN else ""),
            )
    search = LDAPSearch(
        f"ou=people,{server.base}", "(displayName=%{user})",
        address="displayName", password="userPassword", quota="employeeNumber",
        iterate="(objectClass=inetOrgPerson)",
    )  # fmt: skip
    who = {"bind_dn": f"cn=reader,{server.base}", "bind_password": "may read"}
    domains = {name.rpartition("@")[2] for name in PEOPLE}
    how = (LDAPServer((server.uri,), 60, **who), ImmediateExecutor(), Clock(), search, domains)
    return started(LDAPDirectory(*how, stale=0))


def started(directory):
    finish(directory.start())
    return directory


MAKERS = {
    "memory": lambda _: written(MemoryDirectory()),
    "sqlite": lambda folder: written(SQLiteDirectory(str(folder / "a.db"), ImmediateExecutor())),
    "passwd-file": passwd_file,
    "yaml": yaml_file,
}
#: Those with a real server, which is a fixture.
SERVERS = {"queries": ("postgresql", by_queries), "ldap": ("slapd", in_ldap)}


@pytest.fixture(params=[*MAKERS, *SERVERS])
def directory(request, tmp_path):
    if request.param in SERVERS:
        name, make = SERVERS[request.param]
        directory = make(request.getfixturevalue(name))
    else:
        directory = MAKERS[request.param](tmp_path)
    yield directory
    finish(directory.stop())


def sees_to(interface, directory):
    """A directory need not have what is optional."""
    if not interface.providedBy(directory):
        pytest.skip(f"it has no {interface.__name__}")
    assert verifyObject(interface, directory)


def look_up(directory, name):
    found = directory.look_up(name)
    return finish(found) if isinstance(found, Awaitable) else found


def test_it_provides_what_it_says(directory):
    for interface in (IAccountDirectory, IAddresses):
        assert verifyObject(interface, directory)


def test_it_finds_who_is_in_it_and_nobody_else(directory):
    for _ in range(2):
        for name, secret in PEOPLE.items():
            found = finish(directory.find(name))
            assert (found.address, found.maildrop, found.enabled) == (name, name, True)
            assert (found.secret is None) == (secret is None)
            assert finish(directory.serves(name.rpartition("@")[2]))
        for name in ("joe@example.net", "ann@example.com", "ANN@example.net", "ann", "@", ""):
            assert finish(directory.find(name)) is None
        for domain in ("example.com", "bücher.example", "EXAMPLE.net", ""):
            assert not finish(directory.serves(domain))


def in_order(accounts):
    """LDAP servers do not sort."""
    return sorted(accounts, key=lambda one: one.address)


def test_it_lists_its_domains_and_accounts(directory):
    sees_to(IAccountListing, directory)
    assert finish(directory.domains()) == ["example.net", "xn--bcher-kva.example"]
    assert finish_all(directory.each_account()) == [
        finish(directory.find(name)) for name in sorted(PEOPLE)
    ]
    for domain, names in (("example.net", [ANN, POSTMASTER]), ("example.org", [])):
        listed = in_order(finish_all(directory.each_account(domain)))
        assert [one.address for one in listed] == names


def test_accounts_are_listed_page_by_page(directory, monkeypatch):
    """However many there are: a page is read when the one before it is done with."""
    sees_to(IAccountListing, directory)
    found = finish_all(directory.each_account())
    for name in ("query_directory", "sql_directory", "ldap_connections"):
        if module := sys.modules.get(f"postoffice.accounts.{name}"):
            monkeypatch.setattr(module, "PAGE", 2)
    assert in_order(finish_all(directory.each_account())) == found
    assert finish_all(directory.each_account("example.net")) == [
        one for one in found if one.address.endswith("@example.net")
    ]

    async def first():
        async with aclosing(directory.each_account()) as each:
            return await anext(each)

    assert finish(first()) == found[0]


def test_what_it_says_of_a_password_verifies_it(directory):
    assert verify(finish(directory.find(ANN)).secret, b"tea")
    assert verify(finish(directory.find(JÖRG)).secret, "grüner Tee".encode())
    assert not verify(finish(directory.find(POSTMASTER)).secret, b"")


def test_it_says_the_quota_of_those_who_have_one(directory):
    assert finish(directory.find(ANN)).quota in (QUOTA, Quota(QUOTA.octets))
    assert finish(directory.find(POSTMASTER)).quota == Quota()
    sees_to(IAccountSettings, directory)
    assert finish(directory.account_settings()) == {(QUOTA, UNSPECIFIED), (Quota(), UNSPECIFIED)}


def test_a_look_up_finds_the_domain_and_the_account(directory):
    net = Domain("example.net")
    ann = finish(directory.find(ANN))
    assert look_up(directory, ANN) == Found(net, ann)
    assert look_up(directory, "joe@example.net") == look_up(directory, "@example.net") == Found(net)
    assert look_up(directory, "ann@example.com") == Found(None)
    assert look_up(Directories([MemoryDirectory(), directory]), ANN) == Found(net, ann)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(st.characters(exclude_categories=[]), max_size=400))
def test_any_name_can_be_asked_for(directory, name):
    assert finish(directory.find(name)) is None
    assert finish(directory.serves(name)) is False
    assert look_up(directory, name) == Found(None)
