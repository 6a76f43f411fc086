"""`postoffice domain import` and `export`: in and out, and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ANN, POSTMASTER = "ann@example.net", "postmaster@example.net"
NAMES = ["example.net", "other.example", "third.example", "xn--bcher-kva.example"]


@pytest.fixture
def full(furnish):
    """An office with all that a domain can have."""
    more = f"--catch-all {ANN} --catch-all '\"c d\"@other.example'"
    return furnish(
        f"account add {ANN} --generate",
        "domain add other.example --quota 5MiB --over defer --keep '9 days'",
        "account add '\"c d\"@other.example' --generate",
        "domain add bücher.example",
        "domain alias add third.example other.example",
        f"domain set other.example --separators -+ {more} --except sales --except '\"a b\"'",
        "domain set bücher.example --separators ''",
    )


def shown(ask):
    """All that is known of each domain."""
    return [ask("domain", "show", name) for name in NAMES]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_all_comes_back_as_it_was(run, ask, full, tmp_path_factory, monkeypatch, form):
    """Domains, then accounts, then what leads to accounts."""
    before = shown(ask)
    for what in ("domain", "account"):
        run(what, "export", f"{what}.{form}")
    there = tmp_path_factory.mktemp("other")
    monkeypatch.chdir(there)
    run("init", ".", "--hostname", "mail.example.net", "--domain", "example.net")
    said = ask("domain", "import", str(full / f"domain.{form}"), "--update", status=1)
    assert (said["added"], said["updated"], said["failed"]) == (2, 1, 1)
    assert "it is added without that" in said["errors"][0]["text"]
    assert ask("account", "import", str(full / f"account.{form}"), "--update")["failed"] == 0
    said = ask("domain", "import", str(full / f"domain.{form}"), "--update")
    assert (said["added"], said["updated"], said["failed"]) == (0, 4, 0)
    assert shown(ask) == before


def test_a_domain_may_be_an_alias_of_one_that_comes_later(ask, office):
    Path("a.csv").write_text("domain,same_as\na.example,B.example\nb.example,\n")
    assert ask("domain", "import", "a.csv", "--dry-run")["added"] == 2
    assert [one["domain"] for one in ask("domain", "list")["domains"]] == ["example.net"]
    assert ask("domain", "import", "a.csv")["added"] == 2
    assert ask("domain", "show", "a.example")["same_as"] == "b.example"


BAD = {
    "x y,,,,": "domain: 'x y' is not a domain",
    "[192.0.2.1],,,,": "domain: '[192.0.2.1]' is an address literal",
    ",,,,": "there is no domain",
    "example.net,,,,": "is here already; --update changes it",
    "a.example,,abc,,": "separators: 'abc' are no separators",
    'a.example,,,,"': "this is not CSV",
}


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_cannot_be_used_is_reported(ask, office, line):
    Path("a.csv").write_text(f"domain,same_as,separators,catch_all,except\n{line}\n")
    said = ask("domain", "import", "a.csv", status=1)
    assert (said["added"], said["failed"]) == (0, 1)
    assert BAD[line] in said["errors"][0]["text"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"same_as": "a.example"}, "a.example cannot be an alias of itself"),
        ({"same_as": "gone.example"}, "gone.example is not a domain of ours"),
        ({"catch_all": "x@gone.example"}, "gone.example is another domain"),
        ({"catch_all": ["a b"]}, "'a' is not an address"),
        ({"except": 'a "b'}, "has a quote without its end"),
        ({"keep": "much"}, "keep: 'much' is not"),
    ],
)
def test_what_a_domain_cannot_be_is_reported(ask, office, values, why):
    Path("a.jsonl").write_text(json.dumps({"domain": "a.example", **values}))
    said = ask("domain", "import", "a.jsonl", status=1)
    assert why in said["errors"][0]["text"]


def test_what_others_are_the_same_as_cannot_be_an_alias(ask, full):
    Path("a.csv").write_text("domain,same_as\nother.example,example.net\n")
    said = ask("domain", "import", "a.csv", "--update", status=1)
    assert "third.example is an alias of other.example" in said["errors"][0]["text"]


def test_an_update_changes_only_what_the_line_has(ask, full):
    before = ask("domain", "show", "other.example")
    Path("a.csv").write_text("domain,quota_messages,catch_all\nOTHER.example,7,\n")
    assert ask("domain", "import", "a.csv", "--update")["updated"] == 1
    after = ask("domain", "show", "other.example")
    assert after["quota"]["messages"] == 7
    changed = {"quota": after["quota"], "quota_from": after["quota_from"]}
    assert after == {**before, **changed}
    assert after["quota"]["octets"] == 5 << 20


def test_a_domain_that_may_look_like_another_is_warned_about(ask, office):
    Path("a.csv").write_text("domain\nexаmple.org\n")
    (warning,) = ask("domain", "import", "a.csv")["warnings"]
    assert "mixes Cyrillic and Latin letters" in warning["text"]


def test_a_catch_all_among_aliases_is_said_to_belong_to_the_domain(ask, office):
    Path("a.csv").write_text(f"address,targets\n@example.net,{POSTMASTER}\n")
    said = ask("alias", "import", "a.csv", status=1)
    assert "@example.net is a catch-all, which a domain has" in said["errors"][0]["text"]
