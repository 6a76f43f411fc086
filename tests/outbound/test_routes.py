"""Routes, against a model that tries every condition, and the manual's table."""

from __future__ import annotations

import csv
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.config import loader
from postoffice.daemon.build import find_maker
from postoffice.model.address import Address, NotAnAddress
from postoffice.model.route import Direct, Host, Refuse, Smarthost
from postoffice.outbound.routes import NO_ROUTE, Router, Rule, read_pattern

MANUAL = (Path(__file__).parents[2] / "docs/sending.rst").read_text()
LEAST = "hostname: mail.example.net\npostmaster: postmaster@example.net\n"
#: The manual's example, and its rows: sender, recipient, route.
EXAMPLE = dedent(MANUAL.split(".. code-block:: yaml\n")[1].split("\n.. csv-table::")[0])
ROWS = [
    [cell.strip() for cell in row]
    for row in csv.reader(
        (line for line in MANUAL.split("\n") if line.startswith("   ") and line.count(" | ") == 2),
        delimiter="|",
    )
][1:]

locals_ = st.sampled_from(["ann", "Bob", "carl+x", "Jürgen"])
domains = st.sampled_from(
    ["example.com", "b.example.com", "a.b.EXAMPLE.com", "xample.com", "com", "bücher.example"]
)
addresses = st.builds("{}@{}".format, locals_, domains)
patterns = st.one_of(addresses, domains, domains.map(".{}".format), st.just("<>"))
conditions = st.none() | st.lists(patterns, min_size=1, max_size=4)
rules = st.lists(st.tuples(conditions, conditions), max_size=6)


def fits(pattern, address):
    """The obvious model: one pattern, one address."""
    if pattern == "<>" or not address:
        return pattern == "<>" and not address
    normal = Address.parse(address).normal
    domain = normal.partition("@")[2]
    if "@" in pattern:
        return Address.parse(pattern).normal == normal
    wanted = Address("x", pattern.removeprefix(".")).normal.partition("@")[2]
    return domain.endswith("." + wanted) if pattern.startswith(".") else domain == wanted


def condition(patterns):
    return None if patterns is None else frozenset(map(read_pattern, patterns))


@given(rules, st.just("") | addresses, addresses)
def test_the_first_rule_that_holds_decides(said, sender, recipient):
    made = [
        Rule(Host(str(number)), condition(senders), condition(recipients))
        for number, (senders, recipients) in enumerate(said)
    ]
    expected = next(
        (
            Host(str(number))
            for number, (senders, recipients) in enumerate(said)
            if (senders is None or any(fits(one, sender) for one in senders))
            and (recipients is None or any(fits(one, recipient) for one in recipients))
        ),
        NO_ROUTE,
    )
    assert Router(made).route(sender, recipient) == expected


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_any_text_has_a_route(sender, recipient):
    said = [Rule(Direct(), condition([".example.com"]), condition(["ann@example.com"]))]
    assert Router(said).route(sender, recipient) in (NO_ROUTE, Direct())


@pytest.mark.parametrize("text", ["", ".", "a b", "@", "ann@", "@example.com", "..com", "<ann>"])
def test_what_is_no_pattern(text):
    with pytest.raises(NotAnAddress):
        read_pattern(text)


def test_an_address_literal_is_matched_as_it_is():
    router = Router([Rule(Direct(), None, condition(["[192.0.2.1]"])), Rule(NO_ROUTE)])
    assert router.route("", "ann@[192.0.2.1]") == Direct()
    assert router.route("", "ann@[192.0.2.2]") == NO_ROUTE


@pytest.mark.parametrize(("sender", "recipient", "leads"), ROWS)
def test_the_manuals_table(tmp_path, sender, recipient, leads):
    (tmp_path / "provider.secret").write_text("secret\n")
    settings = loader.read(LEAST + EXAMPLE, f"{tmp_path}/postoffice.yaml", find_maker)
    route = settings.outbound.router().route(sender.removeprefix("<>"), recipient)
    assert in_short(route) == leads


def in_short(route):
    match route:
        case Direct():
            return "direct"
        case Smarthost():
            return route.name
        case Refuse():
            return f"refused: {route.words}"
        case Host():
            return f"{'lmtp' if route.lmtp else 'smtp'}:{route.host}:{route.port}"
