"""Who you are decides the counter."""

from __future__ import annotations

import pytest
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import Interface
from zope.interface.verify import verifyObject

from postoffice.accounts.realm import Realm
from postoffice.interfaces import IMaildrop, IReception
from postoffice.model.address import Account
from postoffice.model.errors import MaildropLocked
from postoffice.server.mailbox import MailboxContext
from postoffice.store.memory import MemoryStore
from postoffice.testing import finish

JOE = Account("joe@example.net", "joe@example.net", "a hash")


class House:
    """Says who asked it."""

    def reception(self, session_info):
        return "reception", session_info

    def submission(self, session_info, account):
        return "submission", session_info, account


@pytest.fixture
def realm():
    return Realm(MailboxContext(MemoryStore()), House())


def test_it_is_a_realm(realm):
    assert verifyObject(IRealm, realm)


def test_strangers_get_the_reception(realm):
    which, avatar, logout = realm.requestAvatar(ANONYMOUS, "a visit", IReception)
    assert (which, avatar) == (IReception, ("reception", "a visit"))
    logout()
    logout()


def test_our_own_users_get_the_submission(realm):
    which, avatar, logout = realm.requestAvatar(JOE, "a visit", IReception)
    assert (which, avatar) == (IReception, ("submission", "a visit", JOE))
    logout()


def test_an_account_gets_its_maildrop_and_gives_it_back(realm):
    which, avatar, logout = realm.requestAvatar(JOE, None, IMaildrop)
    assert which is IMaildrop
    finish(avatar.open())
    _, other, _ = realm.requestAvatar(JOE, None, IMaildrop)
    with pytest.raises(MaildropLocked):
        finish(other.open())
    logout()
    logout()
    finish(other.open())


def test_the_table_says_which_maildrop_and_not_the_address():
    store = MemoryStore()
    realm = Realm(MailboxContext(store), House())
    moved = Account("joe@example.net", "old@example.net")
    _, avatar, _ = realm.requestAvatar(moved, None, IMaildrop)
    finish(avatar.open())
    with pytest.raises(MaildropLocked):
        finish(store.maildrop("old@example.net").open())


@pytest.mark.parametrize("who", [ANONYMOUS, b"joe@example.net", "joe@example.net", None])
def test_nobody_but_an_account_gets_a_maildrop(realm, who):
    with pytest.raises(UnauthorizedLogin):
        realm.requestAvatar(who, None, IMaildrop)


@pytest.mark.parametrize(
    ("who", "wanted"),
    [(ANONYMOUS, (Interface,)), (JOE, (Interface,)), (ANONYMOUS, ())],
)
def test_there_are_no_other_counters(realm, who, wanted):
    with pytest.raises(NotImplementedError) as raised:
        realm.requestAvatar(who, None, *wanted)
    assert "a hash" not in str(raised.value)
