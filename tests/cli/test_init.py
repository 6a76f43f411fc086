"""`postoffice init`, and what `check-config` finds."""

from __future__ import annotations

import os
import re

import pytest

# -- init, check-config -----------------------------------------------------------------


def test_init_makes_a_post_office_that_is_right_as_it_is(run, ask, tmp_path):
    made = ask("init", "new", "--hostname", "mail.example.net", "--domain", "example.net")
    assert made == {
        "configuration": "new/postoffice.yaml",
        "hostname": "mail.example.net",
        "domains": ["example.net"],
        "postmaster": "postmaster@example.net",
    }
    there = "--config=new/postoffice.yaml"
    assert ask("check-config", there) == {
        "configuration": "new/postoffice.yaml",
        "problems": [],
        "warnings": [],
    }
    (account,) = ask("account", "list", there)["accounts"]
    assert (account["address"], account["password"]) == ("postmaster@example.net", False)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "postoffice.yaml",
        "state",
    ]


def test_init_prints_what_to_do_next(run):
    said = run("init", "x", "--hostname", "m.example.net", "--domain", "example.net").output
    assert "cd x\npostoffice account passwd postmaster@example.net\n" in said
    here = run("init", ".", "--hostname", "mail.example.net", "--domain", "example.net").output
    assert "cd " not in here
    assert "postoffice account passwd postmaster@example.net\n" in here


def test_init_takes_domains_and_endpoints(ask, run):
    run(
        *("init", ".", "--hostname", "m.example.net"),
        *("--domain", "Example.NET", "--domain", "bücher.example"),
        *("--listen", "smtp=tcp6:25", "--listen", "smtp=unix:/run/smtp:mode=600"),
    )
    domains = ask("domain", "list")["domains"]
    assert [(one["domain"], one["accounts"]) for one in domains] == [
        ("example.net", 1),
        ("xn--bcher-kva.example", 0),
    ]
    said = run("check-config").output
    assert "smtp        tcp6:25, unix:/run/smtp:mode=600\n" in said
    assert "pop3        tcp:2110:interface=127.0.0.1\n" in said


def test_init_overwrites_nothing(run, office):
    before = (office / "postoffice.yaml").read_text()
    run("init", ".", "--domain", "other.example", status=1)
    assert (office / "postoffice.yaml").read_text() == before
    assert "other.example" not in run("domain", "list").output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("--listen", "imap=tcp:143"),
            "expected SERVICE=ENDPOINT, SERVICE of smtp, submission, submissions, lmtp, pop3",
        ),
        (("--listen", "tcp:25"), "expected SERVICE=ENDPOINT"),
        (("--listen", "smtp=nonsense:25"), "listeners.smtp[0]: found 'nonsense:25'"),
        (("--hostname", "a b"), "'a b' is not a domain"),
        (("--domain", "[192.0.2.1]"), "is an address literal, not a domain"),
    ],
)
def test_init_with_words_that_make_no_sense_makes_nothing(words, why, run, tmp_path):
    assert why in re.sub(r"\s+", " ", run("init", "x", *words, status=2).output)
    assert list(tmp_path.iterdir()) == []


def test_check_config_tells_all_problems(run, ask, tmp_path):
    (tmp_path / "postoffice.yaml").write_text("hostname: m.example.net\nqouta: 1\n")
    problems = ask("check-config", status=2)["problems"]
    assert [(one["file"], one["line"], one["key"]) for one in problems] == [
        ("postoffice.yaml", 0, "postmaster"),
        ("postoffice.yaml", 2, "qouta"),
    ]
    said = run("check-config", status=2)
    assert said.stdout == ""
    assert [line.split(":")[0] for line in said.stderr.splitlines()] == ["postoffice.yaml"] * 2


def test_check_config_touches_nothing(run, office):
    (office / "postoffice.yaml").write_text(
        (office / "postoffice.yaml").read_text().replace("state: state", "state: elsewhere")
    )
    run("check-config")
    assert not (office / "elsewhere").exists()


# -- init for a user of its own -----------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_init_writes_for_its_owner_alone_whatever_the_umask(run, tmp_path, umask):
    before = os.umask(umask)
    try:
        run("init", "new", "--hostname", "mail.example.net")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "postoffice.yaml").stat().st_mode & 0o777 == 0o600


def test_init_makes_the_state_where_it_is_told(run, ask, tmp_path):
    run("init", "new", "--hostname", "mail.example.net", "--state", "var/lib/office")
    there = "--config=new/postoffice.yaml"
    assert f"state       {tmp_path}/var/lib/office\n" in run("check-config", there).output
    assert (tmp_path / "var" / "lib" / "office" / "accounts.db").exists()
    assert not (tmp_path / "new" / "state").exists()


