"""A ``maildirsize`` that a crash has left: it counts what is there no longer, or not yet."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish

JOE = "joe@example.net"


@pytest.fixture
def store(tmp_path):
    store = MaildirStore(
        str(tmp_path), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    yield store
    finish(store.stop())


@pytest.fixture
def counted(tmp_path, store):
    """Joe's count, with 20 octets in two messages, one of which does not end its last line."""
    account = Account(JOE, JOE, quota=Quota(octets=1000))
    for text in (b"a\r\n\r\nbcde\r\n", b"f\r\n\r\nghij"):
        to = [Recipient(Address.parse(JOE), account)]
        delivery = finish(store.begin(Envelope("id", Client(), recipients=to)))
        finish(delivery.write(text))
        finish(delivery.commit())
    return tmp_path / "example.net" / "joe" / "maildirsize"


def log_in(store):
    maildrop = store.maildrop(JOE)
    finish(maildrop.open())
    maildrop.release()


@pytest.mark.parametrize("lines", ["19 2", "21 2", "11 1", "9 1\n12 1", "20 2 2", "x"])
def test_what_counts_wrong_is_counted_anew_from_the_next_login_on(store, counted, lines):
    counted.write_text(f"1000S\n{lines}\n")
    log_in(store)
    assert not counted.exists()


def test_what_counts_right_stays(store, counted):
    said = counted.read_text()
    log_in(store)
    assert counted.read_text() == said
