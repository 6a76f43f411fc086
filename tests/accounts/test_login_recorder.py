"""Logins are written down, behind the clients' backs and many at a time."""

from __future__ import annotations

import pytest
from twisted.cred.checkers import ANONYMOUS
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import login_history as module
from postoffice.accounts import login_recorder as recording_module
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import REMEMBERED, LoginHistory, LoginMethod
from postoffice.accounts.login_recorder import BATCH, SWEEPING, LoginRecorder
from postoffice.accounts.realm import Realm
from postoffice.interfaces import IMaildrop, IReception
from postoffice.model.address import Account
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import ImmediateExecutor, ManualExecutor

JOE, ANN = (Account(f"{name}@example.net", f"{name}@example.net") for name in ("joe", "ann"))
NOW = 1_800_000_000.0
TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path):
    ledger = LoginDB(str(tmp_path / "logins.db"))
    ledger.open()
    yield ledger
    ledger.close()


@pytest.fixture
def entrances(ledger):
    return LoginHistory(ledger)


@pytest.fixture
def recording(entrances, clock):
    recording = LoginRecorder(entrances, ImmediateExecutor(), clock, lambda: NOW + clock.seconds())
    recording.start()
    return recording


def visit(address="192.0.2.1", service="pop3s", mechanism="USER", tls=TLS):
    return SessionInfo("x", service, Client(address), mechanism=mechanism, tls=tls)


def test_a_login_is_written_with_all_that_is_known_of_it(recording, entrances, clock):
    recording.note(JOE, visit())
    assert entrances.used(0) == []
    clock.advance(BATCH)
    entrance = LoginMethod("joe@example.net", "", "pop3s", "USER", "TLSv1.3", "192.0.2.1")
    assert entrances.used(0) == [(entrance, NOW)]


@pytest.mark.parametrize(
    ("address", "network"),
    [("127.0.0.1", ""), ("", ""), ("2001:db8::7", "2001:db8::/64"), ("192.0.2.9", "192.0.2.9")],
)
def test_where_from_is_a_network(recording, entrances, clock, address, network):
    recording.note(JOE, visit(address, tls=""))
    clock.advance(BATCH)
    ((entrance, _),) = entrances.used(0)
    assert (entrance.network, entrance.tls) == (network, "")


def test_many_logins_are_one_change_and_each_way_in_is_one_line(recording, entrances, clock):
    written = []
    write = entrances.write
    entrances.write = lambda used: written.append(len(used)) or write(used)
    for _ in range(10):
        recording.note(JOE, visit())
        recording.note(JOE, visit(mechanism="PLAIN"))
        recording.note(ANN, visit())
        clock.advance(BATCH / 10)
    assert written == [3]
    recording.note(JOE, visit())
    clock.advance(BATCH)
    assert written == [3, 1]
    assert [last - NOW for _, last in entrances.used(0)] == [5, 4.5, 4.5]
    clock.advance(10 * BATCH)
    assert written == [3, 1]


def test_the_last_login_stays_the_last(entrances):
    entrance = LoginMethod("joe@example.net", "", "pop3", "USER", "", "")
    for moment in (NOW, NOW + 2, NOW + 1):
        entrances.write({entrance: moment})
    assert entrances.used(0) == [(entrance, NOW + 2)]


def test_they_are_found_by_account_and_by_time_the_latest_first(recording, entrances, clock):
    for account, service in ((JOE, "pop3"), (ANN, "pop3"), (JOE, "submission")):
        recording.note(account, visit(service=service))
        clock.advance(10)
    assert [entrance.service for entrance, _ in entrances.used(0, JOE.address)] == [
        "submission",
        "pop3",
    ]
    assert [entrance.account for entrance, _ in entrances.used(NOW + 10)] == [
        JOE.address,
        ANN.address,
    ]


def test_who_has_gone_is_forgotten_and_known_no_more(recording, entrances, clock, ledger):
    phone = Account(JOE.address, JOE.maildrop, device="phone")
    for account in (JOE, phone, ANN):
        recording.note(account, visit())
    clock.advance(BATCH)
    with ledger.turn() as database:
        database.execute("INSERT INTO known VALUES (?, 'x', 1)", (JOE.address,))
    entrances.forget(JOE.address, "phone")
    assert {entrance.device for entrance, _ in entrances.used(0)} == {""}
    assert known(ledger) == [(JOE.address,)]
    entrances.forget(JOE.address)
    assert [entrance.account for entrance, _ in entrances.used(0)] == [ANN.address]
    assert known(ledger) == []


def known(ledger):
    with ledger.turn() as database:
        return database.execute("SELECT account FROM known").fetchall()


def test_what_was_not_used_for_long_is_swept(recording, entrances, clock, monkeypatch):
    monkeypatch.setattr(module, "SWEPT", 2)
    entrances.write(
        {LoginMethod("joe@example.net", "", "pop3", f"X{n}", "", ""): NOW for n in range(5)}
    )
    clock.advance(SWEEPING)
    assert len(entrances.used(0)) == 5
    clock.advance(REMEMBERED)
    assert entrances.used(0) == []


def test_the_rest_is_written_when_the_office_closes(entrances, clock):
    workers = ManualExecutor()
    recording = LoginRecorder(entrances, workers, clock)
    recording.start()
    recording.note(JOE, visit())
    clock.advance(BATCH)
    recording.note(ANN, visit())
    stopping = Deferred.fromCoroutine(recording.stop())
    workers.work_on()
    assert stopping.called
    assert len(entrances.used(0)) == 2
    assert clock.getDelayedCalls() == []


def test_what_cannot_be_written_is_written_later(recording, entrances, clock):
    write = entrances.write

    def fails(used):
        raise TemporaryFailure("the disk is full")

    entrances.write = fails
    recording.note(JOE, visit())
    with capturedLogs() as logged:
        clock.pump([BATCH] * 3)
    (event,) = logged
    assert "not written down yet: the disk is full" in eventAsText(event)
    entrances.write = write
    recording.note(ANN, visit())
    clock.advance(BATCH)
    assert [last for _, last in entrances.used(0)] == [NOW + 3 * BATCH, NOW]


def test_only_so_many_wait(recording, monkeypatch):
    monkeypatch.setattr(recording_module, "WAITING", 2)
    for n in range(5):
        recording.note(JOE, visit(mechanism=f"X{n}"))
    recording.note(JOE, visit(mechanism="X0"))
    assert len(recording._used) == 2


def test_the_realm_notes_those_who_have_logged_in_and_nobody_else():
    noted = []

    class Rooms:
        release = None

        def mailbox(self, visit, account):
            return self

        submission = mailbox

        def reception(self, visit):
            return self

    realm = Realm(Rooms(), Rooms(), lambda account, visit: noted.append((account, visit)))
    mind = visit()
    realm.requestAvatar(JOE, mind, IMaildrop)
    realm.requestAvatar(ANN, mind, IReception)
    realm.requestAvatar(ANONYMOUS, mind, IReception)
    assert noted == [(JOE, mind), (ANN, mind)]
