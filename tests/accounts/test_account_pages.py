"""Accounts page by page, over several directories."""

from __future__ import annotations

import pytest

from postoffice.accounts.account_changes import (
    ChangeRefused,
    give_new_password,
    set_account_state,
)
from postoffice.accounts.account_pages import accounts_after, aliases_after
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import verify
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.address import DISABLED, Address
from postoffice.model.alias import Alias
from postoffice.testing import ImmediateExecutor, finish

NAMES = ["a_b@example.net", "ann@example.net", "axb@example.net", "bob@example.net"]


@pytest.fixture
def directories(tmp_path):
    """One in a database, and behind it one in memory, which has an account of the other, too."""
    first = SQLiteDirectory(str(tmp_path / "accounts.db"), ImmediateExecutor())
    finish(first.start())
    second = MemoryDirectory()
    for directory, names in ((first, NAMES[:3]), (second, [NAMES[1], NAMES[3]])):
        finish(directory.add_domain("example.net"))
        for name in names:
            finish(directory.add(name, f"of {type(directory).__name__}"))
    yield [first, second]
    finish(first.stop())


def page(directories, *facts):
    return [one.address for one in finish(accounts_after(directories, *facts))]


def test_pages_follow_one_another(directories):
    assert page(directories, "", 10) == NAMES
    assert page(directories, "", 2) == NAMES[:2]
    assert page(directories, NAMES[1], 2) == NAMES[2:]
    assert page(directories, NAMES[3], 2) == []
    [ann] = [one for one in finish(accounts_after(directories, "", 9)) if one.address == NAMES[1]]
    assert ann.secret == "of SQLiteDirectory"


def test_a_part_of_the_address_is_looked_for_literally(directories):
    assert page(directories, "", 10, "a_b") == NAMES[:1]
    assert page(directories, "", 10, "b@") == [NAMES[0], NAMES[2], NAMES[3]]
    assert page(directories, NAMES[0], 1, "b@") == NAMES[2:3]
    assert page(directories, "", 10, "%") == []
    assert page(directories, "", 10, "\udce9") == []


def test_aliases_are_found_by_their_address_and_by_their_targets(directories):
    bob = (Address.parse("bob@example.net"),)
    for directory, name in zip(directories * 2, ("a%1", "b_2", "c3", "d4"), strict=True):
        finish(directory.add_alias(Alias(f"{name}@example.net", bob if name > "c" else ann())))

    def page(*facts):
        return [one.address[:-12] for one in finish(aliases_after(directories, *facts))]

    assert page("", 9) == ["a%1", "b_2", "c3", "d4"]
    assert page("", 2) == ["a%1", "b_2"]
    assert page("b_2@example.net", 2) == ["c3", "d4"]
    assert page("", 9, "bob@") == ["c3", "d4"]
    assert page("", 9, "%1") == ["a%1"]
    assert page("", 9, "\udce9") == []


def ann():
    return (Address.parse("ann@example.net"),)


def test_states_and_passwords_are_changed_as_by_the_command(directories):
    register = directories[0]
    account = finish(register.find(NAMES[1]))
    assert finish(set_account_state(register, account, DISABLED, "boss", "spam", "p@example.net"))
    found = finish(register.find(NAMES[1]))
    assert (found.state, found.state_note.by, found.state_note.why) == (DISABLED, "boss", "spam")
    assert not finish(set_account_state(register, found, DISABLED, "boss", "", "p@example.net"))
    with pytest.raises(ChangeRefused, match="postmaster"):
        finish(set_account_state(register, account, DISABLED, "boss", "", NAMES[1]))
    password = finish(give_new_password(register, ImmediateExecutor(), found))
    assert verify(finish(register.find(NAMES[1])).secret, password.encode())
