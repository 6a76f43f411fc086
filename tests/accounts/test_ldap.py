"""Accounts in a real slapd, which is stopped, started and frozen."""

from __future__ import annotations

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.accounts.checker import Checker
from postoffice.accounts.circuit_breaker import LONGEST_PAUSE, Unavailable
from postoffice.accounts.credentials import PlainLogin
from postoffice.interfaces import IAccountDirectory, IAddresses, IPasswordVerifier
from postoffice.model.address import Account, Address, Quota
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.envelope import Client
from postoffice.model.errors import SettingError, TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish
from tests.servers import LDAP

pytest.importorskip("ldap")
import ldap

from postoffice.accounts.ldap_connections import LDAPServer
from postoffice.accounts.ldap_directory import LDAPDirectory, LDAPSearch, escaped

JOE, ANN, SUE = (f"{name}@example.net" for name in ("joe", "ann", "sue"))
PEOPLE = "ou=people,dc=example,dc=net"
NET = Domain("example.net")
FILTER = "(|(mail=%{user})(mailLocalAddress=%{user}))"


def person(name: str, *more: str) -> str:
    lines = (
        f"dn: uid={name},{PEOPLE}",
        "objectClass: inetOrgPerson",
        "objectClass: inetLocalMailRecipient",
        f"uid: {name}",
        f"cn: {name}",
        f"sn: {name}",
        *more,
    )
    return "\n".join(lines) + "\n\n"


ENTRIES = (
    person(
        "joe", f"mail: {JOE}", "userPassword: pw of joe", "mailLocalAddress: Info@example.net",
        "mailLocalAddress: sales@example.net", "employeeNumber: 1048576", "employeeType: j@x.org",
    )
    + person("ann", f"mail: {ANN}", "userPassword: {SSHA}x")
    + person("sue", f"mail: {SUE}")
    + person("two", "mail: one@example.net", "mail: other@example.net")
    + person("bad", "mail: bad@example.net", "employeeNumber: many")
    + person("tom", "mail: tom@example.net") + person("tim", "mail: tom@example.net")
    + person("star", "mail: *@example.net")
)  # fmt: skip


@pytest.fixture(scope="module")
def own_server():
    server = LDAP()
    server.change("ldapadd", ENTRIES)
    yield server
    server.remove()


@pytest.fixture
def server(own_server):
    if own_server.process is None:
        own_server.start()
    return own_server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def made(server, clock):
    """Makes a directory, started; it is stopped in the end."""
    all_made = []

    def made(search=None, stale=3600.0, timeout=5.0, **how):
        who = {"bind_dn": f"cn=reader,{server.base}", "bind_password": "may read", **how}
        directory = LDAPDirectory(
            LDAPServer(**{"uris": (server.uri,), "timeout": timeout, **who}),
            ImmediateExecutor(),
            clock,
            search or LDAPSearch(PEOPLE, FILTER, aliases=("mailLocalAddress",)),
            ["example.net"],
            stale=stale,
        )
        finish(directory.start())
        all_made.append(directory)
        return directory

    yield made
    for directory in all_made:
        finish(directory.stop())


@pytest.fixture
def directory(made):
    return made()


def asked(directory, name):
    found = directory.look_up(name)
    return found if isinstance(found, Found) else finish(found)


def test_it_provides_what_it_says(directory):
    for interface in (IAccountDirectory, IAddresses, IPasswordVerifier):
        assert verifyObject(interface, directory)


def test_accounts_and_their_other_addresses_are_found(directory):
    joe = Account(JOE, JOE)
    assert asked(directory, JOE) == Found(NET, joe)
    assert finish(directory.find(JOE)) == joe
    for name in ("info@example.net", "sales@example.net"):
        assert asked(directory, name) == Found(NET, Alias(name, (Address("joe", "example.net"),)))
        assert finish(directory.find(name)) is None
    for name in ("nobody@example.net", " joe@example.net", "joe @example.net"):
        assert asked(directory, name) == Found(NET)
    for name in ("joe@example.org", "", "\udcff@\udcff"):
        assert asked(directory, name) == Found(None)
    assert finish(directory.serves("example.net"))
    assert not finish(directory.serves("example.org"))
    assert asked(directory, "@example.net") == Found(NET)


