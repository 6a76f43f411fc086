"""The daily round: which maildrops are looked at, and when."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from postoffice.accounts.file_directory import FileDirectory
from postoffice.accounts.memory import MemoryDirectory
from postoffice.config.accounts_file import parse
from postoffice.daemon.expiry_job import FIRST, PAUSE, ROUND, ExpiryJob, Retention
from postoffice.interfaces import IAccountDirectory, IMaildropMaintenance, MaildropUsage
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import TemporaryFailure
from postoffice.model.mail_policy import A_DAY, DEFAULT_POLICY, MailPolicy
from postoffice.store.memory import MemoryStore
from postoffice.testing import ImmediateExecutor, finish

NAMES = ("ann@example.net", "bob@example.net", "joe@example.net")


class Office:
    """Three accounts with a message each, in memory; time goes on when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock.seconds)
        self.directory = MemoryDirectory()
        finish(self.directory.add_domain("example.net"))
        for name in NAMES:
            finish(self.directory.add(name, None))
            self.post(name)
        self.plugins = SimpleNamespace(
            directories=[self.directory], store=self.store, find=self.directory.find
        )
        self.devices: dict[str, tuple[str, ...]] = {}
        self.retention = Retention(self.plugins, DEFAULT_POLICY, self.devices_of)
        self.expiring = ExpiryJob(self.retention, self.clock)

    async def devices_of(self, account):
        return self.devices.get(account.address, ())

    def post(self, name):
        recipient = Recipient(Address.parse(name), Account(name, name))
        delivery = finish(self.store.begin(Envelope("id", Client(), recipients=[recipient])))
        finish(delivery.write(b"x\r\n"))
        finish(delivery.commit())

    def says(self, name, **said):
        finish(self.directory.set_mail_policy(name, MailPolicy(**said)))

    def holds(self, name) -> int:
        return finish(self.store.count(name))[0]

    def held(self) -> list[int]:
        return [self.holds(name) for name in NAMES]


@pytest.fixture
def office():
    return Office()


def test_only_those_are_looked_at_whose_mail_is_not_kept_for_ever(office):
    assert finish(office.retention.targets()) == []
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=30 * A_DAY)))
    office.says(NAMES[0], keep=0)
    office.says(NAMES[1], devices="all", keep_collected=A_DAY)
    office.devices[NAMES[1]] = ("phone",)
    targets = {target.account: target.keep for target in finish(office.retention.targets())}
    assert list(targets) == list(NAMES[1:])
    assert (targets[NAMES[1]].collected, targets[NAMES[1]].devices) == (A_DAY, {"phone"})
    assert (targets[NAMES[2]].arrived, targets[NAMES[2]].devices) == (30 * A_DAY, None)


@implementer(IAccountDirectory)
class Elsewhere:
    """A directory that cannot tell of all its accounts."""

    def __init__(self, *names):
        self.names = names

    async def find(self, name):
        return Account(name, name) if name in self.names else None


def test_accounts_of_a_directory_that_cannot_list_them_are_found_by_their_maildrops(office):
    @implementer(IMaildropMaintenance)
    class Care(MemoryStore):
        async def holdings(self):
            return [MaildropUsage("eve@example.net", 1, 3), MaildropUsage("gone@example.net", 1, 3)]

    elsewhere = Elsewhere("eve@example.net")
    office.plugins.directories, office.plugins.find = [elsewhere], elsewhere.find
    retention = Retention(
        office.plugins, MailPolicy(keep=A_DAY).or_else(DEFAULT_POLICY), office.devices_of
    )
    assert finish(retention.targets()) == [], "this store does not tell of its maildrops"
    office.plugins.store = Care()
    assert [target.account for target in finish(retention.targets())] == ["eve@example.net"]


def test_accounts_of_a_directory_that_lists_them_are_found_whatever_their_maildrops(
    office, tmp_path
):
    (tmp_path / "accounts").write_text(
        "domains: {example.net: {keep: 30 days}}\n"
        "accounts: {ann.lee@example.net: {maildrop: ann@example.net}}\n"
    )
    directory = FileDirectory(str(tmp_path / "accounts"), parse, ImmediateExecutor())
    finish(directory.start())
    office.plugins.directories, office.plugins.find = [directory], directory.find
    (target,) = finish(office.retention.targets())
    assert (target.account, target.maildrop) == ("ann.lee@example.net", NAMES[0])
    assert target.keep.arrived == 30 * A_DAY


