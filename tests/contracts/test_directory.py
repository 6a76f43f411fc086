"""What every directory of accounts must keep (``interfaces.IAccountDirectory``)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zope.interface import implementer
from zope.interface.verify import verifyObject

from postoffice.accounts.directories import Directories
from postoffice.accounts.memory import MemoryDirectory
from postoffice.interfaces import (
    IAccountDirectory,
    IAccountRegister,
    IAppPasswords,
    ITransactions,
)
from postoffice.model.address import Account, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import NotEmpty
from postoffice.model.mail_policy import MailPolicy
from postoffice.testing import finish, finish_all


def test_it_provides_what_it_says(directory):
    assert verifyObject(IAccountRegister, directory)
    assert verifyObject(IAccountDirectory, Directories([directory]))
    assert verifyObject(IAppPasswords, Directories([directory]))


def test_an_empty_directory_knows_nobody(directory):
    assert finish(directory.find("joe@example.net")) is None
    assert not finish(directory.serves("example.net"))
    assert finish(directory.domains()) == []
    assert finish_all(directory.each_account()) == []


def test_those_who_were_added_are_found(peopled):
    joe = Account("joe@example.net", "joe@example.net", "hash of joe@example.net")
    for _ in range(2):
        assert finish(peopled.find("joe@example.net")) == joe
        assert finish(peopled.find("jim@example.net")) is None
        assert finish(peopled.serves("example.net"))
        assert not finish(peopled.serves("example.org"))
    assert finish(peopled.domains()) == ["example.com", "example.net"]
    assert [one.address for one in finish_all(peopled.each_account())] == [
        "ann@example.net",
        "joe@example.com",
        "joe@example.net",
    ]
    assert finish_all(peopled.each_account("example.com")) == [
        finish(peopled.find("joe@example.com"))
    ]


def test_nothing_is_added_twice(peopled):
    assert not finish(peopled.add_domain("example.net"))
    assert not finish(peopled.add("joe@example.net", "another"))
    assert finish(peopled.find("joe@example.net")).secret == "hash of joe@example.net"


def test_accounts_are_in_domains_of_ours(peopled):
    with pytest.raises(LookupError):
        finish(peopled.add("joe@example.org", None))
    assert finish(peopled.find("joe@example.org")) is None


def test_a_secret_can_be_changed_and_taken_away(peopled):
    for secret in ("new", None, "newer"):
        assert finish(peopled.set_secret("joe@example.net", secret))
        assert finish(peopled.find("joe@example.net")).secret == secret
    assert not finish(peopled.set_secret("jim@example.net", "x"))


def test_scram_keys_come_with_the_password(peopled):
    assert finish(peopled.add("jim@example.net", "his", "his keys"))
    assert finish(peopled.find("jim@example.net")).scram == "his keys"
    assert not finish(peopled.add("jim@example.net", "other", "other keys"))
    for secret, keys in (("new", "new keys"), (None, None), ("newer", "newer keys")):
        assert finish(peopled.set_secret("jim@example.net", secret, keys))
        account = finish(peopled.find("jim@example.net"))
        assert (account.secret, account.scram) == (secret, keys)
        assert account in finish_all(peopled.each_account("example.net"))


def test_a_new_password_takes_the_old_ones_scram_keys_away(peopled):
    """They would let the old password in."""
    finish(peopled.set_secret("joe@example.net", "old", "old keys"))
    finish(peopled.set_secret("joe@example.net", "new"))
    assert finish(peopled.find("joe@example.net")).scram is None


def test_scram_keys_are_kept_while_the_password_is_still_that_one(peopled):
    name, secret = "joe@example.net", "hash of joe@example.net"
    assert finish(peopled.keep_scram(name, secret, "keys"))
    assert finish(peopled.find(name)) == Account(name, name, secret, "keys")
    assert finish(peopled.keep_scram(name, secret, "better keys"))
    assert finish(peopled.find(name)).scram == "better keys"
    finish(peopled.set_secret(name, "new"))
    assert not finish(peopled.keep_scram(name, secret, "late keys"))
    assert finish(peopled.find(name)) == Account(name, name, "new")


def test_a_hash_is_replaced_while_it_is_still_that_one(peopled):
    name, secret = "joe@example.net", "hash of joe@example.net"
    assert finish(peopled.keep_scram(name, secret, "keys", "new hash"))
    assert finish(peopled.find(name)) == Account(name, name, "new hash", "keys")
    assert not finish(peopled.keep_scram(name, secret, "late keys", "late hash"))
    assert not finish(peopled.keep_scram("jim@example.net", secret, "keys", "new hash"))
    assert finish(peopled.find(name)) == Account(name, name, "new hash", "keys")


def test_nobody_has_scram_keys_without_a_password(peopled):
    finish(peopled.add("postmaster@example.net", None))
    for name, secret in (("postmaster@example.net", ""), ("jim@example.net", "x")):
        assert not finish(peopled.keep_scram(name, secret, "keys"))
    assert finish(peopled.find("postmaster@example.net")).scram is None
    assert finish(peopled.find("jim@example.net")) is None


def test_a_shared_secret_can_be_set_changed_and_taken_away(peopled):
    name, secret = "joe@example.net", "hash of joe@example.net"
    assert finish(peopled.find(name)).shared is None
    for shared in ("tanstaaf", "schön \0", "\udcff", "", None, "again"):
        assert finish(peopled.set_shared(name, shared))
        assert finish(peopled.find(name)) == Account(name, name, secret, None, shared)
        assert finish(peopled.find(name)) in finish_all(peopled.each_account())
    assert finish(peopled.find("ann@example.net")).shared is None
    assert not finish(peopled.set_shared("jim@example.net", "x"))
    assert finish(peopled.find("jim@example.net")) is None


def test_password_scram_keys_and_shared_secret_do_not_touch_each_other(peopled):
    name, secret = "joe@example.net", "hash of joe@example.net"
    finish(peopled.set_shared(name, "tanstaaf"))
    finish(peopled.keep_scram(name, secret, "keys"))
    assert finish(peopled.find(name)) == Account(name, name, secret, "keys", "tanstaaf")
    finish(peopled.set_secret(name, "new"))
    assert finish(peopled.find(name)) == Account(name, name, "new", None, "tanstaaf")


PHONE = AppPassword("phone", "acdefg", "digest", "keys", 1.5, 2.5, "pop3", ("192.0.2.0/24", "::1"))
PAD = AppPassword("pad", "hjkmnp", "another digest")


def devices(directory, name="joe@example.net"):
    return list(finish(directory.app_passwords(name)))


def test_an_account_has_the_devices_that_were_added_as_they_were(peopled):
    assert devices(peopled) == []
    assert finish(peopled.add_app_password("joe@example.net", PHONE))
    assert finish(peopled.add_app_password("joe@example.net", PAD))
    assert finish(peopled.add_app_password("ann@example.net", replace(PAD, secret="hers")))
    for _ in range(2):
        assert devices(peopled) == [PAD, PHONE]
        assert devices(peopled, "joe@example.com") == devices(peopled, "eve@example.net") == []
        assert list(finish(Directories([peopled]).app_passwords("joe@example.net"))) == [PAD, PHONE]


def test_a_device_has_a_name_of_its_own_in_its_account(peopled):
    assert finish(peopled.add_app_password("joe@example.net", PHONE))
    assert not finish(peopled.add_app_password("joe@example.net", replace(PAD, name="phone")))
    assert devices(peopled) == [PHONE]


def test_nobody_has_no_devices(peopled):
    with pytest.raises(LookupError):
        finish(peopled.add_app_password("jim@example.net", PHONE))
    assert not finish(peopled.remove_app_password("jim@example.net", "phone"))


def test_a_device_can_be_taken_away(peopled):
    for name in ("joe@example.net", "ann@example.net"):
        finish(peopled.add_app_password(name, PHONE))
    assert finish(peopled.remove_app_password("joe@example.net", "phone"))
    assert not finish(peopled.remove_app_password("joe@example.net", "phone"))
    assert devices(peopled) == []
    assert devices(peopled, "ann@example.net") == [PHONE]


def test_devices_go_with_their_account_and_with_nothing_else(peopled):
    finish(peopled.add_app_password("joe@example.net", PHONE))
    finish(peopled.set_secret("joe@example.net", "new"))
    assert devices(peopled) == [PHONE]
    finish(peopled.remove("joe@example.net"))
    assert devices(peopled) == []
    finish(peopled.add("joe@example.net", None))
    assert devices(peopled) == []


def test_a_directory_that_has_no_devices_has_none_in_a_row_of_them(peopled):
    @implementer(IAccountDirectory)
    class Without:
        async def find(self, name):
            return Account(name, name) if name == "joe@example.net" else None

    finish(peopled.add_app_password("joe@example.net", PHONE))
    finish(peopled.add_app_password("ann@example.net", PHONE))
    both = Directories([Without(), peopled])
    assert devices(both) == []
    assert devices(both, "ann@example.net") == [PHONE]
    assert devices(both, "eve@example.net") == []


def test_a_removed_account_is_gone_at_once(peopled):
    assert finish(peopled.find("joe@example.net"))
    assert finish(peopled.remove("joe@example.net"))
    assert finish(peopled.find("joe@example.net")) is None
    assert not finish(peopled.remove("joe@example.net"))
    assert finish(peopled.find("joe@example.com"))


def test_a_domain_with_accounts_stays(peopled):
    with pytest.raises(NotEmpty):
        finish(peopled.remove_domain("example.com"))
    finish(peopled.remove("joe@example.com"))
    assert finish(peopled.remove_domain("example.com"))
    assert not finish(peopled.remove_domain("example.com"))
    assert not finish(peopled.serves("example.com"))


def test_odd_names_are_only_names(peopled):
    for name in ("'; DROP TABLE account; --@example.net", "%@example.net", "ünï@example.net"):
        assert finish(peopled.add(name, None))
        assert finish(peopled.find(name)).address == name
    assert len(finish_all(peopled.each_account())) == 6


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(st.characters(exclude_categories=[]), max_size=400))
def test_any_name_can_be_asked_for(peopled, name):
    assert finish(peopled.find(name)) is None
    assert finish(peopled.serves(name)) is False


@pytest.mark.parametrize("name", ["JOE@example.net", "joe@EXAMPLE.net", "joe", "@", "", "joe%"])
def test_names_are_compared_as_they_are(peopled, name):
    """Who asks makes them normal."""
    assert finish(peopled.find(name)) is None


def test_a_name_belongs_to_what_stands_behind_its_last_at(peopled):
    assert finish(peopled.add("joe@example.org@example.com", None))
    assert [one.address for one in finish_all(peopled.each_account("example.com"))] == [
        "joe@example.com",
        "joe@example.org@example.com",
    ]


def test_an_account_that_is_added_again_is_a_new_one(peopled):
    finish(peopled.set_secret("joe@example.net", "old", "old keys"))
    finish(peopled.set_shared("joe@example.net", "tanstaaf"))
    finish(peopled.set_quota("joe@example.net", Quota(1, 1, "reject")))
    finish(peopled.set_mail_policy("joe@example.net", MailPolicy(keep=86400)))
    finish(peopled.remove("joe@example.net"))
    assert finish(peopled.add("joe@example.net", None))
    assert finish(peopled.find("joe@example.net")) == Account("joe@example.net", "joe@example.net")


JOE, JIM = "joe@example.net", "jim@example.com"


def named(directory, name):
    """The account of that name, its domain's part of it, and its devices."""
    own = finish(directory.account_quota(name)), finish(directory.account_mail_policy(name))
    return finish(directory.find(name)), *own, list(finish(directory.app_passwords(name)))


