"""One account's mail, on the account's terms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from postoffice.accounts.directories import Directories
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.interfaces import IMailbox, IMailStore
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient, SessionInfo
from postoffice.model.errors import LoginTooSoon, NotAllRemoved, TemporaryFailure
from postoffice.model.mail_policy import A_DAY, DEFAULT_POLICY, UNSPECIFIED, KeepTimes, MailPolicy
from postoffice.server.mailbox import MailboxContext
from postoffice.store.memory import MemoryMaildrop, MemoryStore
from postoffice.testing import ImmediateExecutor, finish

JOE = "joe@example.net"
UNLIMITED = Quota(0, 0, "reject")
MAKES_ROOM = Quota(1000, 0, "make-room")


@pytest.fixture
def store():
    store = MemoryStore()
    for text in (b"1\r\n", b"2\r\n", b"3\r\n"):
        delivery = finish(store.begin(Envelope("id", Client(), recipients=[recipient()])))
        finish(delivery.write(text))
        finish(delivery.commit())
    return store


def recipient() -> Recipient:
    return Recipient(Address.parse(JOE), Account(JOE, JOE))


def mailbox(mailbox_context, *, mail_policy=UNSPECIFIED, **more):
    account = Account(JOE, JOE, mail_policy=mail_policy, **more)
    return mailbox_context.mailbox(SessionInfo("id", "pop3", Client()), account)


def left(store) -> int:
    return finish(store.count(JOE))[0]


def quit_with(one, *, removed=(), collected=()) -> int:
    """A session that ends with QUIT; how many messages it says are gone."""
    entries = finish(one.open()).entries
    try:
        return finish(
            one.update([entries[n] for n in removed], [entries[n] for n in collected], "session")
        )
    finally:
        one.release()


def test_it_provides_what_it_says(store):
    assert verifyObject(IMailbox, mailbox(MailboxContext(store)))


def test_what_is_marked_goes_and_what_was_only_collected_stays(store):
    assert quit_with(mailbox(MailboxContext(store)), removed=[0], collected=[1]) == 1
    assert left(store) == 2


def test_the_accounts_own_terms_go_before_those_of_all(store):
    mailbox_context = MailboxContext(
        store, MailPolicy(delete_on_collect=True).or_else(DEFAULT_POLICY)
    )
    assert quit_with(mailbox(mailbox_context, mail_policy=MailPolicy(delete_on_collect=False))) == 0
    assert quit_with(mailbox(mailbox_context), removed=[2], collected=[0, 1]) == 3
    assert left(store) == 0


def test_what_was_collected_is_remembered_whatever_the_terms(store):
    quit_with(mailbox(MailboxContext(store)), collected=[0, 1])
    assert finish(store.expire(JOE, KeepTimes(collected=0), True))[0] == 2


def test_all_devices_of_an_account_are_waited_for(store):
    async def devices(account):
        assert account.address == JOE
        return ["phone", "laptop"]

    mailbox_context = MailboxContext(store, devices=devices)
    options = MailPolicy(delete_on_collect=True, devices="all")
    phone = mailbox(mailbox_context, mail_policy=options, device="phone")
    laptop = mailbox(mailbox_context, mail_policy=options, device="laptop")
    assert quit_with(phone, collected=[0, 1, 2]) == 0
    assert quit_with(laptop, removed=[1], collected=[0]) == 2
    assert left(store) == 1


def test_a_note_that_cannot_be_made_keeps_no_mail_from_going(store, monkeypatch):
    async def fail(*_):
        raise TemporaryFailure("no space")

    monkeypatch.setattr(store, "collect", fail)
    assert quit_with(mailbox(MailboxContext(store)), removed=[0], collected=[1]) == 1
    options = MailPolicy(delete_on_collect=True, devices="all")
    assert quit_with(mailbox(MailboxContext(store), mail_policy=options), collected=[0, 1]) == 0
    assert left(store) == 2


def test_a_removal_that_fails_in_the_middle_is_told(store, monkeypatch):
    async def fail(self, entries, session):
        raise NotAllRemoved("disk on fire", 1)

    monkeypatch.setattr("postoffice.store.memory.MemoryMaildrop.remove", fail)
    with pytest.raises(NotAllRemoved):
        quit_with(mailbox(MailboxContext(store)), removed=[0, 1])


def test_a_removal_that_fails_behind_another_says_how_many_went(store, monkeypatch):
    """The first was of what was marked; the second, of what all devices have."""
    remove = MemoryMaildrop.remove
    failures = [None, NotAllRemoved("disk on fire", 1)]

    async def fail(self, entries, session):
        if failure := failures.pop(0):
            raise failure
        await remove(self, entries, session)

    monkeypatch.setattr(MemoryMaildrop, "remove", fail)
    options = MailPolicy(delete_on_collect=True, devices="all")
    with pytest.raises(NotAllRemoved) as raised:
        quit_with(
            mailbox(MailboxContext(store), mail_policy=options), removed=[0], collected=[1, 2]
        )
    assert raised.value.removed == 2


def test_a_client_that_goes_behind_its_quit_has_collected_and_deleted(store, monkeypatch):
    remove, going = MemoryMaildrop.remove, Deferred()

    async def slow(self, entries, session):
        await remove(self, entries, session)
        await going

    monkeypatch.setattr(MemoryMaildrop, "remove", slow)
    one = mailbox(MailboxContext(store))
    entries = finish(one.open()).entries
    updating = Deferred.fromCoroutine(one.update(entries[:1], entries[1:], "session"))
    updating.addErrback(lambda why: why.trap(CancelledError))
    updating.cancel()
    one.release()
    assert left(store) == 2
    assert finish(store.expire(JOE, KeepTimes(collected=0), True))[0] == 2


def test_a_login_may_not_follow_the_last_one_too_soon(store):
    mailbox_context = MailboxContext(store, MailPolicy(login_delay=60).or_else(DEFAULT_POLICY))
    quit_with(mailbox(mailbox_context))
    with pytest.raises(LoginTooSoon):
        quit_with(mailbox(mailbox_context))
    quit_with(mailbox(mailbox_context, mail_policy=MailPolicy(login_delay=0)))


# -- what clients are told -----------------------------------------------------------------


def told(mailbox_context, **named) -> tuple[str, str]:
    announced = mailbox(mailbox_context, **named).announced
    return announced.expire, announced.login_delay


def test_after_a_login_capa_tells_the_policy_of_the_account(store):
    mailbox_context = MailboxContext(
        store, MailPolicy(keep=30 * A_DAY, login_delay=60).or_else(DEFAULT_POLICY)
    )
    assert told(mailbox_context) == ("30", "60")
    assert told(mailbox_context, mail_policy=MailPolicy(keep=0, login_delay=0)) == ("NEVER", "")
    assert told(mailbox_context, mail_policy=MailPolicy(delete_on_collect=True)) == ("0", "60")
    assert told(mailbox_context, quota=MAKES_ROOM) == ("0", "60")
    assert told(mailbox_context, quota=Quota(0, 0, "make-room")) == ("30", "60"), (
        "there is always room"
    )


def test_a_postmasters_mail_without_a_quota_never_makes_room(store):
    assert told(MailboxContext(store, quota=MAKES_ROOM)) == ("0", "")
    assert told(MailboxContext(store, quota=MAKES_ROOM, postmaster=JOE)) == ("NEVER", "")


def test_the_postmaster_is_told_that_his_maildrop_makes_room_and_nobody_else_is(store):
    mailbox_context = MailboxContext(store, postmaster=JOE, postmaster_quota=MAKES_ROOM)
    assert told(mailbox_context) == ("0", "")
    assert told(replace(mailbox_context, postmaster="ann@example.net")) == ("NEVER", "")
    assert before(mailbox_context) == ("NEVER", "")
    everywhere = replace(mailbox_context, quota=MAKES_ROOM)
    assert before(everywhere) == ("0", ""), "of all the same"


@implementer(IMailStore)
class Plain:
    """A store that lets nothing go by itself."""

    def maildrop(self, name):
        return MemoryStore().maildrop(name)


def test_nobody_is_told_of_what_the_store_cannot_do():
    serving = MailPolicy(keep=A_DAY, keep_collected=A_DAY, delete_on_collect=True).or_else(
        DEFAULT_POLICY
    )
    assert told(MailboxContext(Plain(), serving)) == ("0", "")
    assert told(MailboxContext(Plain(), serving), mail_policy=MailPolicy(devices="all")) == (
        "NEVER",
        "",
    )
    assert told(
        MailboxContext(Plain(), serving), mail_policy=MailPolicy(delete_on_collect=False)
    ) == (
        "NEVER",
        "",
    )


@pytest.fixture(params=["memory", "sqlite"])
def directory(request, tmp_path):
    made = MemoryDirectory()
    if request.param == "sqlite":
        made = SQLiteDirectory(str(tmp_path / "accounts.db"), ImmediateExecutor())
    finish(made.start())
    finish(made.add_domain("example.net"))
    for name in ("ann@example.net", JOE):
        finish(made.add(name, None))
    yield made
    finish(made.stop())


def before(mailbox_context) -> tuple[str, str]:
    announced = finish(mailbox_context.announced())
    return announced.expire, announced.login_delay


def test_before_a_login_clients_are_told_of_all_accounts(store, directory):
    mailbox_context = MailboxContext(
        store, account_settings=Directories([directory]).account_settings
    )
    assert before(mailbox_context) == ("NEVER", "")
    finish(directory.set_mail_policy(JOE, MailPolicy(keep=30 * A_DAY)))
    assert before(mailbox_context) == ("30 USER", "")
    finish(directory.set_mail_policy("ann@example.net", MailPolicy(keep=30 * A_DAY)))
    assert before(mailbox_context) == ("30", "")
    finish(directory.set_domain_mail_policy("example.net", MailPolicy(login_delay=300)))
    assert before(mailbox_context) == ("30", "300")
    finish(directory.set_mail_policy(JOE, MailPolicy(delete_on_collect=True, login_delay=10)))
    assert before(mailbox_context) == ("0 USER", "300 USER")
    finish(directory.remove(JOE))
    assert before(mailbox_context) == ("30", "300")
    finish(directory.set_quota("ann@example.net", MAKES_ROOM))
    assert before(mailbox_context) == ("0 USER", "300"), "the postmaster's has no quota"


def test_accounts_of_a_directory_that_does_not_say_count_as_all_others(store):
    class Quiet:
        """It only knows who has an account."""

    mailbox_context = MailboxContext(
        store,
        MailPolicy(keep=9 * A_DAY).or_else(DEFAULT_POLICY),
        account_settings=Directories([Quiet()]).account_settings,
    )
    assert before(mailbox_context) == ("9", "")


def test_where_nobody_can_say_clients_are_told_the_least(store):
    async def fail():
        raise TemporaryFailure("no answer")

    serving = MailPolicy(keep=9 * A_DAY, login_delay=5).or_else(DEFAULT_POLICY)
    assert before(MailboxContext(store, serving, account_settings=fail)) == ("0 USER", "5 USER")
