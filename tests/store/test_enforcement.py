"""Maildrops that fill up: their owners are told, and room is made where that is asked for."""

from __future__ import annotations

import email
import email.policy
import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropFull, MaildropFullNow, TemporaryFailure
from postoffice.store import files, names
from postoffice.store.journal import filesystem
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.quota import notices
from postoffice.store.quota.enforcement import A_DAY, TOLD, Notice, is_due
from postoffice.store.quota.notice_texts import letter
from postoffice.store.quota.usage_file import Usage
from postoffice.testing import ImmediateExecutor, finish

JOE, ANN = "joe@example.net", "ann@example.net"
DAY = 86400.0


@pytest.fixture(params=["journal", "files"])
def kept(request, tmp_path, monkeypatch):
    """Makes a store, kept one way or the other."""
    monkeypatch.setattr(filesystem, "file_system", lambda path: "ext4")
    monkeypatch.setattr(filesystem, "LINUX", (0, 0))
    monkeypatch.setattr(os, "fsync", os.fstat)
    stores = []

    def kept(**named):
        store = MaildirStore(
            str(tmp_path),
            ImmediateExecutor(),
            hostname="mail.example.net",
            clock=Clock(),
            durability=request.param,
            segment=1 << 20,
            **named,
        )
        finish(store.start())
        stores.append(store)
        return store

    yield kept
    for store in stores:
        finish(store.stop())


@pytest.fixture
def joe(tmp_path):
    """Joe's folder."""
    return tmp_path / "example.net" / "joe"


def text(number: int, size: int = 100) -> bytes:
    return (b"Subject: %03d\r\n\r\n" % number).ljust(size - 2, b"x") + b"\r\n"


def post(store, octets: bytes, quota: Quota, *names: str) -> None:
    names = names or (JOE,)
    to = [Recipient(Address.parse(one), Account(one, one, quota=quota)) for one in names]
    delivery = finish(store.begin(Envelope("id", Client(), recipients=to)))
    finish(delivery.write(octets))
    finish(delivery.commit())


def mail(folder, *, letters: bool = False) -> list[str]:
    """The subjects of what is there, in the order in which it came."""
    found = sorted((path.name, path) for box in ("new", "cur") for path in (folder / box).iterdir())
    parsed = [email.message_from_bytes(path.read_bytes()) for _, path in found]
    return [one["Subject"] for one in parsed if bool(one["Auto-Submitted"]) is letters]


# -- room is made --------------------------------------------------------------------------------

ROOMY = Quota(1000, 3, "make-room")


@pytest.fixture
def told(joe):
    """Joe was told of something today: no letters are in the way."""
    files.make(str(joe))
    (joe / TOLD).touch()


@pytest.mark.usefixtures("told")
def test_the_oldest_go_until_the_new_one_fits(kept, joe):
    store = kept()
    for number in range(6):
        post(store, text(number), ROOMY)
    assert mail(joe) == ["003", "004", "005"]
    post(store, text(6, 950), ROOMY)
    assert mail(joe) == ["006"]


@pytest.mark.usefixtures("told")
def test_what_went_to_make_room_is_in_the_log(kept, joe, logged):
    store = kept()
    for number in range(3):
        post(store, text(number), ROOMY)
    oldest = min(path.name for path in (joe / "new").iterdir())
    post(store, text(3), ROOMY)
    [line] = [line for line in logged if line.startswith("mail-removed ")]
    uidl = names.uidl_of_file(oldest)
    assert line.startswith(f"mail-removed maildrop={JOE} messages=1 octets=")
    assert line.endswith(f" uidls={uidl} why=make-room")


@pytest.mark.usefixtures("told")
def test_what_somebody_has_read_goes_first(kept, joe):
    store = kept()
    for number in range(3):
        post(store, text(number), ROOMY)
    (second,) = [path for path in (joe / "new").iterdir() if b"001" in path.read_bytes()]
    second.rename(joe / "cur" / f"{second.name}:2,RS")
    post(store, text(3), ROOMY)
    assert mail(joe) == ["000", "002", "003"]
    post(store, text(4), ROOMY)
    assert mail(joe) == ["002", "003", "004"]


@pytest.mark.parametrize("undelete", [0, 7 * DAY])
def test_what_went_to_make_room_can_be_brought_back_where_things_are_kept(kept, joe, undelete):
    store = kept(undelete=undelete)
    for number in range(4):
        post(store, text(number), ROOMY)
    kept_there = finish(store.vault_sessions(JOE))
    assert [(one.session, one.messages) for one in kept_there] == [("make-room", 1)] * bool(
        undelete
    )
    if undelete:
        assert finish(store.undelete(JOE, "make-room", 0.0)) == 1
        assert mail(joe) == ["000", "001", "002", "003"]


def test_nothing_goes_for_what_would_not_fit_alone(kept, joe):
    store = kept()
    for number in range(3):
        post(store, text(number), ROOMY)
    with pytest.raises(MaildropFull):
        post(store, text(3, 1002), ROOMY)
    assert mail(joe) == ["000", "001", "002"]


