"""Our tables in a real PostgreSQL, which is stopped, started, frozen and damaged."""

from __future__ import annotations

from threading import Thread

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.accounts.circuit_breaker import LONGEST_PAUSE, Unavailable
from postoffice.accounts.sealed_secrets import Seal
from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.model.address import Quota
from postoffice.model.alias import Domain, Found
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.model.mail_policy import UNSPECIFIED
from postoffice.testing import ImmediateExecutor, finish
from tests.conftest import turn_until
from tests.servers import PostgreSQL

pytest.importorskip("psycopg")
from postoffice.accounts import postgresql_directory as account_queries
from postoffice.accounts.postgresql_connections import translated
from postoffice.accounts.postgresql_directory import SETTINGS_AGE, PostgreSQLDirectory

JOE, ANN = "joe@example.net", "ann@example.net"


@pytest.fixture(scope="module")
def own_server():
    """A server of these tests' own: they stop it, and damage it."""
    server = PostgreSQL()
    yield server
    server.remove()


@pytest.fixture
def server(own_server):
    if own_server.process is None:
        own_server.start()
    own_server.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS postoffice CASCADE")
    return own_server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def made(server, clock, tmp_path):
    """Makes a directory; it is started as a test says, and stopped in the end."""
    all_made = []

    def made(executor=None, conninfo="", stale=3600.0, clock=clock):
        directory = PostgreSQLDirectory(
            conninfo or server.conninfo,
            executor or ImmediateExecutor(),
            clock,
            seal=Seal(str(tmp_path / "key")),
            timeout=5,
            stale=stale,
        )
        all_made.append(directory)
        return directory

    yield made
    for directory in all_made:
        directory._connections.close()


@pytest.fixture
def directory(made):
    """One with joe and ann in it."""
    directory = made()
    finish(directory.create_schema())
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    for name in (JOE, ANN):
        finish(directory.add(name, f"hash of {name}"))
    return directory


def test_a_server_that_is_started_again_costs_nothing(directory, server):
    assert finish(directory.find(JOE)).secret == f"hash of {JOE}"
    for _ in range(2):
        server.stop()
        server.start()
        assert finish(directory.find(JOE)).secret == f"hash of {JOE}"
        server.stop()
        server.start()
        assert finish(directory.set_secret(JOE, f"hash of {JOE}"))


def test_while_it_is_down_known_accounts_are_served_and_all_others_are_for_later(
    directory, server, clock, logged
):
    finish(directory.find(JOE))
    server.stop()
    assert finish(directory.find(JOE)).secret == f"hash of {JOE}"
    for name in (ANN, "nobody@example.net", "ann@example.org"):
        with pytest.raises(Unavailable):
            finish(directory.find(name))
    for domain in ("example.net", "example.org"):
        with pytest.raises(Unavailable):
            finish(directory.serves(domain))
    with pytest.raises(Unavailable):
        finish(directory.set_secret(JOE, "another"))
    server.start()
    clock.advance(LONGEST_PAUSE)
    assert finish(directory.find(ANN)).secret == f"hash of {ANN}"
    assert finish(directory.find("nobody@example.net")) is None
    failed, again = logged
    assert failed.startswith("connecting to PostgreSQL failed: ")
    assert again == "PostgreSQL answers again"


def test_a_start_does_not_wait_for_the_server(made, server, clock, logged):
    finish(made().create_schema())
    server.stop()
    directory = made()
    finish(directory.start())
    assert "mail must wait until the server answers" in logged[-1]
    with pytest.raises(Unavailable):
        finish(directory.find(JOE))
    server.start()
    clock.advance(LONGEST_PAUSE)
    assert finish(directory.find(JOE)) is None
    finish(directory.stop())


def test_a_stop_does_not_wait_for_it_either(directory, server):
    server.stop()
    with pytest.raises(Unavailable):
        finish(directory.find(ANN))
    finish(directory.stop())


