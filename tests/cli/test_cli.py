"""The `postoffice` command as a whole: its options, its help and its objects."""

from __future__ import annotations

import json
import re

import pytest

from postoffice import __version__


def test_config_and_json_stand_before_or_behind(ask, run, office, tmp_path, monkeypatch):
    (tmp_path / "aside").mkdir()
    monkeypatch.chdir(tmp_path / "aside")
    run("domain", "list", status=2)
    there = ("--config", "../postoffice.yaml")
    words = [("--json", *there, "domain", "list"), ("domain", "list", "--json", *there)]
    before, behind = (json.loads(run(*one).stdout) for one in words)
    assert before == behind
    assert [one["domain"] for one in before["domains"]] == ["example.net"]


def test_what_is_refused_is_an_object_too(ask, office):
    assert ask("domain", "remove", "nowhere.example", status=1) == {
        "error": "there is no domain nowhere.example here"
    }
    assert set(ask("domain", "list", "--config", "nowhere", status=2)) == {"error", "problems"}


def test_the_wrong_command_line(run, office):
    run("nonsense", status=2)
    run("domain", "add", status=2)
    assert "is not an address" in run("account", "show", "joe", status=2).output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("account", "show", "joe"), "is not an address"),
        (("domain", "add"), "Missing argument 'DOMAIN'"),
        (("nonsense",), "No such command"),
        (("account", "passwd", "postmaster@example.net"), "give --password-stdin or --generate"),
        (("init", "x", "--listen", "tcp:25"), "expected SERVICE=ENDPOINT"),
    ],
)
def test_a_wrong_command_line_is_an_object_too(words, why, ask, office):
    (said,) = ask(*words, status=2).values()
    assert why in said


def test_version(run):
    assert run("--version").output == f"postoffice, version {__version__}\n"


def test_what_the_help_says_of_json_is_so(run, ask, office):
    told = {
        ("domain", "add", "example.org"): {"domain", "added"},
        ("domain", "list"): {"domains"},
        ("domain", "set", "example.org", "--quota", "1"): {
            "domain",
            "changed",
            "quota",
            "quota_from",
            "serving",
            "serving_from",
        },
        ("domain", "show", "example.org"): {
            "domain",
            "accounts",
            "same_as",
            "separators",
            "catch_all",
            "uncaught",
            "quota",
            "quota_from",
            "serving",
            "serving_from",
        },
        ("account", "add", "ann@example.org", "--generate"): {
            "address",
            "added",
            "generated_password",
        },
        ("account", "show", "ann@example.org"): {
            "address",
            "maildrop",
            "state",
            "state_note",
            "sending_held",
            "forward",
            "keep_copy",
            "pointing",
            "password",
            "mechanisms",
            "messages",
            "octets",
            "quota",
            "quota_from",
            "serving",
            "serving_from",
            "last_login",
            "devices",
        },
        ("account", "device", "add", "ann@example.org", "phone"): {
            "address",
            "device",
            "added",
            "generated_password",
        },
        ("account", "device", "list", "ann@example.org"): {"address", "devices"},
        ("account", "device", "remove", "ann@example.org", "phone"): {
            "address",
            "device",
            "removed",
        },
        ("report", "logins"): {"days", "plaintext", "tls_1_2", "apop"},
        ("auth-failures",): {"failures"},
        ("auth-failures", "--clear-all"): {"cleared"},
        ("account", "set", "ann@example.org", "--generate-shared-secret"): {
            "address",
            "changed",
            "generated_shared_secret",
        },
        ("account", "passwd", "ann@example.org", "--generate"): {
            "address",
            "changed",
            "generated_password",
        },
        ("account", "list"): {"accounts"},
        ("account", "rename", "ann@example.org", "eve@example.org"): {
            "address",
            "new_address",
            "ended",
        },
        ("account", "rename", "eve@example.org", "ann@example.org"): {
            "address",
            "new_address",
            "ended",
        },
        ("account", "disable", "ann@example.org"): {"address", "state", "changed", "ended"},
        ("account", "enable", "ann@example.org"): {"address", "state", "changed", "ended"},
        ("account", "remove", "ann@example.org"): {
            "address",
            "removed",
            "messages",
            "kept_in",
            "pointing",
        },
        ("domain", "remove", "example.org"): {
            "domain",
            "removed",
            "pointing",
            "dkim_keys",
        },
        ("explain", "rcpt", "x@example.net"): {"address", "size", "steps", "reply", "accepted"},
        ("explain", "login", "x@example.net"): {"address", "steps", "result", "accepted"},
        ("check-config",): {"configuration", "problems", "warnings"},
        ("init", "new"): {"configuration", "hostname", "domains", "postmaster"},
        ("init", "other", "--tls-self-signed"): {
            "configuration",
            "hostname",
            "domains",
            "postmaster",
            "certificate",
            "key",
        },
    }
    for words, names in told.items():
        assert set(ask(*words)) == names
        groups = ("domain", "account", "explain", "report")
        command = words[: 1 + (words[0] in groups) + (words[1:2] == ("device",))]
        help_text = re.sub(r"\s+", " ", run(*command, "--help").output)
        assert names <= set(re.findall(r"\w+", help_text.partition("With --json:")[2])), words
