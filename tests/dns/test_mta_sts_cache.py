"""MTA-STS policies are kept, refreshed and forgotten."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.dns import mta_sts_cache as module
from postoffice.dns.mta_sts_cache import PolicyCache
from postoffice.dns.mta_sts_db import DAY, UNUSED, PolicyDB
from postoffice.dns.mta_sts_fetch import PolicyUnavailable
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoSuchName
from postoffice.model.errors import TemporaryFailure
from postoffice.outbound.mta_sts import Policy
from postoffice.testing import ImmediateExecutor, finish


class World:
    """The DNS, web servers, and time."""

    def __init__(self, folder):
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.records = {}
        self.mode, self.max_age, self.works = "enforce", 7 * DAY, True
        self.asked, self.fetched, self.gate = [], [], None
        self.path = str(folder / "mta-sts.db")

    async def ask(self, name, kind):
        self.asked.append((name, kind))
        record = self.records.get(name.removeprefix("_mta-sts."))
        if isinstance(record, Exception):
            raise record
        return NoSuchName(name) if record is None else Answer((record,))

    async def fetch(self, domain, known):
        self.fetched.append((domain, known))
        if self.gate is not None:
            await self.gate
        if not self.works:
            raise PolicyUnavailable("no route to host")
        return Policy(self.mode, (f"mx.{domain}",), self.max_age, known)

    def start(self):
        seconds = self.clock.seconds
        made = PolicyCache(
            self.ask, self.fetch, PolicyDB(self.path), ImmediateExecutor(), self.clock, seconds
        )
        finish(made.start())
        return made

    def announce(self, domain, known="1"):
        self.records[domain] = f"v=STSv1; id={known};".encode()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.announce("d.example")
    return made


@pytest.fixture
def policies(world):
    made = world.start()
    yield made
    finish(made.stop())


def policy(policies, domain="d.example"):
    return finish(policies.policy(domain))


def test_a_policy_is_fetched_once(world, policies):
    expected = Policy("enforce", ("mx.d.example",), 7 * DAY, "1")
    assert policy(policies) == policy(policies, "D.Example") == expected
    assert world.asked == [("_mta-sts.d.example", "TXT")] * 2
    assert world.fetched == [("d.example", "1")]


def test_a_domain_without_one(world, policies):
    assert policy(policies, "other.example") is None
    assert policy(policies, "[192.0.2.1]") is None
    assert policy(policies, "no domain") is None
    assert not world.fetched


def test_it_is_kept_over_a_restart(world, policies):
    policy(policies)
    finish(policies.stop())
    again = world.start()
    world.works = False
    assert policy(again).id == "1"
    assert len(world.fetched) == 1
    finish(again.stop())


def test_a_new_id_means_a_new_policy(world, policies):
    policy(policies)
    world.announce("d.example", "2")
    world.mode = "testing"
    assert (policy(policies).id, policy(policies).mode) == ("2", "testing")
    assert len(world.fetched) == 2


def test_the_old_one_holds_where_the_new_one_cannot_be_fetched(world, policies):
    policy(policies)
    world.announce("d.example", "2")
    world.works = False
    assert policy(policies).id == policy(policies).id == "1"
    assert len(world.fetched) == 2
    world.clock.advance(module.FAILED)
    world.works = True
    assert policy(policies).id == "2"


def test_where_none_is_known_a_failed_fetch_means_none_for_a_while(world, policies, logged):
    world.works = False
    assert policy(policies) is policy(policies) is None
    assert logged == ['mta-sts-failed to=d.example why="no route to host"']
    assert len(world.fetched) == 1
    world.clock.advance(module.FAILED)
    world.works = True
    assert policy(policies).id == "1"


@pytest.mark.parametrize(
    "record", [None, b"v=STSv1;", b"something else", DNSUnavailable("SERVFAIL")]
)
def test_a_policy_holds_until_its_end_though_its_record_is_gone(world, policies, record):
    policy(policies)
    world.records["d.example"] = record
    world.works = False
    world.clock.advance(7 * DAY - 1)
    assert policy(policies).id == "1"
    world.clock.advance(1)
    assert policy(policies) is None


def test_it_is_refreshed_each_day_without_being_asked_for(world, policies):
    policy(policies)
    world.mode = "testing"
    world.clock.pump([module.REFRESHING] * (DAY // module.REFRESHING - 1))
    assert len(world.fetched) == 1
    world.clock.advance(module.REFRESHING)
    assert len(world.fetched) == 2
    assert policy(policies).mode == "testing"


def test_a_refresh_that_fails_is_tried_the_next_day(world, policies):
    policy(policies)
    world.works = False
    world.clock.pump([module.REFRESHING] * (2 * DAY // module.REFRESHING + 1))
    assert len(world.fetched) == 3
    world.clock.pump([module.REFRESHING] * (7 * DAY // module.REFRESHING))
    assert policy(policies) is None


def test_a_policy_that_nobody_uses_is_forgotten(world, monkeypatch):
    monkeypatch.setattr(module, "REFRESHING", DAY)
    policies = world.start()
    policy(policies)
    world.announce("used.example")
    for _ in range(UNUSED // DAY):
        policy(policies, "used.example")
        world.clock.advance(DAY)
    world.clock.advance(DAY)
    before = len(world.fetched)
    world.clock.advance(DAY)
    finish(policies.stop())
    assert {domain for domain, _ in world.fetched[before:]} == {"used.example"}


def test_all_that_ask_at_the_same_time_share_one_fetch(world, policies):
    world.gate = Deferred()
    asked = [Deferred.fromCoroutine(policies.policy("d.example")) for _ in range(3)]
    asked[0].cancel()
    asked[0].addErrback(lambda _: None)
    world.gate.callback(None)
    assert [one.result.id for one in asked[1:]] == ["1", "1"]
    assert len(world.fetched) == 1


def test_without_the_database_nobody_knows_what_is_in_force(world, policies):
    finish(policies._executor.run(policies._database.close))
    with pytest.raises(TemporaryFailure, match="is closed"):
        policy(policies)


def test_those_that_wait_at_the_end_are_told_later(world, policies):
    world.gate = Deferred()
    asked = [Deferred.fromCoroutine(policies.policy("d.example")) for _ in range(2)]
    finish(policies.stop())
    for one in asked:
        one.addErrback(lambda why: why.trap(TemporaryFailure))
        assert one.result is TemporaryFailure


def test_the_least_used_are_forgotten_beyond_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("postoffice.dns.mta_sts_db.KEPT", 2)
    database = PolicyDB(str(tmp_path / "mta-sts.db"))
    database.open()
    for n in range(4):
        database.keep(f"{n}.example", Policy("none", (), 60, "1"), n, used=True)
    database.forget(4)
    assert [database.use(f"{n}.example", 4) is not None for n in range(4)] == [
        False, False, True, True,
    ]  # fmt: skip
    database.close()
