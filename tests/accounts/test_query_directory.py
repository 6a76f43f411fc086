"""Accounts by the administrator's own queries, in tables as PostfixAdmin has them."""

from __future__ import annotations

from itertools import product

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.accounts.address_resolution import resolve, run
from postoffice.accounts.directories import Directories
from postoffice.accounts.password_upgrade import PasswordUpgrade
from postoffice.accounts.passwords import is_outdated, verify
from postoffice.interfaces import IAccountDirectory, IAccountListing, IAddresses, IPasswordUpgrade
from postoffice.model.address import DISABLED, ENABLED, HELD, Account, Address, Quota
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.errors import SettingError, TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish, finish_all

pytest.importorskip("psycopg")
from postoffice.accounts.query_directory import Query, QueryDirectory

TABLES = """
SET client_min_messages = error;
DROP TABLE IF EXISTS mailbox, alias, domain CASCADE;
CREATE TABLE domain (domain text PRIMARY KEY, active boolean DEFAULT true);
CREATE TABLE mailbox (
    username text PRIMARY KEY, password text, quota bigint DEFAULT 0, active boolean DEFAULT true
);
CREATE TABLE alias (address text PRIMARY KEY, goto text, active boolean DEFAULT true);
INSERT INTO domain VALUES ('example.net', true), ('example.com', false);
INSERT INTO mailbox VALUES
    ('joe@example.net', '$1$hash', 1048576, true), ('ann@example.net', '{CRYPT}x', 0, false);
INSERT INTO alias VALUES
    ('info@example.net', 'joe@example.net,ann@example.net, bob@example.org'),
    ('bad@example.net', 'nobody');
"""
FIND = "SELECT password, quota, active AS state FROM mailbox WHERE username = '%u'"
ALIAS = "SELECT goto AS target FROM alias WHERE address = %{user} AND active"
DOMAIN = "SELECT 1 AS local FROM domain WHERE domain = %{user|domain} AND active"
NET, ANN, JOE = Domain("example.net"), "ann@example.net", "joe@example.net"
LOCAL, DOMAIN_OF = "user|username", "user|domain"


@pytest.fixture(scope="module")
def server(postgresql):
    postgresql.sql(TABLES)
    return postgresql


@pytest.fixture
def made(server):

    def made(find=FIND, alias=ALIAS, domain=DOMAIN, **more):
        texts = {"find": find, "alias": alias, "domain": domain, **more}
        queries = {key: Query.read(key, text) for key, text in texts.items()}
        return QueryDirectory(
            server.conninfo, ImmediateExecutor(), Clock(), queries, timeout=30, stale=0
        )

    return made


@pytest.fixture
def directory(made):
    directory = made()
    finish(directory.start())
    yield directory
    finish(directory.stop())


def asked(directory, name):
    return finish(directory.look_up(name))


def test_it_provides_what_it_says(directory):
    assert verifyObject(IAccountDirectory, directory)
    assert verifyObject(IAddresses, directory)


def test_accounts_aliases_and_domains_are_found(directory):
    joe = Account("joe@example.net", "joe@example.net", "$1$hash", quota=Quota(1 << 20))
    assert asked(directory, "joe@example.net") == Found(NET, joe)
    assert finish(directory.find("joe@example.net")) == joe
    assert asked(directory, "ann@example.net").entry.state == DISABLED
    targets = tuple(Address(one, "example.net") for one in ("joe", "ann"))
    bob = Address("bob", "example.org")
    info = Alias("info@example.net", (*targets, bob))
    assert asked(directory, "info@example.net") == Found(NET, info)
    assert asked(directory, "nobody@example.net") == Found(NET)
    for name in ("joe@example.com", "joe@example.org", "@example.com", "", "\udcff@\udcff", "\0"):
        assert asked(directory, name) == Found(None)
    assert finish(directory.serves("example.net"))
    assert not finish(directory.serves("example.com"))


