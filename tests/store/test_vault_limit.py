"""The vault has a bound for each maildrop: what was deleted first goes for good."""

from __future__ import annotations

import fcntl
import os
import time
from mmap import mmap

import pytest

from postoffice.interfaces import PurgeCriteria
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.mail_policy import KeepTimes
from postoffice.store import expunge, mailbox, names, removal, vault
from postoffice.store.store_process import StoreProcess, pack
from postoffice.store.sweep import SWEEP
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, dying_before, folder_of

DAY = 86400.0
MOST = 10 * vault.BLOCK
pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(params=["journal", "files"])
def served(request, root):
    made = []

    def served(**named):
        named.setdefault("undelete_size", MOST)
        made.append(Served(root, durability=request.param, undelete=7 * DAY, **named))
        return made[-1]

    yield served
    for one in made:
        one.stop()


@pytest.fixture
def clock(monkeypatch):
    """Each session is a second after the one before."""
    now = [time.time()]

    def tick():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(vault.time, "time", tick)


def kept(root) -> list[str]:
    """What is in the vault, what was deleted first at first."""
    home = vault.path_of(str(folder_of(root)))
    folders = sorted(vault._folders(home), key=lambda one: float(one[0].partition(".")[0]))
    texts = []
    for _, folder in folders:
        for name in sorted(os.listdir(folder), key=lambda name: names.order_of(name, 0.0)):
            with open(f"{folder}/{name}", "rb") as file:
                texts.append(file.readline().split()[1].decode())
    return texts


def send_and_delete(one, *numbers):
    for number in numbers:
        one.post(f"{number:03}")
        one.remove(f"{number:03}")


@pytest.mark.usefixtures("clock")
def test_an_account_that_sends_itself_mail_and_deletes_it_keeps_the_last_of_it(root, served):
    one = served()
    send_and_delete(one, *range(35))
    assert 9 <= len(kept(root)) <= 10
    assert kept(root) == [f"{number:03}" for number in range(35)][-len(kept(root)) :]
    before = kept(root)
    assert finish(one.store.undelete(JOE, "", 0.0)) == len(before)
    assert one.listed() == before
    send_and_delete(one, *range(100, 120))
    assert 9 <= len(kept(root)) <= 10, "it is counted anew"


@pytest.mark.usefixtures("clock")
def test_a_large_quit_is_held_to_it_too(root, served, monkeypatch):
    monkeypatch.setattr(expunge, "AT_ONCE", 5)  # of more, names go behind the reply
    one = served()
    tokens = [f"{number:03}" for number in range(25)]
    for token in tokens:
        one.post(token)
    one.remove(*tokens)
    assert kept(root) == tokens[-9:]
    assert one.listed() == []


def test_nobody_waits_for_what_a_large_quit_makes_go(root, machine, monkeypatch):
    monkeypatch.setattr(expunge, "AT_ONCE", 5)
    one = Served(root, undelete=7 * DAY, undelete_size=MOST)
    tokens = [f"{number:03}" for number in range(25)]
    for token in tokens:
        one.post(token)
    steps = []
    let_go = mailbox.OpenMaildir._let_go

    def spy(maildrop):
        steps.append("the lock is let go")
        let_go(maildrop)

    monkeypatch.setattr(mailbox.OpenMaildir, "_let_go", spy)
    monkeypatch.setattr(removal, "trim", lambda *_: steps.append("the vault is trimmed"))
    one.remove(*tokens)
    assert steps == ["the lock is let go", "the vault is trimmed"]
    one.stop()


def test_a_message_that_is_larger_than_it_is_gone_at_once(root, served):
    one = served(undelete_size=vault.BLOCK)
    one.post("large")
    one.remove("large")
    assert kept(root) == []
    one.post("small")
    one.remove("small")
    assert kept(root) == ["small"]


def post_within(one, quota, number):
    to = [Recipient(Address.parse(JOE), Account(JOE, JOE, quota=quota))]
    delivery = finish(one.store.begin(Envelope("id", Client(), recipients=to)))
    finish(delivery.write(b"Subject: %03d\r\n\r\n" % number + b"x" * 300 + b"\r\n"))
    finish(delivery.commit())


def test_strangers_who_make_others_mail_go_do_not_fill_the_disk(root, served, clock):
    one = served()
    for number in range(40):
        post_within(one, Quota(0, 3, "make-room"), number)
    assert 9 <= len(kept(root)) <= 10
    assert "036" in kept(root)


def test_nor_do_they_where_a_process_of_its_own_places(root, clock):
    one = Served(root, undelete=DAY, undelete_size=MOST)
    memory = mmap(-1, 4096)
    store_process = StoreProcess(str(root), "journal", True, (), 1 << 20, MOST, memory)
    trimmed = 0
    for number in range(40):
        account = Account(JOE, JOE, quota=Quota(0, 3, "make-room"))
        to = [Recipient(Address.parse(JOE), account)]
        delivery = finish(one.store.begin(Envelope("id", Client(), recipients=to)))
        finish(delivery.write(b"Subject: %03d\r\n\r\n\r\n" % number))
        applied = store_process.commit_batch(pack([delivery._draft], memory, 0))
        assert applied.outcomes == [None]
        trimmed += sum(notice.trimmed.messages for notice in applied.notices)
    assert 9 <= len(kept(root)) <= 10
    assert trimmed == 37 - len(kept(root))
    store_process.close()
    one.stop()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("how", ["purge", "expire"])
