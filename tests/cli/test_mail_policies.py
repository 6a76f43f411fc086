"""The `postoffice` command: how mail is kept and served, and who says so."""

from __future__ import annotations

import pytest

from postoffice.cli.mail_policies import VALUES
from postoffice.cli.output import lasting
from postoffice.cli.setting_layers import effective
from postoffice.model.mail_policy import DEFAULT_POLICY, MailPolicy

ANN = "ann@example.net"
A_DAY = 86400
DEFAULT = {
    "keep": 0,
    "keep_collected": 0,
    "delete_on_collect": False,
    "devices": "any",
    "login_delay": 0,
    "in_use": "refuse",
    "wait": 30,
}


@pytest.fixture
def ann(run, office):
    run("account", "add", ANN, "--generate")
    return ANN


def said_by(data: dict, who: str) -> dict:
    """The values that this one says."""
    return {name: data["serving"][name] for name, one in data["serving_from"].items() if one == who}


def test_what_nobody_says_is_as_the_configuration_says(ask, ann, office):
    assert said_by(ask("account", "show", ann), "default") == DEFAULT
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("  keep: 0\n", "  keep: 90 days\n"))
    assert said_by(ask("account", "show", ann), "default") == {**DEFAULT, "keep": 90 * A_DAY}


def test_account_domain_and_configuration_say_each_what_they_say(run, ask, ann):
    run("domain", "set", "example.net", "--keep", "90days", "--in-use", "wait", "--wait", "5")
    run("account", "set", ann, "--keep", "0", "--delete-on-collect")
    whole = ask("account", "show", ann)
    assert said_by(whole, "account") == {"keep": 0, "delete_on_collect": True}
    assert said_by(whole, "domain") == {"in_use": "wait", "wait": 5}
    domain = ask("domain", "show", "example.net")
    assert said_by(domain, "domain") == {"keep": 90 * A_DAY, "in_use": "wait", "wait": 5}
    assert domain["accounts"] == 2


@pytest.mark.parametrize("of", [("domain", "example.net"), ("account", ANN)])
def test_a_change_leaves_what_it_does_not_name(ask, ann, of):
    what, name = of
    said = ask(what, "set", name, "--keep-collected", "7 days", "--devices", "all")
    assert said_by(said, what) == {"keep_collected": 7 * A_DAY, "devices": "all"}
    said = ask(what, "set", name, "--no-delete-on-collect", "--login-delay", "5min")
    seven = {"keep_collected": 7 * A_DAY, "devices": "all"}
    whole = {**seven, "delete_on_collect": False, "login_delay": 300}
    assert said_by(said, what) == whole
    said = ask(what, "set", name, "--quota", "1MiB")
    assert said_by(said, what) == whole
    assert said["quota"]["octets"] == 1 << 20
    said = ask(what, "set", name, "--default-serving", "--quota", "2MiB")
    assert said_by(said, "default") == DEFAULT
    assert said["quota"]["octets"] == 2 << 20


def test_an_account_may_be_added_with_a_mail_policy(run, ask, office):
    run("domain", "add", "example.org", "--keep", "30days")
    run("account", "add", "ann@example.org", "--generate", "--in-use", "take-over")
    said = ask("account", "show", "ann@example.org")
    assert said_by(said, "domain") == {"keep": 30 * A_DAY}
    assert said_by(said, "account") == {"in_use": "take-over"}


def test_people_read_durations_with_units(run, ann):
    run("domain", "set", "example.net", "--keep", "90days", "--login-delay", "90")
    said = run("account", "set", ann, "--delete-on-collect").output
    kept = (
        "kept 90 days (domain); once collected for ever, devices: any (default); "
        "deleted then: yes (account)\n"
    )
    served = "login delay: 1.5 minutes (domain); in use: refuse, wait: 30 seconds"
    assert said == f"{ann} has retention: {kept}{ann} has pop3: {served} (default)\n"
    assert f"retention   {kept}pop3        {served}" in run("account", "show", ann).output
    shown = run("domain", "show", "example.net").output.splitlines()
    assert [line.split()[0] for line in shown] == [
        "domain", "accounts", "quota", "retention", "pop3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "none"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (5400, "1.5 hours"),
        (86400, "1 day"),
        (90 * 86400, "90 days"),
    ],
)
def test_durations_for_people(seconds, text):
    assert lasting(seconds) == text


def test_of_each_value_the_first_counts_that_says_it():
    layers = {"b": MailPolicy(keep=5, devices="all"), "c": DEFAULT_POLICY}
    policy, sources = effective(VALUES, a=MailPolicy(keep=0), **layers)
    assert (policy.keep, policy.devices, policy.wait) == (0, "all", 0)
    assert [sources[name] for name in ("keep", "devices", "wait")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--keep", "30"), "'30' is not 0, or a duration of a day or more, such as 30 days (a day"),
        (("--keep-collected", "1 hour"), "a day is the least"),
        (("--login-delay", "soon"), "'soon' is not a duration (seconds, or such as 5 min, 2 days)"),
        (("--wait=-1",), "'-1' is not a duration"),
        (("--devices", "some"), "'some' is not one of 'any', 'all'"),
        (("--in-use", "share"), "'share' is not one of 'refuse', 'wait', 'take-over'"),
        (("--keep", "0", "--default-serving"), "--default-serving removes what --keep, "),
        ((), "--keep, --keep-collected, --delete-on-collect, --devices, --login-delay, "),
    ],
)
@pytest.mark.parametrize("of", [("domain", "example.net"), ("account", ANN)])
def test_words_that_make_no_sense_change_nothing(ask, ann, of, words, why):
    assert why in ask(of[0], "set", of[1], *words, status=2)["error"]
    assert said_by(ask("account", "show", ann), "default") == DEFAULT


def test_nobody_and_nowhere_are_not_served(ask, office):
    said = ask("account", "set", "nobody@example.net", "--keep", "0", status=1)
    assert said == {"error": "there is no account nobody@example.net here"}
    for words in (("set", "example.org", "--default-serving"), ("show", "example.org")):
        assert ask("domain", *words, status=1) == {"error": "there is no domain example.org here"}


@pytest.mark.parametrize(
    ("text", "days"), [("1year", 365), ("2 years", 730), ("1 month", 30), ("12months", 360)]
)
def test_mail_is_kept_for_months_and_years(run, ask, office, text, days):
    run("domain", "set", "example.net", "--keep", text)
    assert f"{days} days" in run("domain", "show", "example.net").output


def test_what_is_no_unit_is_answered_with_those_that_there_are(run, office):
    said = run("domain", "set", "example.net", "--keep", "1 fortnight", status=2).output
    assert "units are s, min, h, day, week, month (30 days) and year" in " ".join(said.split())