def test_a_round_a_day_and_the_first_a_while_after_the_start(office):
    office.says(NAMES[0], keep=A_DAY)
    office.expiring.start()
    office.clock.advance(FIRST)
    assert office.held() == [1, 1, 1]
    office.clock.advance(PAUSE)
    office.clock.advance(ROUND - PAUSE)
    assert office.held() == [0, 1, 1]
    office.post(NAMES[0])
    office.clock.advance(PAUSE)
    office.clock.pump([ROUND / 2] * 2 + [PAUSE])
    assert office.held() == [0, 1, 1]
    finish(office.expiring.stop())
    assert not office.clock.getDelayedCalls()


def test_one_maildrop_after_the_other_with_a_rest_between(office):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.clock.advance(2 * A_DAY)
    round_ = Deferred.fromCoroutine(office.expiring.round())
    assert office.held() == [0, 1, 1]
    office.clock.advance(PAUSE)
    assert office.held() == [0, 0, 1]
    office.clock.pump([PAUSE, PAUSE])
    assert office.held() == [0, 0, 0]
    assert round_.called


def test_what_is_said_while_a_round_goes_on_holds_at_once(office):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.clock.advance(2 * A_DAY)
    round_ = Deferred.fromCoroutine(office.expiring.round())
    office.says(NAMES[1], keep=0)
    finish(office.directory.remove(NAMES[2]))
    office.clock.pump([PAUSE] * 3)
    assert office.held() == [0, 1, 1]
    assert round_.called


def test_an_open_maildrop_is_examined_again_later(office):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.clock.advance(2 * A_DAY)
    maildrop = office.store.maildrop(NAMES[0])
    finish(maildrop.open())
    round_ = Deferred.fromCoroutine(office.expiring.round())
    office.clock.pump([PAUSE, PAUSE])
    assert office.held() == [1, 0, 0]
    maildrop.release()
    office.clock.pump([PAUSE])
    assert office.held() == [0, 0, 0]
    office.clock.pump([PAUSE])
    assert round_.called


def test_a_maildrop_that_stays_open_expires_the_next_day(office):
    office.says(NAMES[0], keep=A_DAY)
    office.clock.advance(2 * A_DAY)
    finish(office.store.maildrop(NAMES[0]).open())
    round_ = Deferred.fromCoroutine(office.expiring.round())
    office.clock.pump([PAUSE] * 3)
    assert round_.called
    assert office.held() == [1, 1, 1]


def test_one_that_fails_keeps_nobody_elses_mail(office, monkeypatch):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.clock.advance(2 * A_DAY)
    expire = office.store.expire

    async def fail(name, keep, dry):
        if name == NAMES[1]:
            raise TemporaryFailure("disk on fire")
        return await expire(name, keep, dry)

    monkeypatch.setattr(office.store, "expire", fail)
    Deferred.fromCoroutine(office.expiring.round())
    office.clock.pump([PAUSE] * 3)
    assert office.held() == [0, 1, 0]


def test_a_directory_that_cannot_say_puts_it_off_until_tomorrow(office, monkeypatch):
    async def fail():
        raise TemporaryFailure("no answer")
        yield

    office.says(NAMES[0], keep=A_DAY)
    with monkeypatch.context() as patch:
        patch.setattr(office.directory, "each_account", fail)
        office.expiring.start()
        office.clock.advance(FIRST)
    office.clock.advance(ROUND)
    assert office.held() == [0, 1, 1]
    office.clock.advance(PAUSE)
    finish(office.expiring.stop())


def test_stopping_waits_for_what_goes_just_now(office, monkeypatch):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.expiring.start()
    going, ends = [], Deferred()

    async def slow(name, keep, dry):
        going.append(name)
        await ends
        return 1, 3

    monkeypatch.setattr(office.store, "expire", slow)
    office.clock.advance(FIRST)
    stopped = Deferred.fromCoroutine(office.expiring.stop())
    assert going == [NAMES[0]]
    assert not stopped.called
    ends.callback(None)
    assert stopped.called
    assert going == [NAMES[0]]
    assert not office.clock.getDelayedCalls()


def test_stopping_ends_a_rest_at_once(office):
    finish(office.directory.set_domain_mail_policy("example.net", MailPolicy(keep=A_DAY)))
    office.expiring.start()
    office.clock.advance(FIRST)
    stopped = Deferred.fromCoroutine(office.expiring.stop())
    assert stopped.called
    assert not office.clock.getDelayedCalls()


def test_a_store_that_cannot_do_it_is_left_alone(office):
    office.plugins.store = object()
    office.expiring.start()
    assert not office.clock.getDelayedCalls()
    finish(office.expiring.stop())