def test_attributes_say_more(made):
    directory = made(
        LDAPSearch(
            PEOPLE, FILTER, password="UserPassword", quota="employeeNumber", maildrop="employeeType"
        )
    )
    joe = finish(directory.find(JOE))
    assert (joe.secret, joe.maildrop) == ("{PLAIN}pw of joe", "j@x.org")
    assert (joe.shared, joe.quota) == ("pw of joe", Quota(1 << 20))
    assert finish(directory.find(ANN)).secret == "{SSHA}x"
    assert finish(directory.find(SUE)) == Account(SUE, SUE)
    assert not finish(directory.verify(finish(directory.find(SUE)), b"x"))


def test_without_an_attribute_for_the_address_the_filter_decides(made):
    directory = made(LDAPSearch(PEOPLE, "(uid=%{user|username})", address=""))
    assert finish(directory.find(JOE)) == Account(JOE, JOE)
    assert finish(directory.find("nobody@example.net")) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("one@example.net", "has 2 values of mail: one must be the account's address"),
        ("tom@example.net", r"LDAP finds 2 entries for \(|"),
    ],
)
def test_what_is_not_clear_means_later(directory, name, why):
    with pytest.raises(TemporaryFailure, match=why):
        asked(directory, name)


def test_nonsense_means_later(made):
    directory = made(LDAPSearch(PEOPLE, FILTER, quota="employeeNumber"))
    with pytest.raises(TemporaryFailure, match="its employeeNumber makes no sense"):
        asked(directory, "bad@example.net")


@pytest.mark.parametrize(
    ("search", "why"),
    [
        (LDAPSearch(PEOPLE, "(mail=%{user}"), "LDAP failed: Bad search filter"),
        (LDAPSearch("ou=nowhere,dc=example,dc=net", FILTER), "LDAP failed: No such object"),
    ],
)
def test_a_search_that_cannot_work_is_told_at_the_start(made, search, why):
    with pytest.raises(TemporaryFailure, match=why):
        made(search)


def test_a_base_that_goes_away_means_later(made, server):
    server.change("ldapadd", "dn: ou=new,dc=example,dc=net\nobjectClass: organizationalUnit\n")
    directory = made(LDAPSearch("ou=new,dc=example,dc=net", FILTER))
    assert finish(directory.find(JOE)) is None
    server.change("ldapmodify", "dn: ou=new,dc=example,dc=net\nchangetype: delete\n")
    with pytest.raises(TemporaryFailure, match="LDAP failed: No such object"):
        finish(directory.find(JOE))


@pytest.mark.parametrize("name", ["*", "j*e", "a)(b\\c", "joe)(uid=*", "\\2a", "\\", "%{user}"])
def test_names_are_escaped_whatever_is_in_them(directory, name):
    found = asked(directory, f"{name}@example.net").entry
    star = Account("*@example.net", "*@example.net")
    assert found == (star if name == "*" else None)


def test_a_text_is_escaped_as_the_rfc_says():
    assert escaped("a*(b)\\\0é") == "a\\2a\\28b\\29\\5c\\00é"


def test_unknown_variables_are_refused():
    with pytest.raises(SettingError, match=r"filter: the variable %\{pass\} is not known"):
        LDAPSearch(PEOPLE, "(x=%{pass})")


# -- passwords ---------------------------------------------------------------------------


def test_the_server_verifies_passwords(directory):
    joe, sue = finish(directory.find(JOE)), finish(directory.find(SUE))
    assert finish(directory.verify(joe, b"pw of joe"))
    for wrong in (b"pw of jo", b"x" * 10_000, b"\xff", b"pw of joe\0"):
        assert not finish(directory.verify(joe, wrong))
    assert not finish(directory.verify(sue, b"x")), "sue has no password"
    assert not finish(directory.verify(Account("x@example.net", "x"), b"pw of joe"))


