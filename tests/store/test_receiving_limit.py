"""Texts that are coming in are bounded, all together and for each client."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropFull, NoSpace, TemporaryFailure
from postoffice.store.delivery import BUFFER
from postoffice.store.quota.admission import FreeSpace
from postoffice.store.receiving_limit import ReceivingLimit
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, folder_of, litter, messages

MOST = 4 * BUFFER
pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(params=["journal", "files"])
def served(request, root):
    one = Served(root, durability=request.param, incoming=MOST)
    yield one
    one.stop()


def begun(served, address="", quota=None):
    account = Account(JOE, JOE, quota=quota or Quota())
    to = [Recipient(Address.parse(JOE), account)]
    return finish(served.store.begin(Envelope("id", Client(address), recipients=to)))


def write(delivery, size):
    """In pieces, as they come off the wire."""
    for start in range(0, size, 1000):
        finish(delivery.write(b"x" * (min(1000, size - start) - 2) + b"\r\n"))


def held(served) -> int:
    return served.store._incoming.octets


def test_the_one_that_would_exceed_it_is_told_to_come_later_and_others_go_on(root, served):
    first, second = begun(served), begun(served)
    write(first, 3 * BUFFER)
    write(second, BUFFER - 1000)
    with pytest.raises(NoSpace, match=r"store\.incoming") as raised:
        write(second, 2000)
    assert (raised.value.reply.code, raised.value.reply.status) == (452, "4.3.1")
    assert held(served) == 3 * BUFFER, "what it had is others' now"
    with pytest.raises(TemporaryFailure):
        finish(second.commit())
    second.abort()
    third = begun(served)
    write(third, 1000)
    write(first, BUFFER - 1000)
    finish(first.commit())
    finish(third.commit())
    assert held(served) == 0
    assert len(messages(root)) == 2
    served.checkpoint()
    assert litter(root) == []


def test_what_is_taken_or_given_up_no_longer_counts(served):
    for end in ("commit", "abort", "both", "full", "nowhere"):
        delivery = begun(served, quota=Quota(1000, 0, "reject") if end == "full" else None)
        write(delivery, 2 * BUFFER)
        assert held(served) == 2 * BUFFER
        if end in ("commit", "both"):
            finish(delivery.commit())
        elif end == "full":
            with pytest.raises(MaildropFull):
                finish(delivery.commit())
        elif end == "nowhere":
            delivery._wanted = [TemporaryFailure("it was taken away")]
            with pytest.raises(TemporaryFailure):
                finish(delivery.commit())
            delivery.abort()  # as whoever began it does in the end
        if end in ("abort", "both"):
            delivery.abort()
            delivery.abort()
        assert held(served) == 0, end
    delivery = begun(served)
    write(delivery, 5000)
    assert finish(delivery.commit_each()) == [None]
    assert held(served) == 0
    assert not served.store._incoming._networks


def test_a_client_has_a_quarter_of_it_whatever_its_addresses(served):
    first = begun(served, "2001:db8::1")
    write(first, BUFFER // 2)
    second = begun(served, "2001:db8::2")
    write(second, BUFFER // 2)
    with pytest.raises(NoSpace):
        write(begun(served, "2001:db8::3"), 1)
    for address in ("2001:db8:1::1", "192.0.2.1", "192.0.2.2", "127.0.0.1", ""):
        delivery = begun(served, address)
        write(delivery, BUFFER // 3)
        finish(delivery.commit())
    first.abort()
    write(second, BUFFER // 4)
    finish(second.commit())
    assert held(served) == 0


@pytest.mark.parametrize("address", ["", "192.0.2.1"])
def test_one_message_alone_goes_on_however_large_it_is(root, served, address):
    delivery = begun(served, address)
    write(delivery, 6 * BUFFER)
    with pytest.raises(NoSpace):
        write(begun(served, "198.51.100.1"), 1)
    finish(delivery.commit())
    write(begun(served, "198.51.100.1"), 1)
    assert len(messages(root)) == 1


@pytest.mark.parametrize("most", [0, 1])
def test_without_a_bound_nobody_is_refused(most):
    incoming = ReceivingLimit(most)
    first = incoming.text(Client("192.0.2.1"))
    first.add(1 << 40)
    second = incoming.text(Client("192.0.2.1"))
    if most:
        with pytest.raises(NoSpace):
            second.add(1)
    else:
        second.add(1 << 40)
    first.drop()
    first.drop()
    second.drop()
    assert incoming.octets == 0


def test_the_floor_of_free_space_holds_for_what_is_coming_in(root, monkeypatch):
    disk = SimpleNamespace(f_bavail=1000, f_frsize=4096, f_blocks=2000)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    served = Served(root, durability="files", free_space=1 << 20)
    delivery = begun(served)
    write(delivery, 2 * BUFFER)
    disk.f_bavail = 0
    served.clock.advance(FreeSpace.SECOND)
    with pytest.raises(NoSpace, match="free_space"):
        write(delivery, 2 * BUFFER)
    assert list((folder_of(root) / "tmp").iterdir()) == [], "its room is free at once"
    served.stop()
