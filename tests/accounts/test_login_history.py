"""Logins are written down, behind the clients' backs and many at a time."""

from __future__ import annotations

import pytest
from twisted.cred.checkers import ANONYMOUS
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import login_history as module
from postoffice.accounts import login_history as recording_module
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import (
    BATCH,
    REMEMBERED,
    SWEEPING,
    LoginHistory,
    LoginMethod,
    LoginRecorder,
)
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
def login_db(tmp_path):
    login_db = LoginDB(str(tmp_path / "logins.db"))
    login_db.open()
    yield login_db
    login_db.close()


@pytest.fixture
def login_history(login_db):
    return LoginHistory(login_db)


@pytest.fixture
def recording(login_history, clock):
    recording = LoginRecorder(
        login_history, ImmediateExecutor(), clock, lambda: NOW + clock.seconds()
    )
    recording.start()
    return recording


def session_info(address="192.0.2.1", service="pop3s", mechanism="USER", tls=TLS):
    return SessionInfo("x", service, Client(address), mechanism=mechanism, tls=tls)


def test_a_login_is_written_with_all_that_is_known_of_it(recording, login_history, clock):
    recording.note(JOE, session_info())
    assert login_history.used(0) == []
    clock.advance(BATCH)
    login_method = LoginMethod("joe@example.net", "", "pop3s", "USER", "TLSv1.3", "192.0.2.1")
    assert login_history.used(0) == [(login_method, NOW)]


@pytest.mark.parametrize(
    ("address", "network"),
    [("127.0.0.1", ""), ("", ""), ("2001:db8::7", "2001:db8::/64"), ("192.0.2.9", "192.0.2.9")],
)
def test_where_from_is_a_network(recording, login_history, clock, address, network):
    recording.note(JOE, session_info(address, tls=""))
    clock.advance(BATCH)
    ((login_method, _),) = login_history.used(0)
    assert (login_method.network, login_method.tls) == (network, "")


def test_many_logins_are_one_change_and_each_way_in_is_one_line(recording, login_history, clock):
    written = []
    write = login_history.write
    login_history.write = lambda used: written.append(len(used)) or write(used)
    for _ in range(10):
        recording.note(JOE, session_info())
        recording.note(JOE, session_info(mechanism="PLAIN"))
        recording.note(ANN, session_info())
        clock.advance(BATCH / 10)
    assert written == [3]
    recording.note(JOE, session_info())
    clock.advance(BATCH)
    assert written == [3, 1]
    assert [last - NOW for _, last in login_history.used(0)] == [5, 4.5, 4.5]
    clock.advance(10 * BATCH)
    assert written == [3, 1]


def test_the_last_login_stays_the_last(login_history):
    login_method = LoginMethod("joe@example.net", "", "pop3", "USER", "", "")
    for moment in (NOW, NOW + 2, NOW + 1):
        login_history.write({login_method: moment})
    assert login_history.used(0) == [(login_method, NOW + 2)]


def test_they_are_found_by_account_and_by_time_the_latest_first(recording, login_history, clock):
    for account, service in ((JOE, "pop3"), (ANN, "pop3"), (JOE, "submission")):
        recording.note(account, session_info(service=service))
        clock.advance(10)
    assert [login_method.service for login_method, _ in login_history.used(0, JOE.address)] == [
        "submission",
        "pop3",
    ]
    assert [login_method.account for login_method, _ in login_history.used(NOW + 10)] == [
        JOE.address,
        ANN.address,
    ]


def test_a_removed_account_is_forgotten_with_its_networks(
    recording, login_history, clock, login_db
):
    phone = Account(JOE.address, JOE.maildrop, device="phone")
    for account in (JOE, phone, ANN):
        recording.note(account, session_info())
    clock.advance(BATCH)
    with login_db.turn() as database:
        database.execute("INSERT INTO known VALUES (?, 'x', 1)", (JOE.address,))
    login_history.forget(JOE.address, "phone")
    assert {login_method.device for login_method, _ in login_history.used(0)} == {""}
    assert known(login_db) == [(JOE.address,)]
    login_history.forget(JOE.address)
    assert [login_method.account for login_method, _ in login_history.used(0)] == [ANN.address]
    assert known(login_db) == []


def known(login_db):
    with login_db.turn() as database:
        return database.execute("SELECT account FROM known").fetchall()


def test_what_was_not_used_for_long_is_swept(recording, login_history, clock, monkeypatch):
    monkeypatch.setattr(module, "SWEPT", 2)
    login_history.write(
        {LoginMethod("joe@example.net", "", "pop3", f"X{n}", "", ""): NOW for n in range(5)}
    )
    clock.advance(SWEEPING)
    assert len(login_history.used(0)) == 5
    clock.advance(REMEMBERED)
    assert login_history.used(0) == []


def test_the_rest_is_written_when_the_office_closes(login_history, clock):
    executor = ManualExecutor()
    recording = LoginRecorder(login_history, executor, clock)
    recording.start()
    recording.note(JOE, session_info())
    clock.advance(BATCH)
    recording.note(ANN, session_info())
    stopping = Deferred.fromCoroutine(recording.stop())
    executor.work_on()
    assert stopping.called
    assert len(login_history.used(0)) == 2
    assert clock.getDelayedCalls() == []


def test_what_cannot_be_written_is_written_later(recording, login_history, clock):
    write = login_history.write

    def fails(used):
        raise TemporaryFailure("the disk is full")

    login_history.write = fails
    recording.note(JOE, session_info())
    with capturedLogs() as logged:
        clock.pump([BATCH] * 3)
    (event,) = logged
    assert "writing logins failed; retrying: the disk is full" in eventAsText(event)
    login_history.write = write
    recording.note(ANN, session_info())
    clock.advance(BATCH)
    assert [last for _, last in login_history.used(0)] == [NOW + 3 * BATCH, NOW]


def test_only_so_many_wait(recording, monkeypatch):
    monkeypatch.setattr(recording_module, "WAITING", 2)
    for n in range(5):
        recording.note(JOE, session_info(mechanism=f"X{n}"))
    recording.note(JOE, session_info(mechanism="X0"))
    assert len(recording._used) == 2


def test_the_realm_notes_logins_only():
    noted = []

    class Rooms:
        release = None

        def mailbox(self, session_info, account):
            return self

        submission = mailbox

        def reception(self, session_info):
            return self

    realm = Realm(
        Rooms(), Rooms(), lambda account, session_info: noted.append((account, session_info))
    )
    mind = session_info()
    realm.requestAvatar(JOE, mind, IMaildrop)
    realm.requestAvatar(ANN, mind, IReception)
    realm.requestAvatar(ANONYMOUS, mind, IReception)
    assert noted == [(JOE, mind), (ANN, mind)]
