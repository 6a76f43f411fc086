"""A first login here is asked about at the old server, once; then the password is kept here."""

from __future__ import annotations

from datetime import date

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from zope.interface.verify import verifyObject

from postoffice.accounts.checker import Checker
from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.accounts.credentials import PlainLogin, SharedLogin
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.old_server_directory import AT_ONCE, WAITING, OldServerDirectory
from postoffice.interfaces import (
    IAccountListing,
    IAccountSettings,
    IAddresses,
    IFirstLogins,
)
from postoffice.model.address import Address
from postoffice.model.alias import Alias
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.pop3.client_url import NO_TLS, POP3Server
from postoffice.protocol.sasl import SharedClaim
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from tests.accounts.slowed import Office
from tests.pop3_server import OldServer
from tests.servers import free_port

ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.net"
UNTIL = date(2027, 3, 1)


@pytest.fixture
def old():
    with OldServer([], users={ANN: "hers", BOB: "his", "info@example.net": "x"}) as server:
        yield server


class House:
    """A register, which knows the domain; the old server; and the checker over both."""

    def __init__(self, port, executor=None, **more):
        self.clock, self.day = Clock(), date(2027, 2, 28)
        self.register = MemoryDirectory()
        finish(self.register.add_domain("example.net"))
        server = POP3Server(host="127.0.0.1", port=port, implicit=False, tls=NO_TLS,
                            connect_timeout=10, reply_timeout=10)  # fmt: skip
        self.directory = OldServerDirectory(
            server, executor or ImmediateExecutor(), self.clock, ["example.net"], UNTIL,
            timeout=20, today=lambda: self.day, **more,
        )  # fmt: skip
        self.left: dict[str, int] = {}  # messages in maildrops
        self.checker = Checker(
            [self.register, self.directory],
            ImmediateExecutor(),
            clock=self.clock.seconds,
            count=self.count,
        )

    async def count(self, maildrop):
        return self.left.get(maildrop, 0), 0

    def asked(self, name, password):
        credentials = PlainLogin(name.encode(), password.encode(), Client("192.0.2.1"), "pop3s")
        return self.checker.requestAvatarId(credentials)

    def begin(self, name, password):
        """What becomes of a login, as soon as it is known."""
        outcome = []
        login = Deferred.fromCoroutine(self.asked(name, password))
        login.addErrback(lambda why: why.value).addCallback(outcome.append)
        return outcome

    def login(self, name, password):
        return finish(self.asked(name, password))

    def refused(self, name, password):
        with pytest.raises(UnauthorizedLogin):
            self.login(name, password)
        return True

    def secret(self, name):
        account = finish(self.register.find(name))
        return account and account.secret


@pytest.fixture
def house(old):
    return House(old.port)


def test_it_is_a_directory(house):
    for interface in (IAccountListing, IAccountSettings, IAddresses, IFirstLogins):
        assert verifyObject(interface, house.directory)


def test_a_right_first_login_makes_the_account(house, old):
    with capturedLogs() as logged:
        assert house.login(ANN, "hers").address == ANN
    assert any(
        f"first-login account={ANN} via=pop3://127.0.0.1:{old.port}" in eventAsText(event)
        for event in logged
    )
    assert house.secret(ANN).startswith("$argon2id$")
    assert finish(house.register.find(ANN)).scram
    old.heard.clear()
    assert house.login(ANN, "hers").address == ANN
    assert house.refused(ANN, "of the old server, which has another one now")
    assert old.heard == [], "from then on it is ours"


def test_an_account_that_waits_for_its_password_gets_it(house):
    finish(house.register.add(BOB, None))
    assert house.login(BOB, "his").address == BOB
    assert house.secret(BOB)


def test_a_new_account_does_not_get_the_mail_of_an_earlier_one(house):
    house.left[ANN] = 2
    with pytest.raises(TemporaryFailure, match=f"holds 2 messages .* {ANN} --adopt-mail"):
        house.login(ANN, "hers")
    assert finish(house.register.find(ANN)) is None
    house.left.clear()
    assert house.login(ANN, "hers").address == ANN


def test_an_account_that_waits_for_its_password_keeps_its_mail(house):
    finish(house.register.add(BOB, None))
    house.left[BOB] = 2
    assert house.login(BOB, "his").address == BOB


@pytest.mark.parametrize("name", [ANN, EVE])
def test_wrong_there_is_wrong_here(house, old, name):
    assert house.refused(name, "wrong")
    assert [line for line in old.heard if line.startswith("PASS")] == ["PASS wrong"]
    assert finish(house.register.find(name)) is None


