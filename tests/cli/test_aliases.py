"""The `postoffice` command: aliases, forwards, domain aliases and catch-alls."""

from __future__ import annotations

import pytest

from postoffice.cli.addresses import scripts

ANN, BOB = "ann@example.net", "bob@example.net"
POSTMASTER = "postmaster@example.net"
INFO, ALL = "info@example.net", "all@example.net"


@pytest.fixture
def people(furnish):
    accounts = (f"account add {name} --generate" for name in (ANN, BOB))
    return furnish("domain add example.org", *accounts, f"alias add {INFO} {ANN} {BOB}")


def path(ask, address: str) -> tuple:
    found = ask("alias", "show", address)
    return found["accounts"], [one["address"] for one in found["refused"]]


# -- aliases ---------------------------------------------------------------------------


def test_an_alias_leads_to_its_targets_each_once(run, ask, people):
    added = ask("alias", "add", ALL, INFO, "Ann@EXAMPLE.net", "ann@example.net")
    assert added == {
        "address": ALL,
        "kind": "forward",
        "targets": [INFO, "Ann@EXAMPLE.net"],
        "words": "",
        "send": False,
        "added": True,
    }
    assert path(ask, ALL) == ([ANN, BOB], [])
    assert ask("alias", "show", INFO)["pointing"] == [ALL]
    assert ask("account", "show", ANN)["pointing"] == [ALL, INFO]
    assert run("alias", "list").stdout.splitlines() == [
        "ALIAS             GOES TO",
        f"{ALL}   {INFO}, Ann@EXAMPLE.net",
        f"{INFO}  {ANN}, {BOB}",
    ]


def test_an_alias_refuses_or_discards(run, ask, people):
    run("alias", "add", "gone@example.net", "--refuse", "She has left")
    run("alias", "add", "noreply@example.net", "--discard")
    kinds = {one["address"]: one["kind"] for one in ask("alias", "list")["aliases"]}
    assert kinds == {
        INFO: "forward", "gone@example.net": "refuse", "noreply@example.net": "discard",
    }  # fmt: skip
    assert ask("alias", "list", "example.org") == {"aliases": []}


def test_an_alias_can_be_changed(run, ask, people):
    assert ask("alias", "set", INFO, "--remove", ANN)["targets"] == [BOB]
    assert ask("alias", "set", INFO, "--add", ANN, "--add", BOB)["targets"] == [BOB, ANN]
    assert ask("alias", "set", INFO, ANN, "--send")["targets"] == [ANN]
    assert ask("alias", "set", INFO, BOB)["send"]
    assert not ask("alias", "set", INFO, "--no-send")["send"]
    assert ask("alias", "set", INFO, "--discard")["targets"] == []
    assert ask("alias", "set", INFO, "--add", ANN)["kind"] == "forward"


def test_what_still_leads_to_a_removed_address_is_reported(run, ask, people):
    run("alias", "add", ALL, INFO)
    run("account", "set", POSTMASTER, "--forward", INFO)
    run("domain", "set", "example.org", "--catch-all", INFO)
    assert ask("alias", "remove", INFO)["pointing"] == ["*@example.org", ALL, POSTMASTER]
    run("alias", "set", ALL, ANN)
    said = run("account", "remove", ANN)
    assert said.stdout == f"{ANN} is removed\n{ALL} still leads to {ANN}\n"
    assert path(ask, ALL) == ([], [ANN])
    run("domain", "set", "example.org", "--catch-all", BOB)
    run("alias", "add", "x@example.org", "--discard")
    run("alias", "set", ALL, "x@example.org")
    run("alias", "remove", "x@example.org")
    assert ask("domain", "remove", "example.org")["pointing"] == [ALL]


