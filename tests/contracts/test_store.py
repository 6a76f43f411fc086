"""What every store of maildrops must keep (``interfaces.IMailStore``)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.interfaces import IDelivery, IMaildrop, IMailStore, IRetention, IText
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import LoginTooSoon, MaildropLocked, MessageGone
from postoffice.model.mail_policy import KeepTimes
from postoffice.store.journal import filesystem
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.memory import MemoryStore
from postoffice.store.pace import Pace
from postoffice.testing import ImmediateExecutor, finish

TEXTS = [b"Subject: 1\r\n\r\none\r\n", b"\r\n", b"x" * 1000 + b"\r\n", b"." * 200_000 + b"\r\n"]


#: The store in the manual (docs/plugins.rst).
SHELF = Path(__file__).parents[2] / "docs" / "examples" / "shelf" / "postoffice_shelf.py"


@pytest.fixture(params=["memory", "maildir files", "maildir journal", "maildir slow", "shelf"])
def store(request, tmp_path, monkeypatch):
    if request.param == "memory":
        store = MemoryStore()
    elif request.param == "shelf":
        (tmp_path / "store").mkdir()
        shelf_store = runpy.run_path(str(SHELF))["ShelfStore"]
        store = shelf_store(str(tmp_path / "store" / "shelf.db"), ImmediateExecutor())
    else:
        monkeypatch.setattr(filesystem, "file_system", lambda path: "ext4")  # no power fails here
        durability = request.param.removeprefix("maildir ")
        if durability == "slow":  # nothing of it is done on the reactor's thread
            monkeypatch.setattr(Pace, "quick", False)
            durability = "journal"
        store = MaildirStore(
            str(tmp_path / "store"),
            ImmediateExecutor(),
            hostname="mail.example.net",
            clock=Clock(),
            durability=durability,
            segment=1 << 20,
        )
    finish(store.start())
    yield store
    finish(store.stop())


def envelope(*names: str) -> Envelope:
    recipients = [Recipient(Address.parse(name), Account(name, name)) for name in names]
    return Envelope("id.1", Client(), recipients=recipients)


def post(store, text: bytes, *names: str) -> None:
    delivery = finish(store.begin(envelope(*names)))
    for start in range(0, len(text), 60_000):
        finish(delivery.write(text[start : start + 60_000]))
    finish(delivery.commit())
    delivery.abort()  # does nothing any more


def read(maildrop, entry) -> bytes:
    text = finish(maildrop.fetch(entry))
    assert verifyObject(IText, text)
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    text.close()
    assert len(octets) == entry.size
    return octets


def contents(store, name: str) -> list[bytes]:
    maildrop = store.maildrop(name)
    texts = [read(maildrop, entry) for entry in finish(maildrop.open()).entries]
    maildrop.release()
    return texts


def test_it_provides_what_it_says(store):
    assert verifyObject(IMailStore, store)
    assert verifyObject(IMaildrop, store.maildrop("joe@example.net"))
    assert verifyObject(IDelivery, finish(store.begin(envelope("joe@example.net"))))


def test_an_unused_maildrop_is_empty(store):
    assert contents(store, "joe@example.net") == []
    assert finish(store.count("joe@example.net")) == (0, 0)
    assert finish(store.count("nobody@example.net")) == (0, 0)


def test_what_was_posted_is_read_in_its_order(store):
    for text in TEXTS:
        post(store, text, "joe@example.net")
    assert contents(store, "joe@example.net") == TEXTS
    assert finish(store.count("joe@example.net")) == (4, sum(map(len, TEXTS)))


@pytest.mark.parametrize("body", [b"short\r\n", b"long\r\n" * 60_000])
def test_a_listing_says_how_large_a_message_is_for_clients_without_utf8(store, body):
    """RFC 6856 §2.1: without anybody looking into it again."""
    plain = b"Subject: plain\r\n\r\n\xc3\xbc" + body
    international = "Subject: ü\r\n\r\n".encode() + body
    odd = "Content-Type: multipart/mixed; boundary=ü\r\n\r\n".encode() + body
    for text in (plain, international, odd):
        post(store, text, "joe@example.net", "ann@example.net")
    for name in ("joe@example.net", "ann@example.net"):
        maildrop = store.maildrop(name)
        sizes = [(entry.size, entry.downgraded) for entry in finish(maildrop.open()).entries]
        assert sizes == [
            (len(plain), None),
            (len(international), len("Subject: =?utf-8?b?w7w=?=\r\n\r\n") + len(body)),
            (len(odd), None),
        ]
        maildrop.release()


def test_one_message_goes_to_all_recipients_and_no_one_else(store):
    post(store, b"hi\r\n", "joe@example.net", "ann@example.net", "joe@example.com")
    for name in ("joe@example.net", "ann@example.net", "joe@example.com"):
        assert contents(store, name) == [b"hi\r\n"]
    assert contents(store, "ann@example.com") == []


def test_what_is_not_committed_is_not_there(store):
    delivery = finish(store.begin(envelope("joe@example.net")))
    for _ in range(20):
        finish(delivery.write(b"x" * 65536))
    assert contents(store, "joe@example.net") == []
    delivery.abort()
    delivery.abort()
    assert contents(store, "joe@example.net") == []


def written(store, text: bytes, *names: str):
    delivery = finish(store.begin(envelope(*names)))
    for start in range(0, len(text), 60_000):
        finish(delivery.write(text[start : start + 60_000]))
    return delivery


def looked_at(delivery) -> bytes:
    """What somebody sees who looks at a message before it is committed."""
    text = finish(delivery.text())
    assert verifyObject(IText, text)
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    text.close()
    return octets


@pytest.mark.parametrize("text", [*TEXTS, b"y" * 1_000_000 + b"\r\n"], ids=len)
def test_a_text_can_be_looked_at_before_it_is_kept(store, text):
    delivery = written(store, text, "joe@example.net")
    assert looked_at(delivery) == text
    assert looked_at(delivery) == text, "and by another, from its start"
    finish(delivery.text()).close()  # unread
    finish(delivery.commit())
    assert contents(store, "joe@example.net") == [text]


@pytest.mark.parametrize("text", [*TEXTS, b"y" * 1_000_000 + b"\r\n"], ids=len)
def test_fields_go_before_what_was_written(store, text):
    delivery = written(store, text, "joe@example.net")
    assert looked_at(delivery) == text
    finish(delivery.prepend(b"X-First: 1\r\n"))
    finish(delivery.prepend(b"X-Second: 2\r\n"))
    whole = b"X-Second: 2\r\nX-First: 1\r\n" + text
    assert looked_at(delivery) == whole
    finish(delivery.commit())
    assert contents(store, "joe@example.net") == [whole]


def test_each_recipient_has_an_outcome(store):
    names = ("joe@example.net", "ann@example.net", "joe@example.com")
    delivery = written(store, b"hi\r\n", *names)
    assert list(finish(delivery.commit_each())) == [None, None, None]
    delivery.abort()  # does nothing any more
    for name in names:
        assert contents(store, name) == [b"hi\r\n"]


def test_a_second_session_is_kept_out(store):
    first, second = store.maildrop("joe@example.net"), store.maildrop("joe@example.net")
    finish(first.open())
    with pytest.raises(MaildropLocked):
        finish(second.open())
    second.release()
    with pytest.raises(MaildropLocked):
        finish(store.maildrop("joe@example.net").open())
    first.release()
    first.release()
    finish(second.open())
    second.release()


def test_texts_that_are_read_with_another_are_those_of_the_next_entries(store):
    for number in range(5):
        post(store, b"%d\r\n" % number, JOE)
    maildrop = store.maildrop(JOE)
    entries = finish(maildrop.open()).entries
    for first in (0, 3, 1):
        text = finish(maildrop.fetch(entries[first]))
        texts = [finish(text.read()), *getattr(text, "following", ())]
        assert texts == [b"%d\r\n" % number for number in range(first, first + len(texts))]
    maildrop.release()


def test_mail_that_arrives_in_a_session_waits_for_the_next(store):
    post(store, b"one\r\n", "joe@example.net")
    maildrop = store.maildrop("joe@example.net")
    listing = finish(maildrop.open())
    post(store, b"two\r\n", "joe@example.net")
    assert len(listing) == 1
    maildrop.release()
    assert contents(store, "joe@example.net") == [b"one\r\n", b"two\r\n"]


def test_what_is_removed_is_gone_and_its_uidl_with_it(store):
    for text in TEXTS:
        post(store, text, "joe@example.net")
    maildrop = store.maildrop("joe@example.net")
    before = finish(maildrop.open()).entries
    finish(maildrop.remove([before[0], before[2]]))
    finish(maildrop.remove([before[0]]))  # once more is no error
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(before[2]))
    maildrop.release()
    assert contents(store, "joe@example.net") == [TEXTS[1], TEXTS[3]]
    post(store, TEXTS[0], "joe@example.net")
    after = finish(store.maildrop("joe@example.net").open()).entries
    assert [entry.uidl for entry in after[:2]] == [before[1].uidl, before[3].uidl]
    assert after[2].uidl not in {entry.uidl for entry in before}


def test_a_session_that_ends_removes_nothing(store):
    post(store, b"one\r\n", "joe@example.net")
    maildrop = store.maildrop("joe@example.net")
    finish(maildrop.open()).delete(1)
    maildrop.release()
    assert contents(store, "joe@example.net") == [b"one\r\n"]


def test_uidls_are_what_the_rfc_allows(store):
    for _ in range(10):
        post(store, b"x\r\n", "joe@example.net", "ann@example.net")
    entries = finish(store.maildrop("joe@example.net").open()).entries
    assert len({entry.uidl for entry in entries}) == 10
    for entry in entries:
        assert 1 <= len(entry.uidl) <= 70
        assert all("!" <= letter <= "~" for letter in entry.uidl)


@pytest.mark.parametrize("keep", [True, False])
def test_a_discarded_maildrop_starts_empty(store, keep):
    post(store, b"old\r\n", "joe@example.net")
    post(store, b"hers\r\n", "ann@example.net")
    maildrop = store.maildrop("joe@example.net")
    finish(maildrop.open())
    with pytest.raises(MaildropLocked):
        finish(store.discard("joe@example.net", keep))
    maildrop.release()
    assert bool(finish(store.discard("joe@example.net", keep))) is keep
    assert finish(store.discard("nobody@example.net", keep)) == ""
    assert contents(store, "joe@example.net") == []
    post(store, b"new\r\n", "joe@example.net")
    assert contents(store, "joe@example.net") == [b"new\r\n"]
    assert contents(store, "ann@example.net") == [b"hers\r\n"]


def test_texts_can_be_read_in_any_order_and_given_up(store):
    for text in TEXTS:
        post(store, text, "joe@example.net")
    maildrop = store.maildrop("joe@example.net")
    entries = finish(maildrop.open()).entries
    for number in (3, 0, 0, 2, 1, 3, 0, 1, 2):
        assert read(maildrop, entries[number]) == TEXTS[number]
    given_up = finish(maildrop.fetch(entries[3]))
    finish(given_up.read())
    given_up.close()
    maildrop.release()


ODD_NAMES = [
    "../../etc/passwd@example.net",
    "a/b@example.net",
    "..@example.net",
    ".@example.net",
    ".hidden@example.net",
    "%2e@example.net",
    "nul\0@example.net",
    "ünï@example.net",
    "日本@example.net",
    "a b@example.net",
    "-rf@example.net",
    "~@example.net",
    "$(id)@example.net",
    "x@[192.0.2.1]",
    "long" * 16 + "@example.net",
    "ü" * 32 + "@example.net",
]


def test_names_of_any_kind_are_different_maildrops(store, tmp_path):
    for number, name in enumerate(ODD_NAMES):
        recipient = Recipient(Address("x", "example.net"), Account(name, name))
        delivery = finish(store.begin(Envelope("id", Client(), recipients=[recipient])))
        finish(delivery.write(b"%d\r\n" % number))
        finish(delivery.commit())
    for number, name in enumerate(ODD_NAMES):
        assert contents(store, name) == [b"%d\r\n" % number]
    assert {path.name for path in tmp_path.iterdir()} <= {"store"}


def test_an_opening_that_is_cancelled_leaves_no_lock(store):
    opening = Deferred.fromCoroutine(store.maildrop("joe@example.net").open())
    opening.addErrback(lambda failure: failure.trap(CancelledError))
    opening.cancel()
    if isinstance(store, MaildirStore):
        finish(store.maildrop("other@example.net").open())


# -- mail that goes when its time has come (IRetention) ---------------------------------

JOE = "joe@example.net"
BOTH = frozenset(("phone", "laptop"))


@pytest.fixture
def keeping(store):
    """A store that can, with three messages of Joe's."""
    if not IRetention.providedBy(store):
        pytest.skip("mail stays there until somebody deletes it")
    assert verifyObject(IRetention, store)
    for text in (b"one\r\n", b"two\r\n", b"three\r\n"):
        post(store, text, JOE)
    return store


