"""A delivery to several maildrops, one of which fails: over LMTP the others get the message."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import TemporaryFailure
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish

NAMES = ("bad@example.net", "good@example.net")
TEXT = b"Subject: hi\r\n\r\nhi\r\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="mx.example.net", clock=Clock(), durability="files"
    )
    finish(store.start())
    (root / "example.net").mkdir()
    (root / "example.net" / "bad").write_bytes(b"no folder")
    yield store
    finish(store.stop())


def delivery(store, *names: str):
    recipients = [Recipient(Address.parse(name), Account(name, name)) for name in names]
    begun = finish(store.begin(Envelope("id.1", Client(), recipients=recipients)))
    finish(begun.write(TEXT))
    return begun


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], (*NAMES, *NAMES)], ids=len)
def test_a_maildrop_that_cannot_be_made_costs_its_recipient_only(store, root, names):
    outcomes = finish(delivery(store, *names).commit_each())
    assert [name.startswith("bad") for name in names] == [
        isinstance(outcome, TemporaryFailure) for outcome in outcomes
    ]
    (file,) = (root / "example.net" / "good" / "new").iterdir()
    assert file.read_bytes() == TEXT


def test_where_it_is_all_or_none_nobody_has_it(store, root):
    with pytest.raises(TemporaryFailure):
        finish(delivery(store, *NAMES).commit())
    assert list((root / "example.net" / "good" / "new").iterdir()) == []


def test_where_nobody_can_have_it_that_is_known_at_once(store):
    with pytest.raises(TemporaryFailure):
        delivery(store, NAMES[0])