def test_a_password_is_what_other_programs_keep(directory, postgresql):
    for text, fields in (
        ("5UEC.YswLNazM", ("{CRYPT}5UEC.YswLNazM", None)),
        ("{PLAIN}tea", ("{PLAIN}tea", "tea")),
        ("{ROT13}grn", ("{ROT13}grn", None)),
        ("!", (None, None)),
        ("", (None, None)),
    ):
        postgresql.sql(f"UPDATE mailbox SET password = '{text}' WHERE username LIKE 'joe%'")
        found = finish(directory.find("joe@example.net"))
        assert (found.secret, found.shared) == fields


def test_an_account_may_log_in_from_some_networks_only(made):
    directory = made("SELECT 'x' AS password, '192.0.2.1/24,::1' AS allow_nets")
    finish(directory.start())
    assert finish(directory.find("joe@example.net")).networks == ("192.0.2.0/24", "::1/128")
    finish(directory.stop())


def test_aliases_are_followed(directory):
    found = run(resolve("info+x@example.net", "joe@example.net"), directory.look_up)
    found = finish(found)
    assert [one.address for one in found.accounts] == ["joe@example.net"]
    assert [str(one) for one in found.remote] == ["bob@example.org"]


def test_names_are_parameters_whatever_is_in_them(directory, server):
    for start, end in product(("'", '"', "$1", "%", "\\", "' OR '1'='1"), ("", "; --", "''")):
        name = f"{start}x{end}@example.net"
        assert asked(directory, name) == Found(NET)
        server.sql(f"INSERT INTO mailbox VALUES ($q${name}$q$, 'x') ON CONFLICT DO NOTHING")
        assert asked(directory, name).entry.address == name


@pytest.mark.parametrize(
    ("find", "why"),
    [
        (
            "SELECT password FROM mailbox WHERE NOT active OR quota > 0",
            "the query find returns 2 rows for joe@example.net",
        ),
        ("SELECT username FROM mailbox WHERE username = %u", "returns a column username"),
        ("SELECT quota FROM mailbox WHERE username = %u", "no column password"),
        ("SELECT 'x' AS password, 'much' AS quota", "'much' is no quota"),
        ("SELECT 'x' AS password, 'home' AS allow_nets", "allow_nets: 'home' does not appear"),
        ("SELECT 'x' AS password, -1 AS quota", "'-1' is no quota"),
        ("SELECT 'x' AS password, 'x' AS quota_messages", "'x' is no number of messages"),
        ("SELECT 'x' AS password, 'gone' AS state", "'gone' is no state"),
        ("SELECT 'x' AS password, 'nobody' AS forward", "the query find, forward: 'nobody' is not"),
        ("SELECT password FROM elsewhere", 'relation "elsewhere" does not exist'),
        ("SELEKT", "syntax error"),
        ("UPDATE mailbox SET quota = 0", "the query returns no rows"),
    ],
)
def test_nonsense_means_later(made, find, why):
    directory = made(find=find)
    with pytest.raises(TemporaryFailure, match=why):
        finish(directory.find("joe@example.net"))
    finish(directory.stop())


def test_accounts_are_listed_where_there_is_a_query_for_it(made):
    assert not IAccountListing.providedBy(made())
    people = "WHERE username IN ('joe@example.net', 'ann@example.net')"
    directory = made(iterate=f"SELECT username AS user, password FROM mailbox {people}")
    assert verifyObject(IAccountListing, directory)
    assert [one.address for one in finish_all(directory.each_account("example.net"))] == [ANN, JOE]
    assert finish_all(directory.each_account("example.org")) == []
    assert finish(directory.domains()) == ["example.net"]
    finish(directory.stop())
    for iterate, why in (
        ("SELECT 'joe' AS user, 'x' AS password", "the query iterate, user: 'joe' is not an"),
        ("SELECT 'joe@example.net' AS user", "the query iterate returns no column password"),
    ):
        directory = made(iterate=iterate)
        with pytest.raises(TemporaryFailure, match=why):
            finish_all(directory.each_account())
        finish(directory.stop())


def test_an_alias_that_leads_to_no_address_means_later(directory):
    with pytest.raises(TemporaryFailure, match="the query alias, target: 'nobody' is not"):
        asked(directory, "bad@example.net")