def collect(store, device: str, count: int, devices=None) -> list[str]:
    """A device collects the first messages; which of them count as collected."""
    maildrop = store.maildrop(JOE)
    entries = finish(maildrop.open()).entries[:count]
    by_all = finish(store.collect(JOE, entries, device, devices))
    maildrop.release()
    return [one.uidl for one in by_all]


def test_mail_goes_when_it_has_been_there_for_long_enough(keeping):
    assert finish(keeping.expire(JOE, KeepTimes(arrived=3600), False)) == (0, 0)
    assert finish(keeping.expire(JOE, KeepTimes(arrived=0), True)) == (3, 17)
    assert finish(keeping.count(JOE)) == (3, 17)
    assert finish(keeping.expire(JOE, KeepTimes(arrived=0), False)) == (3, 17)
    assert contents(keeping, JOE) == []


def test_mail_that_is_kept_for_ever_stays(keeping):
    collect(keeping, "", 3)
    assert finish(keeping.expire(JOE, KeepTimes(), False)) == (0, 0)
    assert len(contents(keeping, JOE)) == 3


def test_what_was_collected_goes_when_that_was_long_enough_ago(keeping):
    collect(keeping, "", 2)
    assert finish(keeping.expire(JOE, KeepTimes(collected=3600), False)) == (0, 0)
    assert finish(keeping.expire(JOE, KeepTimes(collected=0), False)) == (2, 10)
    assert contents(keeping, JOE) == [b"three\r\n"]


