"""What every directory with aliases must keep (``interfaces.IAddresses``, ``IAddressRegister``)."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
from zope.interface.verify import verifyObject

from postoffice.accounts.directories import Directories
from postoffice.interfaces import IAddresses, IAddressRegister, IBulkRegister
from postoffice.model.address import HELD, NO_NOTE, STATES, Account, Address, Quota, StateNote
from postoffice.model.alias import DISCARD, REFUSE, Alias, Domain, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import NotEmpty
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy
from postoffice.testing import finish, finish_all

ANN, BOB, INFO = (f"{name}@example.net" for name in ("ann", "bob", "info"))
ALIASES = [
    Alias("a@example.com", (Address("ann", "example.net"),), send=True),
    Alias(INFO, tuple(map(Address.parse, [BOB, "J.B@Elsewhere.test", '"a b"@example.net', ANN]))),
    Alias("left@example.net", kind=REFUSE, words="She has left; write to bob@example.net"),
    Alias("null@example.net", kind=DISCARD),
    Alias("x y@example.net", (Address("Straße", "elsewhere.test"),)),
]  # fmt: skip


@pytest.fixture
def directory(writable_directory):
    directory = writable_directory
    for domain in ("example.net", "example.com"):
        assert finish(directory.add_domain(domain))
    for name in (ANN, BOB):
        assert finish(directory.add(name, f"hash of {name}"))
    return directory


@pytest.fixture
def full(directory):
    for alias in ALIASES:
        assert finish(directory.add_alias(alias))
    return directory


def look_up(directory, name):
    found = directory.look_up(name)
    return finish(found) if isinstance(found, Awaitable) else found


def test_it_provides_what_it_says(directory):
    assert verifyObject(IAddresses, directory)
    assert verifyObject(IAddressRegister, directory)
    assert verifyObject(IAddresses, Directories([directory]))


def test_accounts_and_aliases_are_found_with_their_domains(full):
    net, com = Domain("example.net"), Domain("example.com")
    for _ in range(2):
        assert look_up(full, ANN) == Found(net, finish(full.find(ANN)))
        assert look_up(full, "nobody@example.net") == Found(net)
        assert look_up(full, "@example.com") == Found(com)
        assert look_up(full, "ann@elsewhere.example") == Found(None)
        assert look_up(full, "") == look_up(full, "\udcff@\udcff") == Found(None)
        for alias in ALIASES:
            domain = com if alias.address.endswith("com") else net
            assert look_up(full, alias.address) == Found(domain, alias)
            assert finish(full.find(alias.address)) is None


def test_targets_keep_their_order_and_how_they_are_written(full):
    assert [str(one) for one in look_up(full, INFO).entry.targets] == [
        BOB,
        "J.B@Elsewhere.test",
        '"a b"@example.net',
        ANN,
    ]
    (target,) = look_up(full, "x y@example.net").entry.targets
    assert target.local == "Straße"


def test_aliases_are_listed_by_name_in_pages(full):
    assert finish(full.aliases()) == ALIASES
    assert finish(full.aliases("example.com")) == ALIASES[:1]
    assert finish(full.aliases("example.net", most=2)) == ALIASES[1:3]
    assert finish(full.aliases(after=ALIASES[2].address, most=1)) == ALIASES[3:4]
    assert finish(full.aliases(after=ALIASES[-1].address)) == []
    assert finish(full.aliases("example.org")) == []


def test_a_name_is_an_accounts_or_an_aliass(full):
    assert not finish(full.add_alias(Alias(ANN, (Address("bob", "example.net"),))))
    assert not finish(full.add_alias(Alias(INFO, kind=DISCARD)))
    assert not finish(full.add(INFO, None))
    assert not finish(full.rename(ANN, INFO))
    with pytest.raises(LookupError):
        finish(full.add_alias(Alias("joe@elsewhere.example", kind=DISCARD)))
    assert finish(full.aliases()) == ALIASES
    assert isinstance(look_up(full, ANN).entry, Account)


def test_an_alias_can_be_changed_and_removed(full):
    changed = Alias(INFO, kind=REFUSE, words="No more")
    assert finish(full.set_alias(changed))
    assert look_up(full, INFO).entry == changed
    assert finish(full.pointing_to(BOB)) == []
    assert not finish(full.set_alias(Alias("nobody@example.net", kind=DISCARD)))
    assert look_up(full, "nobody@example.net").entry is None
    assert finish(full.remove_alias(INFO))
    assert not finish(full.remove_alias(INFO))
    assert not finish(full.remove_alias(ANN))
    assert look_up(full, INFO).entry is None
    assert look_up(full, ANN).entry is not None
    assert finish(full.add_alias(Alias(INFO, kind=DISCARD)))
    assert look_up(full, INFO).entry.targets == ()


def test_an_account_can_forward_its_mail(full):
    forward = (Address("Joe", "elsewhere.example"), Address("ann", "example.net"))
    assert finish(full.set_forward(BOB, forward, False))
    bob = look_up(full, BOB).entry
    assert (bob.forward, bob.keep_copy) == (forward, False)
    assert finish(full.find(BOB)) == bob
    assert [one.forward for one in finish_all(full.each_account())] == [(), forward]
    assert finish(full.set_forward(BOB, (), True))
    assert look_up(full, BOB).entry == Account(BOB, BOB, f"hash of {BOB}")
    assert not finish(full.set_forward(INFO, forward, True))
    assert not finish(full.set_forward("nobody@example.net", forward, True))


def test_a_domain_has_settings(full):
    catch_all = (Address("ann", "example.net"), Address("Joe", "elsewhere.example"))
    domain = Domain("example.com", "example.net", "-=", catch_all, frozenset({"a b", "ö"}))
    assert finish(full.set_domain(domain))
    assert look_up(full, "@example.com").domain == domain
    assert look_up(full, "a@example.com").domain == domain
    assert look_up(full, ANN).domain == Domain("example.net")
    assert finish(full.set_domain(Domain("example.com")))
    assert look_up(full, "@example.com").domain == Domain("example.com")
    assert not finish(full.set_domain(Domain("example.org")))
    assert look_up(full, "@example.org").domain is None


def test_settings_of_a_domain_leave_its_quota_alone(full):
    assert finish(full.set_domain_quota("example.net", Quota(9)))
    assert finish(full.set_domain(Domain("example.net", separators="")))
    assert finish(full.find(ANN)).quota == Quota(9)


def test_what_points_to_an_address_or_a_domain_is_told(full):
    assert finish(full.set_forward(BOB, (Address("Ann", "EXAMPLE.net"),), True))
    assert finish(
        full.set_domain(Domain("example.com", "example.net", "+", (Address("ann", "example.net"),)))
    )
    assert finish(full.pointing_to(ANN)) == ["*@example.com", "a@example.com", BOB, INFO]
    assert finish(full.pointing_to("j.b@elsewhere.test")) == [INFO]
    assert finish(full.pointing_to("@elsewhere.test")) == [INFO, "x y@example.net"]
    assert finish(full.pointing_to("@example.net")) == [
        "*@example.com", "@example.com", "a@example.com", BOB, INFO,
    ]  # fmt: skip
    assert finish(full.pointing_to("nobody@example.net")) == []
    assert finish(full.remove(BOB))
    assert BOB not in finish(full.pointing_to(ANN))


def test_targets_follow_an_account_that_is_renamed(full):
    assert finish(full.set_forward(ANN, (Address("bob", "example.net"),), True))
    assert finish(
        full.set_domain(Domain("example.com", catch_all=(Address("ann", "example.net"),)))
    )
    assert finish(full.rename(ANN, "eve@example.com"))
    assert finish(full.pointing_to(ANN)) == []
    assert finish(full.pointing_to("eve@example.com")) == ["*@example.com", "a@example.com", INFO]
    assert look_up(full, INFO).entry.targets[-1] == Address("eve", "example.com")
    assert look_up(full, "eve@example.com").entry.forward == (Address("bob", "example.net"),)
    assert finish(full.add(ANN, None))
    assert look_up(full, ANN).entry.forward == ()


def test_an_account_that_is_added_again_forwards_nothing(full):
    assert finish(full.set_forward(BOB, (Address("ann", "example.net"),), False))
    assert finish(full.remove(BOB))
    assert finish(full.add(BOB, None))
    assert look_up(full, BOB).entry == Account(BOB, BOB)


@pytest.mark.parametrize("state", STATES)
def test_a_state_has_a_note(directory, state):
    note = StateNote("root", 1.8e9, "has not paid; 3 reminders")
    assert finish(directory.set_state(ANN, state, note))
    ann = finish(directory.find(ANN))
    assert (ann.state, ann.state_note) == (state, note)
    assert finish(directory.set_state(ANN, HELD))
    assert finish(directory.find(ANN)).state_note == NO_NOTE
    assert not finish(directory.set_state("nobody@example.net", state, note))


def test_a_domain_with_aliases_or_with_domains_that_are_the_same_stays(full):
    assert finish(full.set_domain(Domain("example.net", same_as="example.com")))
    with pytest.raises(NotEmpty, match=r"example\.com still has aliases: 1, domains: 1"):
        finish(full.remove_domain("example.com"))
    assert finish(full.set_domain(Domain("example.net")))
    assert finish(
        full.set_domain(Domain("example.com", catch_all=(Address("ann", "example.net"),)))
    )
    assert finish(full.remove_alias("a@example.com"))
    assert finish(full.remove_domain("example.com"))
    assert finish(full.pointing_to(ANN)) == [INFO]
    assert finish(full.add_domain("example.com"))
    assert look_up(full, "@example.com").domain == Domain("example.com")


def test_what_changes_is_seen_at_once(full):
    for _ in range(2):
        assert look_up(full, "new@example.net").entry is None
    assert finish(full.add_alias(Alias("new@example.net", kind=DISCARD)))
    assert look_up(full, "new@example.net").entry.kind == DISCARD


# -- many names at once ------------------------------------------------------------------


@pytest.fixture
def bulk(full):
    if not IBulkRegister.providedBy(full):
        pytest.skip("it has nothing for many names at once")
    return full


def test_many_look_ups_answer_what_each_of_them_does(bulk):
    assert verifyObject(IBulkRegister, bulk)
    finish(bulk.set_domain(Domain("example.com", "example.net", "-", (Address.parse(ANN),))))
    finish(bulk.set_forward(ANN, [Address.parse(BOB)], False))
    finish(bulk.set_shared(BOB, "tanstaaf"))
    some = [one.address for one in ALIASES] + [ANN, BOB, "nobody@example.com", "x@y.test", "\0@x"]
    names = {*some, "\udcff@example.net", *(f"n{number}@example.net" for number in range(1200))}
    assert finish(bulk.look_ups(names)) == {name: look_up(bulk, name) for name in names}
    assert finish(bulk.look_ups([])) == {}


def test_many_accounts_and_aliases_are_written_at_once(bulk):
    device = AppPassword("phone", "id", "digest", None, 1.5, None, "pop3", ("192.0.2.0/24",))
    policy = MailPolicy(keep=5.0, delete_on_collect=True)
    note = StateNote("root", 2.5, "why")
    more = {"forward": (Address.parse(BOB),), "keep_copy": False, "quota": Quota(5, None, "defer")}
    new = [
        Account("c@example.net", "other@example.net", "hash", "keys", "tanstaaf", state=HELD,
            state_note=note, mail_policy=policy, **more),
        Account("d@example.com", "d@example.com"),
    ]  # fmt: skip
    finish(bulk.add_accounts([(new[0], [device]), (new[1], [])]))
    for one in new:
        assert vars(finish(bulk.find(one.address))) == vars(one)
    assert finish(bulk.app_passwords("c@example.net")) == (device,)
    assert finish(bulk.all_app_passwords([ANN, "c@example.net"])) == {"c@example.net": (device,)}
    assert finish(bulk.own_settings(["c@example.net", "d@example.com", "nobody@example.net"])) == {
        "c@example.net": (Quota(5, None, "defer"), policy),
        "d@example.com": (Quota(), UNSPECIFIED),
    }
    assert finish(bulk.maildrops(["c@example.net", "other@example.net", ANN])) == {
        "other@example.net",
        ANN,
    }
    aliases = [Alias(INFO, (Address.parse(ANN),)), Alias("new@example.net", kind=DISCARD)]
    finish(bulk.put_aliases(aliases))
    for alias in aliases:
        assert look_up(bulk, alias.address).entry == alias
    assert finish(bulk.pointed_to([ANN, BOB, INFO])) == {ANN, BOB}
    assert finish(bulk.pointing_to(BOB)) == ["c@example.net"]
