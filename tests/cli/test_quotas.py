"""The `postoffice` command: what accounts and domains may hold, and who says so."""

from __future__ import annotations

import pytest

from postoffice.cli.output import sized
from postoffice.cli.quotas import VALUES
from postoffice.cli.setting_layers import effective
from postoffice.model.address import Quota

ANN = "ann@example.net"


@pytest.fixture
def ann(run, office):
    run("account", "add", ANN, "--generate")
    return ANN


def quota_of(data: dict) -> tuple:
    """The values of a quota, and who says each."""
    values = ("octets", "messages", "over")
    return tuple(data["quota"][one] for one in values), [data["quota_from"][one] for one in values]


def test_what_nobody_says_is_as_the_configuration_says(ask, ann, office):
    file = office / "postoffice.yaml"
    assert quota_of(ask("account", "show", ann)) == ((1 << 30, 0, "reject"), ["default"] * 3)
    file.write_text(file.read_text().replace("bytes: 1 GiB", "bytes: 5 MB"))
    assert quota_of(ask("account", "show", ann)) == ((5_000_000, 0, "reject"), ["default"] * 3)


def test_account_domain_and_configuration_say_each_what_they_say(run, ask, ann):
    run("domain", "set", "example.net", "--quota", "2 GiB", "--quota-messages", "100")
    run("account", "set", ann, "--quota-messages", "0")
    whole = ((2 << 30, 0, "reject"), ["domain", "account", "default"])
    assert quota_of(ask("account", "show", ann)) == whole
    listed = {one["address"]: quota_of(one) for one in ask("account", "list")["accounts"]}
    assert listed[ann] == whole
    assert listed["postmaster@example.net"] == ((1 << 30, 0, "make-room"), ["postmaster"] * 3)
    (domain,) = ask("domain", "list")["domains"]
    assert quota_of(domain) == ((2 << 30, 100, "reject"), ["domain", "domain", "default"])


@pytest.mark.parametrize(
    ("said", "quota"),
    [("5 MiB", (5 << 20, 0, "make-room")), ("0", (0, 0, "reject"))],
)
def test_the_postmasters_is_as_the_configuration_says(run, ask, office, said, quota):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("postmaster: 1 GiB", f"postmaster: {said}"))
    name = "postmaster@example.net"
    run("account", "set", name, "--quota", "7MiB", "--over", "reject")
    run("domain", "set", "example.net", "--quota", "8MiB", "--over", "defer")
    assert quota_of(ask("account", "show", name)) == (quota, ["postmaster"] * 3)


def test_an_account_that_says_the_same_as_its_domain_still_says_it(run, ask, ann):
    run("domain", "set", "example.net", "--quota", "5MiB")
    run("account", "set", ann, "--quota", "5MiB")
    run("domain", "set", "example.net", "--quota", "6MiB")
    assert quota_of(ask("account", "show", ann))[0][0] == 5 << 20


@pytest.mark.parametrize("of", [("domain", "example.net"), ("account", ANN)])
def test_a_change_leaves_what_it_does_not_name(ask, ann, of):
    what, name = of
    said = ask(what, "set", name, "--quota", "1.5 MiB", "--over", "defer")
    assert quota_of(said) == ((3 << 19, 0, "defer"), [what, "default", what])
    said = ask(what, "set", name, "--quota-messages", "9")
    assert quota_of(said) == ((3 << 19, 9, "defer"), [what] * 3)
    said = ask(what, "set", name, "--quota", "0", "--over", "make-room")
    assert quota_of(said) == ((0, 9, "make-room"), [what] * 3)
    assert quota_of(ask("account", "show", ann)) == quota_of(said)
    said = ask(what, "set", name, "--default-quota")
    assert quota_of(said) == ((1 << 30, 0, "reject"), ["default"] * 3)


def test_an_account_may_be_added_with_a_quota(run, ask, office):
    run("domain", "add", "example.org", "--quota", "10 MiB", "--over", "make-room")
    run("account", "add", "ann@example.org", "--generate", "--quota-messages", "5")
    said = quota_of(ask("account", "show", "ann@example.org"))
    assert said == ((10 << 20, 5, "make-room"), ["domain", "account", "domain"])