def test_what_only_some_devices_have_stays_where_all_shall_have_it(keeping):
    every = KeepTimes(collected=0, devices=BOTH)
    assert len(collect(keeping, "phone", 3, BOTH)) == 0
    assert finish(keeping.expire(JOE, every, False)) == (0, 0)
    assert len(collect(keeping, "laptop", 1, BOTH)) == 1
    assert len(collect(keeping, "laptop", 2)) == 2  # whoever it was
    assert finish(keeping.expire(JOE, every, False)) == (2, 10)
    assert contents(keeping, JOE) == [b"three\r\n"]


def test_the_own_password_is_the_only_device_where_there_are_no_others(keeping):
    alone = KeepTimes(collected=0, devices=frozenset())
    collect(keeping, "old phone", 3)
    assert finish(keeping.expire(JOE, alone, False)) == (0, 0)
    assert len(collect(keeping, "", 1, frozenset())) == 1
    assert finish(keeping.expire(JOE, alone, False)) == (1, 5)


def test_mail_waits_for_a_client_with_the_accounts_own_password(keeping):
    collect(keeping, "", 1)
    assert len(collect(keeping, "phone", 2, frozenset(("phone",)))) == 1
    only = KeepTimes(collected=0, devices=frozenset(("phone",)))
    assert finish(keeping.expire(JOE, only, False)) == (1, 5)


