"""Plugins can use the names of the version before."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

import pytest
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from postoffice import interfaces, testing
from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.address import Account
from postoffice.model.mail_policy import MailPolicy
from postoffice.moved import ELSEWHERE, MEMBERS, MOVED, RENAMED, adopt
from postoffice.policy import common
from postoffice.testing import finish, finish_all


@pytest.fixture(autouse=True)
def nobody_has_asked(monkeypatch):
    """What was imported by an old name is found without a warning from then on."""
    for old in MOVED:
        monkeypatch.delitem(sys.modules, f"postoffice.{old}", raising=False)


@pytest.mark.parametrize("old", MOVED)
def test_a_module_is_found_by_its_old_name(old):
    with pytest.warns(DeprecationWarning, match=r"is now postoffice\."):
        found = importlib.import_module(f"postoffice.{old}")
    new = importlib.import_module(f"postoffice.{MOVED[old]}")
    for name, value in vars(new).items():
        assert name.startswith("__") or getattr(found, name) is value


@pytest.mark.parametrize("module", RENAMED)
def test_a_class_has_its_old_name_there(module):
    (old,) = (old for old, new in MOVED.items() if new == module)
    with pytest.warns(DeprecationWarning, match="is now"):
        found = importlib.import_module(f"postoffice.{old}")
    new = importlib.import_module(f"postoffice.{module}")
    for before, now in RENAMED[module].items():
        assert getattr(found, before) is getattr(new, now)


@pytest.mark.parametrize("module", ELSEWHERE)
def test_a_class_that_has_a_module_of_its_own_is_found_where_it_was(module):
    (old,) = (old for old, new in MOVED.items() if new == module)
    with pytest.warns(DeprecationWarning, match="is now"):
        found = importlib.import_module(f"postoffice.{old}")
    for name, place in ELSEWHERE[module].items():
        assert getattr(found, name) is getattr(importlib.import_module(f"postoffice.{place}"), name)


@pytest.mark.parametrize(
    "module", [interfaces, testing, common], ids=lambda module: module.__name__
)
def test_a_name_that_has_changed_can_be_used(module):
    for old, new in module._RENAMED.items():
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(module, old) is getattr(module, new)


def test_what_was_never_there_is_not_there():
    with pytest.raises(AttributeError):
        _ = interfaces.Nothing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("postoffice.nothing")


def test_a_maker_may_use_the_old_names_of_its_context():
    context = interfaces.PluginContext(None, "executor", "/state", "mail.example.net")
    assert (context.workers, context.apart) == ("executor", None)


OLD_ACCOUNT = r"Account\.serving is now mail_policy"


def test_an_account_can_be_made_and_read_by_the_old_name_of_a_field():
    policy = MailPolicy(keep=7)
    with pytest.warns(DeprecationWarning, match=OLD_ACCOUNT):
        account = Account("a@b", "a@b", serving=policy)
    assert account.mail_policy == policy
    with pytest.warns(DeprecationWarning, match=OLD_ACCOUNT):
        assert account.serving == policy
    assert replace(account, state="held").mail_policy == policy


@pytest.mark.parametrize("old", MEMBERS)
def test_a_member_has_an_interface_by_its_new_name_only(old):
    names = {name for one in vars(interfaces).values() if isinstance(one, InterfaceClass)
             for name in one.names(all=True)}  # fmt: skip
    assert MEMBERS[old] in names
    assert old not in names


def test_our_directories_can_be_asked_by_the_old_names():
    directory = MemoryDirectory()
    finish(directory.add_domain("example.net"))
    finish(directory.add("a@example.net", None))
    with pytest.warns(DeprecationWarning, match="devices is now app_passwords"):
        assert not finish(directory.devices("a@example.net"))
    with pytest.warns(DeprecationWarning, match="set_serving is now set_mail_policy"):
        assert finish(directory.set_serving("a@example.net", MailPolicy(keep=7)))
    with pytest.raises(AttributeError):
        _ = directory.nothing


def test_a_plugin_that_has_the_old_names_is_used():
    @implementer(interfaces.IAccountSettings)
    class Theirs:
        devices = "no method of this interface"

        def sayings(self):
            return {1}

    plugin = Theirs()
    with pytest.warns(DeprecationWarning, match="Theirs.sayings is now account_settings"):
        adopt(plugin)
    assert plugin.account_settings() == {1}
    assert not hasattr(plugin, "app_passwords")


def test_a_list_of_accounts_is_an_iterator_now_and_the_old_one_still_works():
    directory = MemoryDirectory()
    finish(directory.add_domain("example.net"))
    finish(directory.add("a@example.net", None))
    with pytest.warns(DeprecationWarning, match="accounts is now each_account"):
        accounts = finish(directory.accounts("example.net"))
    assert [one.address for one in accounts] == ["a@example.net"]

    @implementer(interfaces.IAccountListing)
    class Theirs:
        async def accounts(self, domain=None):
            return [one for one in accounts if domain in (None, "example.net")]

    plugin = Theirs()
    with pytest.warns(DeprecationWarning, match="Theirs.accounts is now each_account"):
        adopt(plugin)
    assert finish_all(plugin.each_account()) == accounts
    assert finish_all(plugin.each_account("example.org")) == []
