"""Several directories as one: how they start and stop, and what one's trouble means."""

from __future__ import annotations

import pytest

from postoffice.accounts.directories import Directories
from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.address import Account
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.testing import finish


class Watched(MemoryDirectory):
    """A directory that writes down what it is told, and raises what it is given."""

    def __init__(self, name, diary, trouble=None):
        super().__init__()
        self.name, self.diary, self.trouble = name, diary, trouble or {}

    async def _told(self, what):
        self.diary.append(f"{self.name} {what}")
        if what in self.trouble:
            raise self.trouble[what]

    async def start(self):
        await self._told("start")

    async def stop(self):
        await self._told("stop")

    async def find(self, name):
        await self._told("find")
        return await super().find(name)

    async def serves(self, domain):
        await self._told("serves")
        return await super().serves(domain)


def test_all_are_started_in_order_and_stopped_the_other_way_round():
    diary = []
    subject = Directories([Watched(name, diary) for name in "abc"])
    finish(subject.start())
    finish(subject.stop())
    assert diary == ["a start", "b start", "c start", "c stop", "b stop", "a stop"]


def test_those_before_one_that_cannot_start_are_stopped():
    diary = []
    broken = Watched("c", diary, {"start": StartupError("broken")})
    subject = Directories([Watched("a", diary), Watched("b", diary), broken])
    with pytest.raises(StartupError, match="broken"):
        finish(subject.start())
    assert diary == ["a start", "b start", "c start", "b stop", "a stop"]


def test_all_are_stopped_where_one_cannot():
    diary = []
    broken = Watched("b", diary, {"stop": TemporaryFailure("broken")})
    subject = Directories([Watched("a", diary), broken, Watched("c", diary)])
    with pytest.raises(TemporaryFailure):
        finish(subject.stop())
    assert diary == ["c stop", "b stop", "a stop"]


def test_one_that_cannot_say_ends_the_search():
    """One behind it may know another account of that name."""
    diary = []
    trouble = {"find": TemporaryFailure("down"), "serves": TemporaryFailure("down")}
    last = Watched("b", diary)
    finish(last.add_domain("example.net"))
    finish(last.add("joe@example.net", None))
    subject = Directories([Watched("a", diary, trouble), last])
    with pytest.raises(TemporaryFailure):
        finish(subject.find("joe@example.net"))
    with pytest.raises(TemporaryFailure):
        finish(subject.serves("example.net"))
    assert diary == ["a find", "a serves"]


def test_the_first_that_knows_is_the_last_to_be_asked():
    diary = []
    first = Watched("a", diary)
    finish(first.add_domain("example.net"))
    finish(first.add("joe@example.net", None))
    subject = Directories([first, Watched("b", diary)])
    finish(subject.find("joe@example.net"))
    finish(subject.serves("example.net"))
    assert diary == ["a find", "a serves"]


def test_no_directories_know_nobody():
    subject = Directories([])
    finish(subject.start())
    assert finish(subject.find("joe@example.net")) is None
    assert not finish(subject.serves("example.net"))
    finish(subject.stop())


def test_devices_that_may_collect_are_those_for_pop3_that_have_not_expired():
    directory = MemoryDirectory()
    finish(directory.add_domain("example.net"))
    finish(directory.add("joe@example.net", None))
    for device in (
        AppPassword("phone", "1", "", protocol="pop3"),
        AppPassword("pad", "2", "", expires=100.0),
        AppPassword("old", "3", "", expires=50.0),
        AppPassword("out", "4", "", protocol="smtp"),
    ):
        assert finish(directory.add_app_password("joe@example.net", device))
    subject = Directories([directory], lambda: 60.0)
    joe = finish(subject.find("joe@example.net"))
    assert finish(subject.collectors(joe)) == {"phone", "pad"}
    assert finish(subject.collectors(Account("ann@example.net", "ann@example.net"))) == set()