def test_a_password_that_would_be_another_command_is_not_sent(house, old):
    for password in ("hers\r\nDELE 1", "", "a\0b"):
        assert house.refused(ANN, password)
    assert old.heard == []


def test_names_of_other_domains_and_aliases_are_not_asked_about(house, old):
    finish(house.register.add_alias(Alias("info@example.net", (Address.parse(ANN),))))
    assert house.refused("info@example.net", "x")
    assert house.refused("ann@example.org", "hers")
    assert old.heard == []


def test_a_domain_that_is_not_ours_gets_no_account(house, old):
    finish(house.register.remove_domain("example.net"))
    assert house.refused(ANN, "hers")
    assert old.heard == []


def test_only_a_password_is_asked_about(house, old):
    claim = SharedClaim(ANN.encode(), b"<stamp>", b"0" * 16)
    with pytest.raises(UnauthorizedLogin):
        finish(house.checker.requestAvatarId(SharedLogin(claim, Client("192.0.2.1"), "pop3")))
    assert old.heard == []


def test_from_the_day_on_it_is_not_asked(house, old):
    house.day = UNTIL
    assert house.refused(ANN, "hers")
    assert old.heard == []


def test_the_login_there_may_be_the_name_alone(old):
    old.users = {"ann": "hers"}
    assert House(old.port, login="%{user|username}").login(ANN, "hers").address == ANN


def test_an_old_server_that_is_down_means_later(old):
    house = House(free_port())
    for _ in range(2):
        with pytest.raises(TemporaryFailure, match="does not tell whether a login is right"):
            house.login(ANN, "hers")
    house.directory._server = POP3Server(
        host="127.0.0.1", port=old.port, implicit=False, tls=NO_TLS
    )
    with pytest.raises(TemporaryFailure, match="not asked again yet"):
        house.login(ANN, "hers")
    house.clock.advance(60)
    assert house.login(ANN, "hers").address == ANN


@pytest.mark.parametrize("code", ["IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM"])
def test_what_is_no_answer_means_later(house, old, code):
    old.fault = lambda _, line: f"-ERR [{code}] x\r\n".encode() if line[:4] == "PASS" else None
    with pytest.raises(TemporaryFailure, match=code):
        house.login(ANN, "hers")
    assert finish(house.register.find(ANN)) is None
    old.fault = lambda _, line: None
    assert house.login(ANN, "hers").address == ANN


def test_several_connections_at_once_ask_once(old):
    executor = ManualExecutor()
    house = House(old.port, executor)
    logins = [house.begin(ANN, "hers") for _ in range(3)]
    assert len(executor.waiting) == 1
    executor.work()
    assert [one.address for (one,) in logins] == [ANN] * 3
    assert len([line for line in old.heard if line.startswith("PASS")]) == 1


def test_a_password_that_was_set_meanwhile_counts(old):
    executor = ManualExecutor()
    house = House(old.port, executor)
    login = house.begin(ANN, "hers")
    finish(house.register.add(ANN, "another"))
    executor.work()
    assert [type(one) for one in login] == [UnauthorizedLogin]
    assert house.secret(ANN) == "another"


def test_only_a_few_are_asked_about_at_one_time(old):
    executor = ManualExecutor()
    house = House(old.port, executor)
    logins = [house.begin(f"u{n}@example.net", "x") for n in range(AT_ONCE + WAITING + 1)]
    assert len(executor.waiting) == AT_ONCE
    assert [type(one) for one in logins[-1]] == [TemporaryFailure]
    house.clock.advance(20)
    house.clock.pump([0] * (WAITING + AT_ONCE))
    assert [type(one) for one in logins[0]] == [Unavailable]
    assert all(logins), "the others are not asked about"


def test_guessing_is_slowed_before_the_old_server_hears_of_it(old, tmp_path):
    slowed = Office(str(tmp_path / "logins.db"), Clock())
    house = House(old.port)
    slowed.checker = Checker(
        [house.register, house.directory],
        ImmediateExecutor(),
        clock=slowed.clock.seconds,
        throttle=slowed.throttle,
    )
    for number in range(6):
        slowed.try_(f"u{number}@example.net", b"guess")
    asked = [line for line in old.heard if line.startswith("PASS")]
    assert len(asked) == 2, "as many as one network may try at once"
    for _ in range(3):
        slowed.try_("u0@example.net", b"guess")
    assert len([line for line in old.heard if line.startswith("PASS")]) == 2, "known as wrong"