def test_a_renamed_account_keeps_all_but_its_name(peopled):
    finish(peopled.set_secret(JOE, "hash", "keys"))
    finish(peopled.set_shared(JOE, "tanstaaf"))
    finish(peopled.set_quota(JOE, Quota(1, 2, "defer")))
    finish(peopled.set_mail_policy(JOE, MailPolicy(keep=86400)))
    finish(peopled.set_state(JOE, "disabled"))
    for device in (PHONE, PAD):
        finish(peopled.add_app_password(JOE, device))
    account, *rest = named(peopled, JOE)
    assert finish(peopled.rename(JOE, JIM))
    assert named(peopled, JIM) == (replace(account, address=JIM), *rest)
    assert named(peopled, JOE) == (None, None, None, [])
    assert JIM in [one.address for one in finish_all(peopled.each_account("example.com"))]
    assert finish(peopled.rename(JIM, JOE))
    assert named(peopled, JOE) == (account, *rest)


def test_nobody_is_renamed_to_somebody_or_nowhere(peopled):
    before = finish_all(peopled.each_account())
    assert not finish(peopled.rename("eve@example.net", JIM))
    assert not finish(peopled.rename(JOE, "ann@example.net"))
    assert not finish(peopled.rename(JOE, JOE))
    with pytest.raises(LookupError):
        finish(peopled.rename(JOE, "joe@example.org"))
    assert finish_all(peopled.each_account()) == before