def test_what_is_purged_or_expires_is_held_to_it(root, served, how):
    one = served()
    send_and_delete(one, 900, 901)
    for number in range(12):
        one.post(f"{number:03}")
    for path in (folder_of(root) / "new").iterdir():
        later = path.with_name("1000" + path.name[path.name.index(".") :])
        path.rename(later)
        os.utime(later, (1000, 1000))
    if how == "purge":
        assert finish(one.store.purge(JOE, PurgeCriteria(older_than=DAY), False))[0] == 12
    else:
        assert finish(one.store.expire(JOE, KeepTimes(arrived=DAY), False))[0] == 12
    assert len(kept(root)) == 9
    assert not {"900", "901"} & set(kept(root))


@pytest.mark.usefixtures("clock")
def test_where_nothing_is_said_it_is_as_large_as_the_quota(root, served, monkeypatch):
    monkeypatch.setattr(vault, "LEAST", 0)
    one = served(undelete_size=None)
    for number in range(4):
        post_within(one, Quota(20 * vault.BLOCK, 0, "reject"), number)
    finish(one.store.purge(JOE, PurgeCriteria(larger_than=1), False))
    send_and_delete(one, *range(100, 130))
    assert 18 <= len(kept(root)) <= 20


def test_a_quota_is_read_and_a_small_one_leaves_some_room(root, served, monkeypatch):
    one = served(undelete_size=None)
    one.post("one")
    folder = str(folder_of(root))
    size = folder_of(root) / "maildirsize"
    for text, octets in ((b"", 0), (b"5C\n1 1\n", 0), (b"900S,5C\n", 900), (b"-5S\n", 0)):
        size.write_bytes(text)
        assert vault.maildirsize.octets_of(folder) == octets
    size.unlink()
    size.mkdir()
    assert vault.maildirsize.octets_of(folder) == 0
    assert vault.LEAST == 1 << 20
    assert vault.OTHERWISE == 1 << 30


def test_0_keeps_all_of_it(root, served):
    one = served(undelete_size=0)
    send_and_delete(one, *range(15))
    assert len(kept(root)) == 15
    assert not (folder_of(root) / vault.FILE).exists()


def test_what_a_crash_or_an_older_release_has_left_goes_when_it_is_swept(root, served):
    one = served(undelete_size=0)
    send_and_delete(one, *range(15))
    (folder_of(root) / vault.FILE).write_bytes(b"0\n")
    two = served()  # its start sweeps
    assert len(kept(root)) == 9
    home = f"{vault.path_of(str(folder_of(root)))}/1000.other"
    os.makedirs(home)
    for number in range(20):
        with open(f"{home}/1000.{number}.h", "wb") as file:
            file.write(b"Subject: x\r\n")
    two.clock.advance(SWEEP)
    assert "x" not in kept(root)


@pytest.mark.parametrize("text", [b"", b"x\n", b"12", b"1\n" * 4000, b"-5\n"])
def test_a_count_that_cannot_be_believed_is_made_anew(root, served, text):
    one = served()
    send_and_delete(one, *range(9))
    (folder_of(root) / vault.FILE).write_bytes(text)
    send_and_delete(one, *range(50, 70))
    assert 9 <= len(kept(root)) <= 10


def test_an_odd_file_in_its_place_costs_the_removal_nothing(root, served):
    one = served()
    one.post("one")
    (folder_of(root) / vault.FILE).mkdir()
    one.remove("one")
    assert kept(root) == ["one"]
    assert one.listed() == []


def test_nothing_is_lost_where_a_kill_comes_in_between(root):
    """What is removed lies in the maildrop or in the vault until the vault lets it go."""
    step = 0
    while True:
        step += 1
        pid = os.fork()
        if not pid:
            try:
                one = Served(root, undelete=DAY, undelete_size=3 * vault.BLOCK)
                send_and_delete(one, 1, 2)
                one.post("003")
                one.post("004")
                dying_before(step)
                one.remove("003", "004")
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        two = Served(root, undelete=DAY, undelete_size=3 * vault.BLOCK)
        seen = {*kept(root), *two.listed()}
        assert {"003", "004"} <= seen or len(kept(root)) == 2
        assert len(kept(root)) <= 3
        for token in two.listed():
            two.remove(token)
        finish(two.store.discard(JOE, keep=False))
        two.stop()
        if not status:
            break
    assert step > 5


def test_a_removal_does_not_wait_for_trimming(root, served):
    one = served()
    send_and_delete(one, 1)
    path = folder_of(root) / vault.FILE
    with open(path, "rb") as trimming:
        fcntl.flock(trimming, fcntl.LOCK_EX)
        one.post("002")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vault, "trim", lambda *_, **named: vault.NOTHING)
            one.remove("002")
    send_and_delete(one, *range(3, 30))
    assert len(kept(root)) <= MOST // vault.BLOCK, "it was counted anew"