REFUSED = {
    "a loop": (("add", "x@example.net", "x@example.net"), "a loop of aliases"),
    "a longer loop": (("set", INFO, ALL), f"a loop of aliases: {INFO} -> {ALL} -> {INFO}"),
    "an account": (("add", ANN, BOB), f"{ANN} is an account; an account forwards its mail"),
    "an alias": (("add", INFO, BOB), f"{INFO} is here already"),
    "nobody": (("add", "x@example.net", "no@example.net"), "there is no such address"),
    "nobody's": (("set", "no@example.net", ANN), "there is no alias no@example.net here"),
    "elsewhere": (
        ("add", "x@example.net", "joe@elsewhere.example"),
        "elsewhere.example is another domain, and this post office cannot send mail",
    ),
    "not ours": (("add", "x@elsewhere.example", ANN), "elsewhere.example is not a domain of ours"),
    "101 targets": (
        ("add", "x@example.net", *(f"u{number}@example.net" for number in range(101))),
        "x@example.net has 101 targets; 100 are the most",
    ),
    "words": (("add", "x@example.net", "--refuse", "Sie ist fort – weg"), "cannot be in a reply"),
    "the last": (("set", INFO, "--remove", ANN, "--remove", BOB), "would have no target"),
    "no target": (("set", INFO, "--remove", "x@example.net"), "has no target x@example.net"),
    "a catch-all": (("add", "*@example.net", ANN), "is the name of a catch-all"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(run, ask, people, what):
    run("alias", "add", ALL, INFO)
    before = ask("alias", "list")
    words, why = REFUSED[what]
    assert why in ask("alias", *words, status=1)["error"]
    assert ask("alias", "list") == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "x@example.net"), "name the targets, or give --refuse or --discard"),
        (("add", "x@example.net", ANN, "--discard"), "exclude one another"),
        (("add", "x@example.net", "no address"), "'no address'"),
        (("set", INFO), "say what to change"),
        (("set", INFO, ANN, "--add", BOB), "--add and --remove change the targets"),
    ],
)
def test_words_that_make_no_sense_are_explained(run, people, words, why):
    assert why in " ".join(run("alias", *words, status=2).stderr.split())


def test_both_forms_of_a_domain_are_one(run, ask, office):
    run("domain", "add", "bücher.example")
    run("account", "add", "ann@bücher.example", "--generate")
    run("alias", "add", "info@xn--bcher-kva.example", "ann@xn--bcher-kva.example")
    assert "is here already" in ask(
        "alias", "add", "info@bücher.example", "ann@bücher.example", status=1
    )["error"]  # fmt: skip
    assert len(ask("alias", "list", "bücher.example")["aliases"]) == 1


def test_letters_that_look_like_others_are_warned_of(run, people):
    said = run("alias", "add", "\u0430nna@example.net", ANN)
    assert "mixes Cyrillic and Latin letters" in said.stderr


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (
            ("domain", "add", "ex\u0430mple.org"),
            "ex\u0430mple.org mixes Cyrillic and Latin letters",
        ),
        (("domain", "alias", "add", "ex\u0430mple.org", "example.net"), "mixes Cyrillic and Latin"),
        (("account", "rename", ANN, "\u0430nn@example.net"), "mixes Cyrillic and Latin letters"),
        (("alias", "add", "\uff41lex@example.net", ANN), "looks like alex@example.net"),
        (("domain", "add", "b\u00fccher.example"), ""),
        (("domain", "add", "xn--a.example"), ""),
        (("domain", "add", "a_b.example"), ""),
    ],
)
def test_new_names_that_look_like_others_are_warned_of(run, people, words, warning):
    said = run(*words).stderr
    assert warning in said if warning else not said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann", ["Latin"]),
        ("\u0430nn", ["Cyrillic", "Latin"]),
        ("日本ごカ", ["Cjk"]),
        ("a-1", ["Latin"]),
        ("...", []),
    ],
)
def test_scripts(text, found):
    assert scripts(text) == found


@pytest.mark.parametrize("words", [("add", INFO, "--generate"), ("rename", ANN, INFO)])
def test_no_account_gets_the_name_of_an_alias(ask, people, words):
    why = f"{INFO} is an alias; postoffice alias remove {INFO}"
    assert ask("account", *words, status=1) == {"error": why}


def test_an_account_that_looks_like_another_is_warned_of(run, people):
    said = run("account", "add", "\u0430nn@example.net", "--generate")
    assert "mixes Cyrillic and Latin letters" in said.stderr


# -- forwards --------------------------------------------------------------------------


def test_an_account_forwards_its_mail_and_keeps_a_copy_or_none(run, ask, people):
    said = run("account", "set", ANN, "--forward", BOB).stdout
    assert said == f"{ANN} has a forward: to {BOB}, and its own maildrop\n"
    run("account", "set", ANN, "--no-keep-copy")
    shown = ask("account", "show", ANN)
    assert (shown["forward"], shown["keep_copy"]) == ([BOB], False)
    assert f"forward     to {BOB}, not to its own maildrop" in run("account", "show", ANN).stdout
    run("account", "set", ANN, "--no-forward")
    shown = ask("account", "show", ANN)
    assert (shown["forward"], shown["keep_copy"]) == ([], True)


def test_a_forward_in_a_circle_is_refused(run, ask, people):
    run("account", "set", ANN, "--forward", BOB)
    said = ask("account", "set", BOB, "--forward", ANN, "--quota", "5MiB", status=1)
    assert "a loop of aliases" in said["error"]
    shown = ask("account", "show", BOB)
    assert (shown["forward"], shown["quota_from"]["octets"]) == ([], "default")