def test_people_read_sizes_with_units(run, ann):
    run("domain", "add", "example.org")
    run("domain", "set", "example.net", "--quota", "1610612736", "--quota-messages", "1")
    run("account", "set", ann, "--quota", "0", "--over", "defer")
    assert [
        line.split("  USED  ")[-1].split("  ?  ")[-1].strip()
        for line in run("account", "list", "--no-use").output.splitlines()[:3]
    ] == [
        "QUOTA      OVER       FROM",
        "1 message  defer      account, domain",
        "1 GiB      make-room  postmaster",
    ]
    assert run("domain", "list").output.splitlines() == [
        "DOMAIN       ACCOUNTS  QUOTA               OVER    FROM",
        "example.net  2         1.5 GiB, 1 message  reject  domain, default",
        "example.org  0         1 GiB               reject  default",
    ]
    line = "any size (account), 1 message (domain), over: defer (account)\n"
    assert f"quota       {line}" in run("account", "show", ann).output
    said = run("account", "set", ann, "--over", "reject").output
    assert said == f"{ann} has a quota: {line}".replace("defer", "reject")
    said = run("domain", "set", "example.org", "--quota-messages", "2").output
    assert said == (
        "example.org has a quota: 1 GiB (default), 2 messages (domain), over: reject (default)\n"
    )


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 octets"),
        (1, "1 octet"),
        (1023, "1023 octets"),
        (1024, "1 KiB"),
        (1100, "1.1 KiB"),
        (10 * 1024, "10 KiB"),
        (3 << 19, "1.5 MiB"),
        (1 << 30, "1 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes_for_people(octets, text):
    assert sized(octets) == text


def test_of_each_value_the_first_counts_that_says_it():
    layers = {"a": Quota(octets=0), "b": Quota(5, None, "defer"), "c": Quota(7, 8, "reject")}
    quota, sources = effective(VALUES, **layers)
    assert quota == Quota(0, 8, "defer")
    assert sources == {"octets": "a", "messages": "c", "over": "b"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--quota", "much"), "'much' is not a size (octets, or such as 50 MiB)"),
        (("--quota=-1",), "'-1' is not a size"),
        (("--quota", "99999999999 TiB"), "is more than a quota can be"),
        (("--quota-messages", "1 GiB"), "is not a number of messages"),
        (("--quota-messages=-1",), "'-1' is not a number of messages"),
        (("--quota-messages", str(1 << 63)), "is not a number of messages"),
        (("--over", "bounce"), "'bounce' is not one of 'reject', 'defer', 'make-room'"),
        (("--quota", "1", "--default-quota"), "--default-quota removes what"),
        ((), "give one of --"),
    ],
)
@pytest.mark.parametrize("of", [("domain", "example.net"), ("account", ANN)])
def test_words_that_make_no_sense_change_nothing(ask, ann, of, words, why):
    assert why in ask(of[0], "set", of[1], *words, status=2)["error"]
    assert quota_of(ask("account", "show", ann)) == ((1 << 30, 0, "reject"), ["default"] * 3)


def test_quota_and_shared_secret_are_changed_one_at_a_time(ask, ann):
    words = ("--quota", "1", "--no-shared-secret")
    assert (
        "give one of --shared-secret-stdin" in ask("account", "set", ann, *words, status=2)["error"]
    )


def test_the_largest_numbers_can_be_kept(ask, ann):
    most = (1 << 63) - 1
    said = ask("account", "set", ann, "--quota", str(most), "--quota-messages", str(most))
    assert said["quota"] == {"octets": most, "messages": most, "over": "reject"}


def test_nobody_and_nowhere_have_no_quota(ask, office):
    said = ask("account", "set", "nobody@example.net", "--quota", "1", status=1)
    assert said == {"error": "there is no account nobody@example.net here"}
    said = ask("domain", "set", "example.org", "--default-quota", status=1)
    assert said == {"error": "there is no domain example.org here"}
