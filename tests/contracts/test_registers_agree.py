"""Any changes leave every register that has aliases with the same answers."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.address import STATES, Address, StateNote
from postoffice.model.alias import KINDS, Alias, Domain
from postoffice.model.errors import NotEmpty
from postoffice.testing import ImmediateExecutor, finish, finish_all

DOMAINS = ["x.example", "y.example"]
NAMES = [f"{name}@{domain}" for name in ("a", "b", "ö") for domain in DOMAINS]

names = st.sampled_from(NAMES)
domains = st.sampled_from(DOMAINS)
targets = st.lists(st.sampled_from([*NAMES, "A@X.example", "R@remote.example"]), max_size=3).map(
    lambda texts: tuple(map(Address.parse, texts))
)
aliases = st.builds(
    Alias, names, targets, st.sampled_from(KINDS), st.sampled_from(["", "No"]), st.booleans()
)
records = st.builds(
    Domain,
    domains,
    st.sampled_from(["", *DOMAINS]),
    st.sampled_from(["", "+", "-="]),
    targets,
    st.frozensets(st.sampled_from(["a", "b c", "ö"])),
)
#: A method that changes something, and what it is given.
changes = st.one_of(
    st.tuples(st.just("add_domain"), domains),
    st.tuples(st.just("remove_domain"), domains),
    st.tuples(st.just("set_domain"), records),
    st.tuples(st.just("add"), names, st.just("hash")),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("set_forward"), names, targets, st.booleans()),
    st.tuples(
        st.just("set_state"),
        names,
        st.sampled_from(STATES),
        st.builds(StateNote, st.sampled_from(["", "root"]), st.just(1.5), st.just("why")),
    ),
    st.tuples(st.just("add_alias"), aliases),
    st.tuples(st.just("set_alias"), aliases),
    st.tuples(st.just("remove_alias"), names),
)


def done(directory, change):
    """What a change returns, or the kind of its failure."""
    method, *given = change
    try:
        return finish(getattr(directory, method)(*given))
    except (LookupError, NotEmpty) as failure:
        return type(failure), str(failure)


def told(directory):
    """All that a directory answers."""
    found = {}
    for name in [*NAMES, *(f"@{domain}" for domain in DOMAINS), "r@remote.example"]:
        answer = directory.look_up(name)
        found[name] = finish(answer) if isinstance(answer, Awaitable) else answer
        found[f"to {name}"] = finish(directory.pointing_to(name))
    for domain in (None, *DOMAINS):
        found["aliases", domain] = finish(directory.aliases(domain))
        found["accounts", domain] = finish_all(directory.each_account(domain))
    return found


def agree(directory, made):
    """The directory is empty, and so is the one in memory that it is compared with."""
    memory = MemoryDirectory()
    first = [("add_domain", "x.example"), ("add", NAMES[0], None), ("add", NAMES[2], None)]
    for change in [*first, *made]:
        assert done(directory, change) == done(memory, change), change
    assert told(directory) == told(memory)


@settings(max_examples=60)
@given(st.lists(changes, min_size=5, max_size=25))
def test_any_changes_leave_the_same_answers(made):
    with tempfile.TemporaryDirectory() as folder:
        database = SQLiteDirectory(str(Path(folder) / "accounts.db"), ImmediateExecutor())
        finish(database.start())
        agree(database, made)
        finish(database.stop())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(changes, min_size=5, max_size=25))
def test_they_do_in_postgresql(postgresql, postgresql_directory, made):
    postgresql.empty_tables(postgresql_directory)
    agree(postgresql_directory, made)