def test_an_empty_password_never_reaches_a_bind(directory, monkeypatch):
    def bound(*_):
        pytest.fail("a bind")

    joe = finish(directory.find(JOE))
    monkeypatch.setattr(ldap.ldapobject.SimpleLDAPObject, "simple_bind_s", bound)
    for empty in (b"", b"\0", b"\0pw of joe"):
        assert not finish(directory.verify(joe, empty))


def test_searches_keep_their_own_login(directory):
    """The user's password is tried on a connection of its own."""
    for _ in range(2):
        assert finish(directory.verify(finish(directory.find(JOE)), b"pw of joe"))
        assert finish(directory.find(ANN)) == Account(ANN, ANN)


def login(checker, password):
    credentials = PlainLogin(JOE.encode(), password, Client("192.0.2.1"), "pop3")
    return finish(checker.requestAvatarId(credentials))


def test_users_log_in_with_it(directory, server, clock):
    checker = Checker([directory], ImmediateExecutor(), clock=clock.seconds)
    assert login(checker, b"pw of joe") == Account(JOE, JOE)
    for wrong in (b"", b"wrong"):
        with pytest.raises(UnauthorizedLogin):
            login(checker, wrong)
    server.stop()
    with pytest.raises(Unavailable):
        login(checker, b"pw of joe")


# -- a server that is down -----------------------------------------------------------------


def test_a_server_that_is_started_again_costs_nothing(directory, server):
    for _ in range(2):
        assert finish(directory.find(JOE)) == Account(JOE, JOE)
        server.stop()
        server.start()


def test_while_it_is_down_known_accounts_are_served_and_all_others_are_for_later(
    directory, server, clock, logged
):
    assert finish(directory.find(JOE)) == Account(JOE, JOE)
    server.stop()
    assert finish(directory.find(JOE)) == Account(JOE, JOE)
    for name in (ANN, "nobody@example.net", "info@example.net"):
        with pytest.raises(Unavailable):
            asked(directory, name)
    assert finish(directory.serves("example.net"))
    assert asked(directory, "joe@example.org") == Found(None)
    server.start()
    clock.advance(LONGEST_PAUSE)
    assert finish(directory.find(ANN)) == Account(ANN, ANN)
    assert finish(directory.find("nobody@example.net")) is None
    failed, again = logged
    assert failed.startswith("LDAP failed: Can't contact LDAP server")
    assert again == "LDAP answers again"


def test_a_server_that_says_nothing_is_down(made, server):
    directory = made(timeout=0.2, stale=0)
    assert finish(directory.find(JOE)) is not None
    server.freeze()
    try:
        with pytest.raises(Unavailable):
            finish(directory.find(JOE))
    finally:
        server.thaw()


def test_a_start_does_not_wait_for_the_server(made, server, logged):
    server.stop()
    directory = made()
    assert "mail must wait until the server answers" in logged[-1]
    with pytest.raises(Unavailable):
        finish(directory.find(JOE))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"bind_password": "wrong"}, "Invalid credentials"),
        ({"bind_dn": "cn=nobody,dc=example,dc=net"}, "Invalid credentials"),
        ({"uris": ("ldap://127.0.0.1:1",)}, "Can't contact LDAP server"),
        ({"uris": ("ldaps://127.0.0.1:1",)}, "Can't contact LDAP server"),
    ],
)
def test_what_is_wrong_with_a_connection_is_for_later_and_in_the_log(made, logged, how, why):
    directory = made(**how)
    assert any(why in line for line in logged), logged
    with pytest.raises(TemporaryFailure):
        asked(directory, "nobody@example.net")


def test_a_server_without_tls_gets_no_password(made):
    with pytest.raises(TemporaryFailure, match="unsupported extended operation"):
        made(starttls=True)