def test_a_server_that_says_nothing_is_down_and_its_threads_are_free_again(directory, made, server):
    clock = Clock()
    executor = ThreadExecutor(reactor, 2, "network")
    executor.start()
    frozen = made(executor, clock=clock)
    answers = []

    def ask():
        Deferred.fromCoroutine(frozen.find(JOE)).addErrback(lambda f: f.value).addCallback(
            answers.append
        )

    ask()
    turn_until(lambda: answers)
    server.freeze()
    try:
        frozen._connections._timeout = 0  # of the thread: it is late at once
        ask()
        turn_until(lambda: frozen._connections._busy)
        clock.advance(5)
        assert answers[1:] == answers[:1], "what was known is served"
        turn_until(lambda: not executor.busy)
    finally:
        server.thaw()
    clock.advance(LONGEST_PAUSE)
    ask()
    turn_until(lambda: len(answers) == 3)
    assert answers[2] == answers[0]
    Deferred.fromCoroutine(executor.stop()).addCallback(answers.append)
    turn_until(lambda: len(answers) == 4)


def test_without_our_tables_there_is_no_start(made, server, monkeypatch):
    with pytest.raises(StartupError, match="run `postoffice directory create-schema`"):
        finish(made().start())
    finish(made().create_schema())
    finish(made().start())
    monkeypatch.setattr(account_queries.schema, "SCHEMA", 99)
    with pytest.raises(StartupError, match="have version 7, this postoffice knows 99"):
        finish(made().start())


def test_tables_that_go_away_mean_later(directory, server):
    server.sql("ALTER TABLE postoffice.account RENAME TO gone")
    with pytest.raises(TemporaryFailure, match='relation "account" does not exist'):
        finish(directory.find(JOE))
    server.sql("ALTER TABLE postoffice.gone RENAME TO account")
    assert finish(directory.find(JOE)) is not None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("user=stranger", 'role "stranger" does not exist'),
        ("dbname=other", 'database "other" does not exist'),
        ("host=/nowhere", "No such file or directory"),
        ("nonsense=1", "nonsense"),
    ],
)
def test_what_is_wrong_with_a_connection_is_in_the_log(made, server, logged, wrong, why):
    finish(made(conninfo=f"{server.conninfo} {wrong}").start())
    assert any(why in line for line in logged), logged


def test_the_schema_is_made_whole_or_not_at_all(made, server, monkeypatch):
    whole = [*account_queries.statements(), "SELECT 1/0"]
    with monkeypatch.context() as patch:
        patch.setattr(account_queries, "statements", lambda: whole)
        with pytest.raises(TemporaryFailure, match="division by zero"):
            finish(made().create_schema())
    assert server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'postoffice'") == "0"
    finish(made().create_schema())
    with pytest.raises(TemporaryFailure, match="already exists"):
        finish(made().create_schema())


def test_the_printed_script_makes_the_same(made, server):
    server.sql(account_queries.script())
    finish(made().start())


def test_changes_come_one_after_the_other(directory, made):
    """An account and an alias never have the same name, whoever comes at the same time."""
    others = [made() for _ in range(4)]
    added = []

    def add(one):
        for number in range(10):
            added.append(finish(one.add(f"{number}@example.net", None)))

    threads = [Thread(target=add, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 30 + [True] * 10


def test_settings_of_all_accounts_are_read_once_a_minute(directory, made, clock):
    other = made()
    assert finish(directory.account_settings()) == {(Quota(), UNSPECIFIED)}
    finish(other.set_quota(JOE, Quota(1, 2, "reject")))
    assert finish(directory.account_settings()) == {(Quota(), UNSPECIFIED)}
    clock.advance(SETTINGS_AGE)
    assert len(finish(directory.account_settings())) == 2
    finish(directory.set_quota(JOE, Quota()))
    assert finish(directory.account_settings()) == {(Quota(), UNSPECIFIED)}


def test_names_cannot_be_sql(directory):
    for name in ("'; DROP TABLE account; --@example.net", "$1@example.net", "%s@example.net"):
        assert finish(directory.find(name)) is None
        assert finish(directory.add(name, "x"))
        assert finish(directory.find(name)).address == name
    assert finish(directory.find(f"{JOE}\0")) is None
    assert finish(directory.look_up("@example.net")) == Found(Domain("example.net"))


def test_placeholders_are_translated():
    assert translated("a = ? AND b = ?") == "a = $1 AND b = $2"
    assert translated("a > ?1 AND b = ?3 LIMIT ?2") == "a > $1 AND b = $3 LIMIT $2"
