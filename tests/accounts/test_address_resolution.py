"""How addresses lead to accounts: the manual's table, and any world against a slow model."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts.address_resolution import DEPTH, AliasLoop, resolve, run, untagged
from postoffice.accounts.directories import Directories
from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.address import DISABLED, STATES, Account, Address
from postoffice.model.alias import KINDS, Alias, Domain, Found
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import finish

MANUAL = (Path(__file__).parents[2] / "docs/addresses.rst").read_text()
#: The manual's example, and its rows: recipient, path, outcome.
EXAMPLE = yaml.safe_load(MANUAL.split(".. code-block:: yaml\n")[1].split("\n.. csv-table::")[0])
ROWS = [
    [cell.strip() for cell in row]
    for row in csv.reader(
        (line for line in MANUAL.split("\n") if line.startswith("   ") and line.count(" | ") == 2),
        delimiter="|",
    )
][1:]


def addresses(texts):
    return tuple(map(Address.parse, texts))


def peopled(world):
    """A directory in memory with what a world in YAML has."""
    directory = MemoryDirectory()
    for name, said in world["domains"].items():
        finish(directory.add_domain(name))
        said = dict(said, catch_all=addresses(said.get("catch_all", ())))
        said["uncaught"] = frozenset(said.get("uncaught", ()))
        finish(directory.set_domain(Domain(name, **said)))
    for name, said in world["accounts"].items():
        finish(directory.add(name, None))
        finish(directory.set_state(name, said.get("state", "enabled")))
        forward = addresses(said.get("forward", ()))
        finish(directory.set_forward(name, forward, said.get("keep_copy", True)))
    for name, said in world["aliases"].items():
        finish(
            directory.add_alias(
                Alias(name, **dict(said, targets=addresses(said.get("targets", ()))))
            )
        )
    return directory


def resolved(directory, address, postmaster="root@example.net", **how):
    name = Address.parse(address).normal
    return run(resolve(name, postmaster, **how), directory.look_up)


@pytest.mark.parametrize(("recipient", "path", "outcome"), ROWS, ids=[row[0] for row in ROWS])
def test_the_manuals_table_is_true(recipient, path, outcome):
    found = resolved(peopled(EXAMPLE), recipient, EXAMPLE["postmaster"])
    steps = [one for one in found.steps if one.depth == 0]
    told = [one.rule + (f": {one.found}" if one.rule[:3] != "not" else "") for one in steps]
    assert "; ".join(told) == path
    goes_to = [one.address for one in found.accounts] + [str(one) for one in found.remote]
    refusal = found.refusal
    if refusal is not None:
        goes_to = [f"{refusal.code} {refusal.status} {refusal.text}"]
    assert (", ".join(goes_to) or "nobody") == outcome


def test_the_table_was_found():
    assert len(ROWS) > 20


# -- any world, against a slow and obvious model ---------------------------------

NAMES = ["a", "b", "a+t", "postmaster", "abuse", "c"]
DOMAINS = ["x.example", "y.example", "z.example"]
LOCALS = [f"{name}@{domain}" for name in NAMES for domain in DOMAINS[:2]]
TARGETS = [*LOCALS, "b+u@x.example", "a@z.example", "r@remote.example", "r@other.example"]
targets = st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True)
POSTMASTER = "postmaster@x.example"


@st.composite
def worlds(draw):
    names = draw(st.permutations(LOCALS))
    many = draw(st.integers(0, len(names)))
    accounts = draw(st.integers(0, many))
    domains = {
        domain: {
            "same_as": draw(st.sampled_from(["", *DOMAINS])),
            "separators": draw(st.sampled_from(["+", "", "+-"])),
            "catch_all": draw(st.one_of(st.just([]), st.just([]), targets)),
            "uncaught": draw(st.sampled_from([[], ["c"], ["b", "a"]])),
        }
        for domain in DOMAINS[:2]
    }
    return {
        "domains": domains,
        "accounts": {
            name: {
                "state": draw(st.sampled_from(STATES)),
                "forward": draw(st.one_of(st.just([]), st.just([]), targets)),
                "keep_copy": draw(st.booleans()),
            }
            for name in names[:accounts]
        },
        "aliases": {
            name: (
                {"targets": draw(targets)}
                if (kind := draw(st.sampled_from(["forward", "forward", *KINDS]))) == "forward"
                else {"kind": kind, "words": "No"}
            )
            for name in names[accounts:many]
        },
    }


class Loop(Exception):
    pass


class NoPostmaster(Exception):
    pass


def first(world, address, hops=0, at_postmaster=False):
    """The rules, one after another: (kind, name), or None; it looks everything up each time."""
    local, domain = address.split("@")
    if domain not in world["domains"]:
        return ("remote", address)
    said = world["domains"][domain]
    bare = local
    for place in range(len(local) - 1, 0, -1):
        if local[place] in said["separators"]:
            bare = local[:place]
    for name in (address, f"{bare}@{domain}"):
        for kind in ("accounts", "aliases"):
            if name in world[kind]:
                return (kind, name)
    if bare in ("postmaster", "abuse") and f"{bare}@{domain}" != POSTMASTER and not at_postmaster:
        found = first(world, POSTMASTER, 0, at_postmaster=True)
        if found is None or found[0] == "remote":
            raise NoPostmaster
        return found
    if said["same_as"]:
        if hops == DEPTH:
            raise Loop
        found = first(world, f"{local}@{said['same_as']}", hops + 1, at_postmaster)
        if found is not None and found[0] != "remote":
            return found
    if said["catch_all"] and not {local, bare} & set(said["uncaught"]):
        return ("catch-all", domain)
    return None


def outcome(world, address, chain=()):
    """Every way that mail takes, as a list of ends; Loop where a way never ends or is too long."""
    found = first(world, address)
    if found is None:
        if address == POSTMASTER:
            raise NoPostmaster
        return [("refused", address)]
    kind, name = found
    if kind == "remote":
        forwarders = [one for one in chain if one in world["accounts"]]
        return [("remote" if chain else "refused", name, *forwarders[-1:])]
    ends = []
    if kind == "catch-all":
        key, ways = f"*@{name}", world["domains"][name]["catch_all"]
    elif kind == "aliases":
        said = world["aliases"][name]
        if said.get("kind") == "refuse":
            return [("refused", name)]
        if said.get("kind") == "discard":
            return [("discarded", name)]
        key, ways = name, said["targets"]
    else:
        said = world["accounts"][name]
        if said["state"] in ("disabled", "collect-only") and name != POSTMASTER:
            return [("refused", name)]
        key, ways = name, said["forward"]
        if said["keep_copy"] or not ways:
            ends.append(("account", name))
    if ways and (key in chain or len(chain) == DEPTH):
        raise Loop
    for way in ways:
        ends += outcome(world, way, (*chain, key))
    return ends


@given(worlds(), st.sampled_from([*TARGETS, "c+x@y.example", "other@x.example"]))
def test_any_world_is_resolved_as_by_the_slow_model(world, address):
    directory = peopled(world)
    try:
        expected = outcome(world, address)
    except Loop:
        with pytest.raises(AliasLoop):
            resolved(directory, address, POSTMASTER)
        return
    except NoPostmaster:
        with pytest.raises(TemporaryFailure, match="the postmaster's account"):
            resolved(directory, address, POSTMASTER)
        return
    found = resolved(directory, address, POSTMASTER)
    first_ways: dict[tuple[str, str], tuple[str, ...]] = {}
    for end in expected:
        first_ways.setdefault(end[:2], end)
    ends = list(first_ways.values())  # each once, in the order of the targets
    assert [one.address for one in found.accounts] == of(ends, "account")
    assert [one.normal for one in found.remote] == of(ends, "remote")
    assert list(zip(found.forwarders, of(ends, "remote"), strict=True)) == [
        ("".join(by), name) for what, name, *by in ends if what == "remote"
    ]
    assert list(found.discarded) == of(ends, "discarded")
    assert [one.address for one in found.refused] == of(ends, "refused")


def of(ends, kind):
    return [name for what, name, *_ in ends if what == kind]


# -- aliases of aliases ------------------------------------------------------------


def chained(length):
    """Aliases a1 -> a2 -> ... -> ann, so many."""
    directory = MemoryDirectory()
    finish(directory.add_domain("x.example"))
    finish(directory.add("ann@x.example", None))
    for number in range(1, length + 1):
        to = "ann" if number == length else f"a{number + 1}"
        finish(directory.add_alias(Alias(f"a{number}@x.example", addresses([f"{to}@x.example"]))))
    return directory


def test_ten_aliases_in_a_row_are_followed_and_eleven_are_not():
    assert resolved(chained(DEPTH), "a1@x.example").accounts
    with pytest.raises(AliasLoop, match=r"over 10 aliases in a row: a1@x\.example -> a2@"):
        resolved(chained(DEPTH + 1), "a1@x.example")


def test_the_longest_way_counts_wherever_it_is_seen_first():
    directory = chained(DEPTH)
    for name, ways in (("top", ["a2", "b"]), ("b", ["a2"])):
        ways = addresses(f"{way}@x.example" for way in ways)
        finish(directory.add_alias(Alias(f"{name}@x.example", ways)))
    with pytest.raises(AliasLoop):  # top -> b -> a2 -> ... -> a10: eleven
        resolved(directory, "top@x.example")


def test_many_ways_through_the_same_aliases_are_followed_once():
    directory = chained(0)
    finish(directory.add("z@x.example", None))
    for number in range(DEPTH):
        ways = addresses(f"{n}{number + 1}@x.example" for n in "ab") if number < DEPTH - 1 else (
            addresses(["z@x.example"]))  # fmt: skip
        for name in "ab":
            finish(directory.add_alias(Alias(f"{name}{number}@x.example", ways)))
    asked = []

    def look_up(name):
        asked.append(name)
        return directory.look_up(name)

    found = run(resolve("a0@x.example", POSTMASTER), look_up)
    assert [one.address for one in found.accounts] == ["z@x.example"]
    assert len(asked) < 50


def test_one_address_does_not_lead_to_more_names_than_are_good():
    directory = chained(0)
    for number in range(11):
        ways = tuple(Address(f"n{number}-{one}", "x.example") for one in range(100))
        finish(directory.add_alias(Alias(f"w{number}@x.example", ways)))
    ways = addresses(f"w{number}@x.example" for number in range(11))
    finish(directory.add_alias(Alias("all@x.example", ways)))
    with pytest.raises(AliasLoop, match=r"all@x\.example leads to over 1000 addresses"):
        resolved(directory, "all@x.example")


@pytest.mark.parametrize(
    ("local", "separators", "bare"),
    [
        ("ann+x", "+", "ann"), ("ann+x+y", "+", "ann"), ("ann", "+", "ann"), ("+x", "+", "+x"),
        ("ann-x+y", "+-", "ann"), ("ann+x-y", "+-", "ann"), ("ann+x", "", "ann+x"),
        ("ann+", "+", "ann"), ("++", "+", "+"),
    ],
)  # fmt: skip
def test_a_tag_begins_at_the_first_separator(local, separators, bare):
    assert untagged(local, separators) == bare


# -- sending as ------------------------------------------------------------------------

SENDING = {
    "domains": {
        "x.example": {"catch_all": ["ann@x.example"]},
        "y.example": {"same_as": "x.example"},
    },
    "accounts": {
        "ann@x.example": {"forward": ["bob@x.example"], "keep_copy": False},
        "bob@x.example": {},
        "gone@x.example": {"state": DISABLED},
        "postmaster@x.example": {},
    },
    "aliases": {
        "only@x.example": {"targets": ["ann@x.example"]},
        "nested@x.example": {"targets": ["only@x.example", "ann+x@x.example"]},
        "both@x.example": {"targets": ["ann@x.example", "bob@x.example"]},
        "team@x.example": {"targets": ["ann@x.example", "bob@x.example"], "send": True},
        "half@x.example": {"targets": ["ann@x.example", "gone@x.example"]},
        "far@x.example": {"targets": ["ann@x.example", "joe@elsewhere.example"]},
        "no@x.example": {"kind": "refuse", "words": "No"},
        "null@x.example": {"kind": "discard"},
    },
}


@pytest.mark.parametrize(
    ("address", "senders"),
    [
        ("ann@x.example", "ann"), ("ann+tag@x.example", "ann"), ("ANN@y.example", "ann"),
        ("only@x.example", "ann"), ("nested@y.example", "ann"), ("both@x.example", ""),
        ("team@x.example", "ann bob"), ("half@x.example", ""), ("far@x.example", ""),
        ("no@x.example", ""), ("null@x.example", ""), ("free@x.example", "ann"),
        ("free@y.example", "ann"), ("bob@x.example", "bob"), ("abuse@y.example", "postmaster"),
        ("ann@elsewhere.example", ""),
    ],
)  # fmt: skip
def test_who_may_send_as_an_address(address, senders):
    found = resolved(peopled(SENDING), address, POSTMASTER, forwards=False)
    accounts = [name for name in SENDING["accounts"] if found.may_send(name)]
    assert accounts == [f"{name}@x.example" for name in senders.split()]


# -- asking ------------------------------------------------------------------------------


class Later:
    """A directory of which some answers come later."""

    def __init__(self, directory, later):
        self._directory = directory
        self._later = later

    def look_up(self, name):
        found = self._directory.look_up(name)
        return self._wait(found) if name in self._later else found

    async def _wait(self, found):
        return found


@given(st.sets(st.sampled_from([*EXAMPLE["accounts"], *EXAMPLE["aliases"]])))
def test_answers_that_come_later_make_no_difference(later):
    directory = peopled(EXAMPLE)
    for name in EXAMPLE["aliases"]:
        at_once = resolved(directory, name)
        answer = resolved(Later(directory, later), name)
        assert (at_once if answer.__class__ is at_once.__class__ else finish(answer)) == at_once


def test_what_all_directories_know_at_once_is_answered_at_once():
    directory = Directories([MemoryDirectory(), peopled(EXAMPLE)])
    assert isinstance(directory.look_up("ann@example.net"), Found)
    assert resolved(directory, "info@example.org").accounts


def test_the_first_directory_that_has_an_entry_or_a_domain_decides():
    first, second = peopled(EXAMPLE), peopled(SENDING)
    finish(second.add_domain("example.net"))
    finish(second.set_domain(Domain("example.net", separators="-")))
    finish(second.add("eve@example.net", None))
    finish(second.add("ann@example.net", "another"))
    both = Directories([first, second])
    assert both.look_up("eve@example.net").domain.separators == "+"
    assert isinstance(both.look_up("eve@example.net").entry, Account)
    assert both.look_up("ann@example.net").entry.secret is None
    assert both.look_up("bob@x.example") == second.look_up("bob@x.example")
    assert both.look_up("@x.example").domain.name == "x.example"
    assert both.look_up("joe@elsewhere.example") == Found(None)


def test_a_directory_that_knows_no_aliases_is_asked_for_accounts_and_domains():
    class Plain:
        async def find(self, name):
            return Account(name, name) if name == "ann@example.net" else None

        async def serves(self, domain):
            return domain == "example.net"

    directory = Directories([Plain(), peopled(SENDING)])
    assert finish(directory.look_up("ann@example.net")) == Found(
        Domain("example.net"), Account("ann@example.net", "ann@example.net")
    )
    assert finish(directory.look_up("only@x.example")).entry.targets
    found = finish(resolved(directory, "ann+x@example.net"))
    assert [one.address for one in found.accounts] == ["ann@example.net"]