def test_nothing_expires_under_a_session(keeping):
    maildrop = keeping.maildrop(JOE)
    listing = finish(maildrop.open())
    with pytest.raises(MaildropLocked):
        finish(keeping.expire(JOE, KeepTimes(arrived=0), False))
    assert finish(keeping.expire(JOE, KeepTimes(arrived=3600), False)) == (0, 0)
    assert read(maildrop, listing.entries[0]) == b"one\r\n"
    maildrop.release()
    assert finish(keeping.expire(JOE, KeepTimes(arrived=0), False)) == (3, 17)


def test_nobody_has_nothing_that_expires(keeping):
    assert finish(keeping.expire("nobody@example.net", KeepTimes(arrived=0), False)) == (0, 0)


# -- the time between two logins -------------------------------------------------------


def test_a_login_that_comes_too_soon_is_refused_and_does_not_count(store):
    first = store.maildrop(JOE)
    finish(first.open(60))  # the first ever
    first.release()
    for _ in range(3):
        soon = store.maildrop(JOE)
        with pytest.raises(LoginTooSoon):
            finish(soon.open(60))
        soon.release()
    finish(first.open())
    first.release()


def test_mail_that_comes_or_goes_is_no_login(store):
    post(store, b"one\r\n", JOE)
    if IRetention.providedBy(store):
        finish(store.expire(JOE, KeepTimes(arrived=0), False))
    maildrop = store.maildrop(JOE)
    finish(maildrop.open(60))
    maildrop.release()


def test_a_login_to_a_maildrop_in_use_does_not_count(store):
    first, second = store.maildrop(JOE), store.maildrop(JOE)
    finish(first.open())
    with pytest.raises((MaildropLocked, LoginTooSoon)):  # both are so
        finish(second.open(60))
    first.release()
