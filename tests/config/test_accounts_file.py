"""The file of a directory of kind yaml: what it can say, and what is wrong with it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts.file_directory import FileDirectory
from postoffice.accounts.passwords import verify
from postoffice.config.accounts_file import AccountKeys, AliasKeys, DomainKeys, parse
from postoffice.config.schema import keys_of
from postoffice.config.source import ConfigurationError
from postoffice.model.address import Account, Address, Quota
from postoffice.model.alias import Alias, Domain
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy
from postoffice.testing import ImmediateExecutor, finish
from tests.accounts.test_address_resolution import EXAMPLE, ROWS, resolved

PAGE = (Path(__file__).parents[2] / "docs/directories.rst").read_text()
ANN, BOB = "ann@example.net", "bob@example.net"
NET = "domains: {example.net: }\n"


def read(text):
    return parse("FILE", textwrap.dedent(text).encode("utf-8", "surrogateescape"))


def complaints(text):
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_the_manuals_example_is_read():
    text = PAGE.split(".. code-block:: yaml\n")[1].split("\n\nWhat aliases")[0]
    found = read(text)
    ann, bob = (found.entries[name] for name in (ANN, BOB))
    assert verify(ann.secret, "grüner Tee".encode())
    assert (ann.quota, bob.quota) == (Quota(10 << 30, 50000), Quota(2 << 30))
    assert bob.forward == (Address.parse(ANN),)
    assert found.entries["info@example.net"].targets == tuple(map(Address.parse, (ANN, BOB)))
    assert found.domains["example.org"] == Domain("example.org", "example.net")


def test_the_manual_names_all_keys():
    for keys in (DomainKeys, AccountKeys, AliasKeys):
        assert [one.name for one in keys_of(keys) if f"``{one.name}``" not in PAGE] == []


@pytest.mark.parametrize(("recipient", "path", "outcome"), ROWS, ids=[row[0] for row in ROWS])
def test_the_manuals_addresses_lead_where_its_table_says(tmp_path, recipient, path, outcome):
    file = tmp_path / "accounts.yaml"
    world = {name: EXAMPLE[name] for name in ("domains", "accounts", "aliases")}
    file.write_text(yaml.safe_dump(world))
    directory = FileDirectory(str(file), parse, ImmediateExecutor())
    finish(directory.start())
    found = resolved(directory, recipient, EXAMPLE["postmaster"])
    goes_to = [one.address for one in found.accounts] + [str(one) for one in found.remote]
    if found.refusal is not None:
        goes_to = [f"{found.refusal.code} {found.refusal.status} {found.refusal.text}"]
    assert (", ".join(goes_to) or "nobody") == outcome


def test_all_that_an_account_can_say():
    found = read("""
        domains:
          Bücher.example: {quota: {messages: 7, over: defer}, keep: 30 days, in_use: wait}
        accounts:
          Ann@bücher.example:
            password: "{PLAIN}secret word"
            shared_secret: tanstaaf
            state: held
            networks: [192.0.2.1/24, "::1", local]
            quota: {bytes: 1 MiB, messages: 0}
            delete_on_collect: true
            keep: 90 days
            maildrop: anna@bücher.example
            forward: [bob@bücher.example, '"a b"@elsewhere.example']
            keep_copy: no
          bob@bücher.example: {password: "{PLAIN}other word", quota: 5 KiB}
        """)
    domain = "xn--bcher-kva.example"
    assert found.entries[f"ann@{domain}"] == Account(
        f"ann@{domain}",
        f"anna@{domain}",
        "{PLAIN}secret word",
        shared="tanstaaf",
        quota=Quota(1 << 20, 0, "defer"),
        mail_policy=MailPolicy(keep=90 * 86400, delete_on_collect=True, in_use="wait"),
        state="held",
        forward=(Address("bob", "bücher.example"), Address("a b", "elsewhere.example")),
        keep_copy=False,
        networks=("192.0.2.0/24", "::1/128", "local"),
    )
    bob = found.entries[f"bob@{domain}"]
    assert (bob.shared, bob.quota) == ("other word", Quota(5 << 10, 7, "defer"))
    assert len(found.account_settings) == 2


def test_all_that_domains_and_aliases_can_say():
    found = read("""
        domains:
          example.net: {separators: "-+", catch_all: [ann@example.net], uncaught: [Sales]}
          example.org: {same_as: EXAMPLE.net}
        aliases:
          a@example.net: {targets: [b@example.org], send: true}
          b@example.net: {kind: refuse, words: "She has left"}
          c@example.net: {kind: discard}
          d@example.org: [x@elsewhere.example]
        """)
    assert found.domains == {
        "example.net": Domain("example.net", "", "-+", (Address.parse(ANN),), frozenset({"sales"})),
        "example.org": Domain("example.org", "example.net"),
    }
    assert list(found.entries.values()) == [
        Alias("a@example.net", (Address("b", "example.org"),), send=True),
        Alias("b@example.net", kind="refuse", words="She has left"),
        Alias("c@example.net", kind="discard"),
        Alias("d@example.org", (Address("x", "elsewhere.example"),)),
    ]


@pytest.mark.parametrize("text", ["domains:", "accounts: {}", NET, NET + "accounts:\naliases:\n"])
def test_a_section_may_be_empty_or_missing(text):
    assert read(text).entries == {}
    assert read(f"{NET}accounts:\n  {ANN}:\n").entries == {
        ANN: Account(ANN, ANN, mail_policy=UNSPECIFIED)
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "FILE: empty; expected domains, accounts and aliases"),
        ("- a", "FILE:1: found a list; expected a mapping of keys"),
        ("domains: [", "FILE:1: not YAML"),
        ("domains: {}\ndomains: {}", "FILE:2: domains: given twice, first in line 1"),
        ("domain: {}", "FILE:1: domain: unknown key; did you mean domains?"),
        ("domains: [example.net]", "FILE:1: domains: found a list; expected a mapping"),
        ("domains:\n  exa mple:", "FILE:2: domains: 'exa mple' is not a domain"),
        ("domains:\n  a.b:\n  A.B:", "FILE:3: domains.a.b: given twice, first in line 2"),
        (
            "domains: {a.b: {quota: much}}",
            "FILE:1: domains.a.b.quota: found 'much'; expected a size",
        ),
        ("domains: {a.b: {same_as: c.d}}", "FILE:1: domains.a.b: c.d is not a domain of ours"),
        ("domains: {a.b: {same_as: a.b}}", "FILE:1: domains.a.b: a.b cannot be an alias of itself"),
        ("domains: {a.b: {separators: x}}", "FILE:1: domains.a.b: 'x' cannot be separators"),
        (f"accounts:\n  {ANN}:", f"FILE:2: accounts.{ANN}: example.net is not among the domains:"),
        (f"{NET}accounts:\n  ann:", "FILE:3: accounts: 'ann' is not an address"),
        (f"{NET}accounts:\n  {ANN}:\n  ANN@example.NET:", f"FILE:4: accounts.{ANN}: given twice"),
        (f"{NET}accounts:\n  {ANN}: {{pasword: x}}", "unknown key; did you mean password?"),
        (f"{NET}accounts:\n  {ANN}: {{state: dead}}", "expected one of enabled, disabled"),
        (f"{NET}accounts:\n  {ANN}: {{networks: [home]}}", "expected an IP address, a network, or"),
        (
            f"{NET}accounts:\n  {ANN}: {{maildrop: {BOB}}}\n  {BOB}: {{}}",
            f"FILE:4: accounts.{BOB}.maildrop: {BOB} is the maildrop of {ANN}",
        ),
        (
            f"{NET}accounts: {{{ANN}: }}\naliases:\n  {ANN}: [{BOB}]",
            f"FILE:4: aliases.{ANN}: an account has this name, in line 2",
        ),
        (f"{NET}aliases: {{{ANN}: 7}}", f"aliases.{ANN}: expected a mapping of targets, kind,"),
        (f"{NET}aliases: {{{ANN}: []}}", f"aliases.{ANN}: {ANN} has no targets"),
        (f"{NET}aliases: {{{ANN}: [bob]}}", f"aliases.{ANN}.targets[0]: found 'bob'"),
        (f"{NET}aliases: {{{ANN}: [{ANN}]}}", "a loop of aliases"),
        (f"{NET}aliases: {{{ANN}: {{kind: refuse}}}}", "needs words that its refusal says"),
        (
            f"{NET}aliases: {{{ANN}: [{', '.join(['b@c.d'] * 101)}]}}",
            "101 targets; 100 are the most",
        ),
        ("domains: &a {}\naccounts: *a", "FILE:2: not YAML: aliases are not allowed"),
        ("domains: \udcff", "FILE:1: not UTF-8"),
        ("#" * (1 << 20) + "#", "FILE: over 1 MiB"),
    ],
)
def test_what_is_wrong_has_its_line_and_key(text, why):
    found = complaints(text)
    assert why in found[0]
    assert len(found) == 1 or why.startswith(f"FILE:4: accounts.{BOB}")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("12345678", "found what is not shown; expected a text; put it in quotes"),
        ("[12345678]", "found what is not shown"),
        ("12345678x", "the hash cannot be used: it begins with no {SCHEME}"),
        ('"{SHA}12345678"', "the hash cannot be used: a hash of SHA does not have 6 octets"),
    ],
)
def test_no_password_is_in_what_is_said_of_it(value, why):
    (complaint,) = complaints(f"{NET}accounts:\n  {ANN}: {{password: {value}}}")
    assert complaint.startswith(f"FILE:3: accounts.{ANN}.password: ")
    assert why in complaint
    assert "12345678" not in complaint


def test_all_mistakes_are_told_of_at_once():
    found = complaints(
        f"{NET}accounts:\n  {ANN}: {{stat: x}}\n  b: {{}}\naliases:\n  {ANN}: []\nx: 1"
    )
    assert [line.split(": ")[0] for line in found] == [f"FILE:{number}" for number in (3, 4, 6, 7)]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_octets_are_read_or_refused(octets):
    try:
        parse("FILE", octets)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017