def test_a_new_account_of_the_old_name_gets_another_maildrop(peopled):
    """And so does whoever is named as that maildrop is."""
    assert finish(peopled.maildrop_for("eve@example.net")) == "eve@example.net"
    assert finish(peopled.rename(JOE, JIM))
    assert finish(peopled.maildrop_for(JOE)) == "joe-2@example.net"
    assert finish(peopled.add(JOE, "new"))
    assert finish(peopled.add("joe-2@example.net", "newer"))
    assert finish(peopled.rename(JOE, "eve@example.net"))
    assert finish(peopled.add(JOE, "newest"))
    names = [one.maildrop for one in finish_all(peopled.each_account())]
    assert sorted(names) == sorted(
        ["ann@example.net", "joe@example.com", JOE]
        + [f"joe-{number}@example.net" for number in ("2", "2-2", "3")]
    )
    assert finish(peopled.find(JIM)).maildrop == JOE
    finish(peopled.remove(JIM))
    finish(peopled.remove(JOE))
    assert finish(peopled.add(JOE, "last"))
    assert finish(peopled.find(JOE)).maildrop == JOE


def test_an_account_comes_back_to_its_own_maildrop(peopled):
    finish(peopled.rename(JOE, JIM))
    finish(peopled.remove(JIM))
    assert finish(peopled.add(JIM, "back", None, JOE))
    assert finish(peopled.find(JIM)).maildrop == JOE