# -- domains ---------------------------------------------------------------------------


def test_a_domain_alias_has_the_addresses_of_the_other(run, ask, people):
    assert ask("domain", "alias", "add", "example.com", "example.net")["added"]
    run("domain", "alias", "add", "example.org", "example.net")
    assert ask("domain", "alias", "list")["aliases"] == [
        {"alias": "example.com", "domain": "example.net"},
        {"alias": "example.org", "domain": "example.net"},
    ]
    assert ask("domain", "show", "example.com")["same_as"] == "example.net"
    run("alias", "add", "both@example.net", "info@example.com", "bob@example.org")
    assert path(ask, "both@example.net") == ([ANN, BOB], [])
    assert "domains: 2" in ask("domain", "remove", "example.net", status=1)["error"]
    assert ask("domain", "alias", "remove", "example.org")["domain"] == "example.net"
    assert path(ask, "both@example.net") == ([ANN, BOB], ["bob@example.org"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "example.org", "example.org"), "example.org cannot be an alias of itself"),
        (("add", "example.org", "elsewhere.example"), "is not a domain of ours"),
        (("add", "x.example", "example.com"), "example.com is itself an alias, of example.net"),
        (("add", "example.com", "example.org"), "is an alias of example.net already"),
        (("add", "example.net", "example.org"), "example.com is an alias of example.net"),
        (("remove", "example.org"), "example.org is no domain alias here"),
    ],
)
def test_a_domain_alias_that_cannot_be_is_refused(run, ask, people, words, why):
    run("domain", "alias", "add", "example.com", "example.net")
    before = ask("domain", "list")
    assert why in ask("domain", "alias", *words, status=1)["error"]
    assert ask("domain", "list") == before


def test_a_catch_all_and_the_names_that_it_does_not_catch(run, ask, people):
    words = ("--catch-all", ANN, "--except", "Sales", "--except", "hr", "--separators", "+-")
    run("domain", "set", "example.org", *words)
    shown = ask("domain", "show", "example.org")
    assert (shown["catch_all"], shown["uncaught"]) == ([ANN], ["hr", "sales"])
    assert shown["separators"] == "+-"
    run("domain", "set", "example.org", "--except", "x")
    assert ask("domain", "show", "example.org")["catch_all"] == [ANN]
    run("domain", "set", "example.org", "--no-catch-all", "--separators", "")
    shown = ask("domain", "show", "example.org")
    assert (shown["catch_all"], shown["uncaught"], shown["separators"]) == ([], [], "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--catch-all", "no@example.net"), "there is no such address"),
        (("--catch-all", "x@example.org"), "there is no such address"),
        (("--separators", "a"), "'a' cannot be separators"),
    ],
)
def test_a_domain_that_cannot_be_so_is_refused(run, ask, people, words, why):
    before = ask("domain", "show", "example.org")
    assert why in ask("domain", "set", "example.org", "--quota", "1GiB", *words, status=1)["error"]
    assert ask("domain", "show", "example.org") == before


def test_what_leads_to_an_alias_is_followed_before_it_grows(run, people):
    """Ten aliases in a row are the most, wherever the eleventh would be put in."""
    for number in range(9, 0, -1):
        target = INFO if number == 9 else f"a{number + 1}@example.net"
        run("alias", "add", f"a{number}@example.net", target)
    run("alias", "add", ALL, ANN)
    said = run("alias", "set", INFO, ALL, status=1).output
    assert "info@example.net cannot have these targets: a1@example.net leads to it: over 10" in said
    said = run("account", "set", BOB, "--forward", ANN, status=1).output
    assert "bob@example.net cannot have these targets: a1@example.net leads to it: over 10" in said
    run("alias", "set", "a5@example.net", ANN)
    run("alias", "set", INFO, ALL)
    run("account", "set", BOB, "--forward", ANN)


def test_with_outbound_targets_may_be_anywhere(run, ask, people):
    with (people / "postoffice.yaml").open("a") as file:
        file.write("outbound: {}\n")
    far = "joe@elsewhere.example"
    run("alias", "add", "x@example.net", far)
    run("alias", "set", INFO, "--add", far)
    run("account", "set", ANN, "--forward", far)
    run("domain", "set", "example.org", "--catch-all", far)
    assert ask("alias", "show", INFO)["remote"] == [far]
    (people / "more.csv").write_text(f"address,targets\ny@example.net,{far}\n")
    run("alias", "import", "more.csv")
    (people / "accounts.csv").write_text(f"address,forward\ncarl@example.net,{far}\n")
    run("account", "import", "accounts.csv")
    assert ask("account", "show", "carl@example.net")["forward"] == [far]