def test_nothing_goes_under_the_hands_of_who_collects(kept, joe):
    store = kept()
    for number in range(3):
        post(store, text(number), ROOMY)
    maildrop = store.maildrop(JOE)
    finish(maildrop.open())
    with pytest.raises(MaildropFullNow):
        post(store, text(3), ROOMY)
    assert mail(joe) == ["000", "001", "002"]
    maildrop.release()
    post(store, text(3), ROOMY)
    assert mail(joe) == ["001", "002", "003"]


def test_an_owner_is_told_of_removed_messages(kept, joe):
    store = kept()
    for number in range(4):
        post(store, text(number), ROOMY)
    assert mail(joe, letters=True) == ["Old messages were removed from your mailbox"]


def test_several_that_come_together_get_as_much_room_as_there_is(kept, joe, monkeypatch):
    """More than an empty maildrop holds: some of them come later, the others have room now."""
    store = kept()
    for number in range(3):
        post(store, text(number), ROOMY)
    waiting = []
    monkeypatch.setattr(store._batcher, "_begin_batches", waiting.append)
    outcomes = []
    for number in range(3, 8):
        to = [Recipient(Address.parse(JOE), Account(JOE, JOE, quota=ROOMY))]
        delivery = finish(store.begin(Envelope("id", Client(), recipients=to)))
        finish(delivery.write(text(number)))
        outcomes.append(Deferred.fromCoroutine(delivery.commit()))
    monkeypatch.undo()
    store._batcher._begin_batches(waiting[0])
    failed = [outcome for outcome in outcomes if outcome.result is not None]
    for outcome in failed:
        outcome.addErrback(lambda failure: failure.trap(MaildropFullNow))
    assert len(failed) == 2
    assert mail(joe) == ["003", "004", "005"]


# -- the owner is told ---------------------------------------------------------------------------

TEN = Quota(0, 10, "reject")
TWENTY = Quota(0, 20, "reject")


@pytest.fixture
def now(monkeypatch):
    """The time of day, which tests move on."""
    now = [time.time()]
    monkeypatch.setattr(notices.time, "time", lambda: now[0])
    return now


def test_at_each_level_there_is_a_letter_and_only_one(kept, joe, now):
    """A letter is a message, too."""
    store = kept(levels=(95, 80))
    said = []
    for number in range(18):
        post(store, text(number), TWENTY)
        now[0] += A_DAY
        said.append(mail(joe, letters=True))
    assert said[:15] == [[]] * 15
    assert said[15] == said[16] == ["Your mailbox is 80 % full"]
    assert said[17] == ["Your mailbox is 80 % full", "Your mailbox is 95 % full"]


def test_there_is_one_letter_a_day_and_the_higher_level_comes_the_next_day(kept, joe, now):
    store = kept(levels=(80, 90))
    for number in range(17):
        post(store, text(number), TWENTY)
    now[0] += A_DAY - 60
    post(store, text(17), TWENTY)
    assert mail(joe, letters=True) == ["Your mailbox is 80 % full"]
    now[0] += 60
    post(store, text(18), TWENTY)
    assert mail(joe, letters=True)[1:] == ["Your mailbox is 90 % full"]


def test_an_owner_who_made_room_is_told_when_it_is_full_again(kept, joe, now):
    store = kept(levels=(80,))
    for _ in range(2):
        for number in range(8):
            post(store, text(number), TEN)
        assert mail(joe, letters=True) == ["Your mailbox is 80 % full"]
        maildrop = store.maildrop(JOE)
        finish(maildrop.remove(list(finish(maildrop.open()).entries)))
        maildrop.release()
        now[0] += A_DAY


def test_a_letter_comes_where_there_is_no_room(kept, joe):
    store = kept(levels=(100,))
    quota = Quota(1000, 0, "reject")
    for number in range(10):
        post(store, text(number), quota)
    assert mail(joe, letters=True) == ["Your mailbox is 100 % full"]
    with pytest.raises(MaildropFull):
        post(store, text(10, 20), quota)


def test_each_owner_is_told_of_his_own(kept, tmp_path):
    store = kept(levels=(80,))
    for number in range(8):
        post(store, text(number), TEN, JOE, ANN)
    for name in ("joe", "ann"):
        assert len(mail(tmp_path / "example.net" / name, letters=True)) == 1


@pytest.mark.parametrize("over", ["reject", "make-room"])
def test_an_account_that_was_renamed_is_told_under_its_address(kept, joe, over):
    """Its maildrop keeps its name, and another may have got the address that was its own."""
    store = kept(levels=(80,))
    owner = Account("joe.lee@example.org", JOE, quota=Quota(0, 10, over))
    for number in range(11 if over == "make-room" else 8):
        to = [Recipient(Address.parse(owner.address), owner)]
        delivery = finish(store.begin(Envelope("id", Client(), recipients=to)))
        finish(delivery.write(text(number)))
        finish(delivery.commit())
    letters = [one.read_bytes() for one in (joe / "new").iterdir()]
    letters = [one for one in letters if b"Auto-Submitted" in one]
    assert letters
    for one in letters:
        assert b"\r\nTo: joe.lee@example.org\r\n" in one
        assert b"joe@" not in one