def test_the_devices_of_a_renamed_account_go_with_it(peopled):
    finish(peopled.add_app_password(JOE, PHONE))
    finish(peopled.rename(JOE, JIM))
    finish(peopled.remove(JIM))
    finish(peopled.add(JOE, None))
    finish(peopled.add(JIM, None))
    assert devices(peopled, JOE) == devices(peopled, JIM) == []


def test_several_directories_are_asked_in_their_order(peopled):
    other = MemoryDirectory()
    finish(other.add_domain("example.net"))
    finish(other.add_domain("example.org"))
    finish(other.add("joe@example.net", "theirs"))
    finish(other.add("jim@example.net", "theirs"))
    both = Directories([peopled, other])
    assert finish(both.find("joe@example.net")).secret == "hash of joe@example.net"
    assert finish(both.find("jim@example.net")).secret == "theirs"
    assert finish(both.find("eve@example.net")) is None
    assert finish(both.serves("example.org"))
    assert finish(both.serves("example.com"))
    assert not finish(both.serves("example.edu"))


def test_of_several_directories_the_first_that_has_an_account_is_its_register(peopled):
    other = MemoryDirectory()
    finish(other.add_domain("example.net"))
    for name in ("joe@example.net", "jim@example.net"):
        finish(other.add(name, "theirs"))
    both = Directories([peopled, other])
    assert finish(both.register_of("joe@example.net")) is peopled
    assert finish(both.register_of("jim@example.net")) is other
    assert finish(both.register_of("eve@example.net")) is None


# -- many changes at once --------------------------------------------------------------


@pytest.fixture
def transactions(peopled):
    if not ITransactions.providedBy(peopled):
        pytest.skip("it has no transactions")
    return peopled


def test_changes_together_are_seen_at_once_and_stay(transactions):
    name = "new@example.net"
    with transactions.together():
        assert finish(transactions.find(name)) is None
        assert finish(transactions.add(name, "hash"))
        assert finish(transactions.find(name)).secret == "hash"
        assert finish(transactions.set_quota(name, Quota(5)))
        assert not finish(transactions.add(name, "other"))
    assert finish(transactions.find(name)).quota.octets == 5
    assert finish(transactions.set_secret(name, "other"))


def test_an_error_undoes_all_changes_together(transactions):
    name = "new@example.net"
    before = finish_all(transactions.each_account())

    def change() -> None:
        with transactions.together():
            assert finish(transactions.add(name, "hash"))
            assert finish(transactions.remove("joe@example.net"))
            raise KeyError(name)

    with pytest.raises(KeyError):
        change()
    assert finish_all(transactions.each_account()) == before
    assert finish(transactions.find(name)) is None
    assert finish(transactions.find("joe@example.net")) is not None
    assert finish(transactions.add(name, "hash"))