def test_all_columns(made):
    directory = made(
        find="SELECT 'x' AS password, 'j@example.net' AS maildrop, '10M' AS quota,"
        " 7 AS quota_messages, 'held' AS state, ARRAY['a@example.org', 'b@example.net'] AS forward,"
        " 0 AS keep_copy",
        domain="SELECT 'example.com' AS same_as, '+-' AS separators,"
        " 'joe@example.net' AS catch_all",
    )
    domain, joe = asked(directory, "joe@example.net")
    joes = (Address("joe", "example.net"),)
    assert domain == Domain("example.net", "example.com", "+-", joes)
    assert (joe.maildrop, joe.quota, joe.state) == ("j@example.net", Quota(10 << 20, 7), HELD)
    assert [str(one) for one in joe.forward] == ["a@example.org", "b@example.net"]
    assert not joe.keep_copy
    finish(directory.stop())


@pytest.mark.parametrize("value", ["true", "1", "'1'", "'Y'", "NULL", "'enabled'"])
def test_an_account_that_is_active_is_enabled(made, value):
    directory = made(find=f"SELECT 'x' AS password, {value} AS state")
    assert finish(directory.find("joe@example.net")).state == ENABLED
    finish(directory.stop())


@pytest.mark.parametrize(
    ("text", "sql", "parts"),
    [
        ("a = %u AND b = '%d'", "a = $1 AND b = $2", ("user", DOMAIN_OF)),
        ("%{user} %{user | username} %{user|domain};", "$1 $2 $3", ("user", LOCAL, DOMAIN_OF)),
        ("%n %n %{user|username}", "$1 $1 $1", (LOCAL,)),
        ("a LIKE 'x%%' AND b = %d", "a LIKE 'x%' AND b = $1", (DOMAIN_OF,)),
    ],
)
def test_dovecots_variables_become_parameters(text, sql, parts):
    assert Query.read("find", text) == Query(sql, parts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = '/mail/%u'", "a variable is inside a quoted text"),
        ("a = '%n@%d'", "a variable is inside a quoted text"),
        ("a = %{pass}", "the variable %{pass} is not known, only %{user}"),
        ("a = %w", "the variable %w is not known"),
    ],
)
def test_variables_that_cannot_be_parameters_are_refused(text, why):
    with pytest.raises(SettingError, match=why):
        Query.read("find", text)


PAT = "pat@example.net"
MD5 = "$1$salt$qJH7.N4xYta3aEG/dfqo/0"
REHASH = "UPDATE mailbox SET password = %{new} WHERE username = %{user} AND password = %{old}"


@pytest.mark.parametrize("old", [MD5, f"{{MD5-CRYPT}}{MD5}"])
def test_an_outdated_hash_is_replaced_where_there_is_a_statement_for_it(made, server, old):
    """At a login, if it is still the hash that was verified."""
    server.sql(f"INSERT INTO mailbox VALUES ('{PAT}', $q${old}$q$)")
    assert not IPasswordUpgrade.providedBy(made())
    directory = made(rehash=REHASH)
    assert verifyObject(IPasswordUpgrade, directory)
    finish(directory.start())
    upgrade = PasswordUpgrade(Directories([directory]), ImmediateExecutor())
    account = finish(directory.find(PAT))
    upgrade.add(account, b"password")
    found = finish(directory.find(PAT)).secret
    assert found.startswith("{ARGON2ID}$argon2id$")
    assert verify(found, b"password")
    assert not is_outdated(found)
    upgrade.add(account, b"password")
    assert finish(directory.find(PAT)).secret == found, "it was another hash already"
    assert server.sql("SELECT count(*) FROM mailbox WHERE password LIKE '{ARGON2ID}%'") == "1"
    server.sql(f"DELETE FROM mailbox WHERE username = '{PAT}'")
    finish(directory.stop())


@pytest.mark.parametrize(
    ("rehash", "why"),
    [
        ("UPDATE mailbox SET password = %{new} WHERE username = %u", r"it needs %\{old\}"),
        ("UPDATE mailbox SET password = %{hash}", r"only .*%\{old\}, %\{new\}"),
    ],
)
def test_a_statement_that_could_change_another_hash_is_refused(rehash, why):
    with pytest.raises(SettingError, match=why):
        Query.read("rehash", rehash)
    with pytest.raises(SettingError, match="is not known"):
        Query.read("find", "SELECT %{old}")