def test_without_levels_nobody_is_told(kept, joe):
    store = kept()
    for number in range(10):
        post(store, text(number), TEN)
    assert mail(joe, letters=True) == []
    assert not (joe / TOLD).exists()


def test_the_text_may_be_another(kept, joe):
    store = kept(levels=(80,), letter="Subject: Voll: ${percent} %\n\n$address: $used von $limit\n")
    for number in range(8):
        post(store, text(number), TEN)
    assert mail(joe, letters=True) == ["Voll: 80 %"]
    (path,) = [path for path in (joe / "new").iterdir() if b"Auto-" in path.read_bytes()]
    octets = path.read_bytes()
    assert octets.startswith(b"Return-Path: <>\r\n")
    assert octets.endswith(b"joe@example.net: 800 octets, 8 messages von 10 messages\r\n")


def test_what_is_told_of_last_is_kept_in_the_maildrop(kept, joe):
    store = kept(levels=(80,))
    for number in range(8):
        post(store, text(number), TEN)
    assert (joe / TOLD).read_text() == "80\n"
    (joe / TOLD).write_bytes(b"\xffodd")
    os.utime(joe / TOLD, (1, 1))
    post(store, text(8), TEN)
    assert len(mail(joe, letters=True)) == 2


def test_a_note_that_cannot_be_written_keeps_nobody_waiting(tmp_path, monkeypatch):
    folder, now = str(tmp_path), time.time()
    assert is_due(folder, now - 2 * A_DAY, 50)

    def fail(*_, **named):
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", fail)
        with pytest.raises(TemporaryFailure):
            is_due(folder, now, 80)
    assert is_due(folder, now, 80)


# -- letters -------------------------------------------------------------------------------------

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def parsed(notice: Notice, address: Address, words: str = ""):
    octets = letter(notice, address, "mail.example.net", "1.2", WHEN, words)
    assert octets.count(b"\n") == octets.count(b"\r\n")
    return email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)


def full(octets: int = 0, messages: int = 0, **more) -> Notice:
    return Notice("/", Quota(octets, messages), Usage(octets * 8 // 10, 5), **more)


@pytest.mark.parametrize("told", [None, 2 * A_DAY])
def test_of_those_who_ask_at_the_same_time_one_tells_the_owner(tmp_path, told):
    folder, now = str(tmp_path), time.time()
    if told is not None:
        assert is_due(folder, now - told, 50)
    for _ in range(20):
        at_once = threading.Barrier(4)

        def ask(before, at_once=at_once):
            at_once.wait()
            return is_due(folder, now - before, 80)

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(ask, (0, 0, 0.001, 0.002))) == 1
        if told is None:
            (tmp_path / TOLD).unlink()
        else:
            os.utime(tmp_path / TOLD, (now - told, now - told))


def test_a_letter_is_one_that_nobody_answers():
    found = parsed(full(1 << 30, level=80), Address("joe", "example.net"))
    assert found["From"] == "Post office <postmaster@example.net>"
    assert found["To"] == JOE
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Message-ID"] == "<1.2@mail.example.net>"
    assert found["Date"] == "Sat, 31 Jan 2026 12:00:00 +0000"
    assert "holds 819.2 MiB, 5 messages, which is 80 %" in found.get_content()


def test_the_notice_says_how_many_messages_were_removed():
    found = parsed(full(1000, 10, removed=7), Address("joe", "example.net"))
    assert "were removed: 7." in found.get_content()


@pytest.mark.parametrize("words", ["Größe $percent\n\nGrüße, $address\n", "x\n\n" + "ä" * 2000])
def test_a_text_of_any_words_goes_through_old_programs(words):
    octets = letter(full(1000, level=80), Address("joe", "example.net"), "h", "1", WHEN, words)
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) < 999
    found = parsed(full(1000, level=80), Address("joe", "example.net"), words)
    assert found.get_content().replace("\r\n", "\n") == words.partition("\n\n")[2].replace(
        "$address", JOE
    ) + ("" if words.endswith("\n") else "\n")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (Address("a b", "example.net"), '"a b"@example.net'),
        (Address('a"<>,;:b', "example.net"), '"a\\"<>,;:b"@example.net'),
        (Address("ünï", "example.net"), "ünï@example.net"),
        (Address("joe", "xn--bcher-kva.example"), "joe@xn--bcher-kva.example"),
        (Address("joe", "[192.0.2.1]"), "joe@[192.0.2.1]"),
    ],
)
def test_the_address_stands_there_as_it_is(address, said):
    octets = letter(full(1000, level=80), address, "h", "1", WHEN)
    assert f"\r\nTo: {said}\r\n".encode() in octets


def test_an_address_is_no_way_to_more_fields():
    with pytest.raises(ValueError, match="linefeed"):
        letter(full(1000, level=80), Address("a\r\nBcc: x", "example.net"), "h", "1", WHEN)