def test_init_by_force_writes_the_configuration_anew_and_nothing_else(run, ask, office):
    run("init", ".", "--hostname", "mail.example.net", "--tls-self-signed", "--force")
    old, key = (office / "postoffice.yaml.old").read_text(), (office / "tls/key.pem").read_bytes()
    assert "tls/key.pem" not in old
    assert "tls/key.pem" in (office / "postoffice.yaml").read_text()
    run("account", "add", "ann@example.net", "--generate")
    again = ("--domain", "example.net", "--domain", "example.com", "--tls-self-signed", "--force")
    run("init", ".", "--hostname", "mail.example.net", *again)
    assert (office / "tls/key.pem").read_bytes() == key
    assert [one["domain"] for one in ask("domain", "list")["domains"]] == [
        "example.com",
        "example.net",
        "mail.example.net",
    ]
    assert "ann@example.net" in run("account", "list").output
    assert ask("check-config")["problems"] == []


def test_init_says_how_to_write_it_anew(run, office):
    assert "with --force" in run("init", ".", "--domain", "example.net", status=1).stderr


def test_init_with_a_user_that_does_not_exist_makes_nothing(run, tmp_path):
    said = run("init", "x", "--user", "nobody-of-this-name", status=2).output
    assert "no user of that name" in re.sub(r"\s+", " ", said)
    assert list(tmp_path.iterdir()) == []


def test_init_does_not_write_through_a_link_in_place_of_its_draft(run, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "new" / "postoffice.yaml.new").symlink_to(tmp_path / "victim")
    run("init", "new", "--hostname", "mail.example.net")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "new" / "postoffice.yaml").is_symlink()


# -- check-config finds what the start finds ------------------------------------------------


def changed(office, old, new):
    text = (office / "postoffice.yaml").read_text()
    assert old in text
    (office / "postoffice.yaml").write_text(text.replace(old, new))


def test_check_config_knows_a_postmaster_of_no_domain(ask, office):
    changed(office, "postmaster@example.net", "chief@exmaple.net")
    (warning,) = ask("check-config")["warnings"]
    assert warning.startswith("there is no domain exmaple.net here")


def test_check_config_knows_a_postmaster_without_an_account(ask, office):
    changed(office, "postmaster@example.net", "chief@example.net")
    (warning,) = ask("check-config")["warnings"]
    assert "there is no account chief@example.net" in warning
    assert "postoffice account add chief@example.net" in warning


def test_check_config_knows_a_port_that_is_there_twice(ask, office):
    changed(office, "tcp:2587:interface=127.0.0.1", "tcp6:2525")
    (problem,) = ask("check-config", status=2)["problems"]
    assert problem["key"] == "listeners.submission[0]"
    assert "smtp listens there already" in problem["text"]


@pytest.mark.parametrize("state", ["a-file", "a-file/below", "postoffice.yaml/a/b"])
def test_check_config_knows_a_state_that_cannot_be_made(ask, office, state):
    (office / "a-file").touch()
    changed(office, "state: state", f"state: {state}")
    (problem,) = ask("check-config", status=2)["problems"]
    assert problem["key"] == "state"
    assert re.search("is not a folder|cannot be made", problem["text"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_check_config_looks_with_the_eyes_of_the_user(ask, run, office):
    run("init", ".", "--hostname", "mail.example.net", "--tls-self-signed", "--force")
    changed(office, "# user: ", "user: nobody  # ")
    (problem,) = ask("check-config", status=2)["problems"]
    assert problem["key"] == "state"
    assert "nobody" in problem["text"]


def test_check_config_knows_the_key_of_another_certificate(ask, run, office):
    run("init", ".", "--hostname", "mail.example.net", "--tls-self-signed", "--force")
    run("init", "other", "--hostname", "mail.example.net", "--tls-self-signed")
    changed(office, "tls/key.pem", "other/tls/key.pem")
    (problem,) = ask("check-config", status=2)["problems"]
    assert re.search("the key .*key.pem does not belong to the certificate", problem["text"])


def test_check_config_tells_what_is_odd_about_outbound(run, ask, office):
    (office / "provider.secret").write_text("secret\n")
    (office / "provider.secret").chmod(0o644)
    with (office / "postoffice.yaml").open("a") as file:
        file.write(
            "outbound:\n"
            "  routes: [{to: [a.example], via: p}]\n"
            "  smarthosts: {p: {host: h.example, login: u, password_file: provider.secret}}\n"
        )
    told = [one for one in ask("check-config")["warnings"] if "outbound" in one]
    assert len(told) == 2
    assert "outbound.routes: mail that fits no route is refused; end with {via: direct}" in told[0]
    assert "provider.secret can be read by every user of this machine" in told[1]
    assert "outbound    1 route\n" in run("check-config").output
