"""The `postoffice` command, in this process; tests/trip has it beside the daemon."""

from __future__ import annotations

import json
import os
import re

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from postoffice import __version__
from postoffice.accounts.passwords import verify
from postoffice.accounts.sqlite import SQLiteDirectory
from postoffice.cli import account_removal
from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account, Address, Quota
from postoffice.model.app_password import AppPassword
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropLocked
from postoffice.model.mail_policy import MailPolicy
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from twisted.plugins.postoffice_makers import SQLiteMaker

#: What of a quota is told where nobody has said anything.
DEFAULT = {
    "quota": {"octets": 1 << 30, "messages": 0, "over": "reject"},
    "quota_from": {"octets": "default", "messages": "default", "over": "default"},
}


def opened(office) -> MaildirStore:
    """The store, as the daemon has it."""
    folder = str(office / "state" / "maildrops")
    store = MaildirStore(folder, ImmediateExecutor(), hostname="x", clock=Clock())
    finish(store.start())
    return store


def post(office, name: str, count: int = 1) -> None:
    """Put mail into a maildrop, as the daemon does."""
    store = opened(office)
    recipient = Recipient(Address.parse(name), Account(name, name))
    for _ in range(count):
        delivery = finish(store.begin(Envelope("1", Client(), recipients=[recipient])))
        finish(delivery.write(b"Subject: x\r\n\r\nx\r\n"))
        finish(delivery.commit())
    finish(store.stop())


def secret_of(office, name: str) -> str | None:
    directory = SQLiteDirectory(str(office / "state" / "accounts.db"), ImmediateExecutor())
    finish(directory.start())
    try:
        return finish(directory.find(name)).secret
    finally:
        finish(directory.stop())


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


# -- what all commands share ------------------------------------------------------------


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


def test_no_directory_can_be_written_to(run, office, monkeypatch):
    @implementer(IAccountDirectory)
    class ReadOnly:
        async def start(self):
            pass

        async def stop(self):
            pass

    monkeypatch.setattr(SQLiteMaker, "make", lambda *args: ReadOnly())
    assert "no directory under accounts: (sqlite) can be written to" in (
        run("domain", "list", status=1).stderr
    )


def test_a_database_that_is_broken(ask, office):
    (office / "state" / "accounts.db").write_bytes(b"nonsense" * 1000)
    assert "accounts.db cannot be used" in ask("domain", "list", status=1)["error"]


# -- domains ----------------------------------------------------------------------------


def test_domains_come_and_go(run, ask, office):
    assert ask("domain", "add", "Example.ORG") == {"domain": "example.org", "added": True}
    run("domain", "add", "example.org", status=1)
    assert "example.org" in run("domain", "list").output
    assert ask("domain", "remove", "example.org") == {"domain": "example.org", "removed": True}
    run("domain", "remove", "example.org", status=1)


def test_a_domain_with_accounts_stays(run, office):
    said = run("domain", "remove", "example.net", status=1)
    assert "example.net has 1 account; remove those first" in said.stderr


# -- accounts ---------------------------------------------------------------------------


def test_a_password_is_made_up_and_shown_once(run, ask, office):
    added = ask("account", "add", "Ann@Example.net", "--generate")
    assert set(added) == {"address", "added", "generated_password"}
    assert added["address"] == "ann@example.net"
    assert verify(secret_of(office, "ann@example.net"), added["generated_password"].encode())
    said = run("account", "passwd", "ann@example.net", "--generate").output
    assert added["generated_password"] not in said
    password = re.search(r"^password: (\S+)$", said, re.MULTILINE)[1]
    assert verify(secret_of(office, "ann@example.net"), password.encode())


@pytest.mark.parametrize("text", ["a pass wörd", "a pass wörd\n", "a pass wörd\r\n"])
def test_a_password_comes_from_a_pipe(text, run, ask, office):
    added = ask("account", "add", "ann@example.net", "--password-stdin", text=text)
    assert added == {"address": "ann@example.net", "added": True}
    assert verify(secret_of(office, "ann@example.net"), "a pass wörd".encode())


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "NUL\0", "x" * 201])
def test_a_password_that_is_none(text, run, office):
    run("account", "add", "ann@example.net", "--password-stdin", text=text, status=2)
    run("account", "show", "ann@example.net", status=1)


def test_a_password_is_asked_for_twice_on_a_terminal(run, office, monkeypatch):
    monkeypatch.setattr("postoffice.cli.new_password.on_a_terminal", lambda: True)
    run("account", "passwd", "postmaster@example.net", text="one\nother\nthe same\nthe same\n")
    assert verify(secret_of(office, "postmaster@example.net"), b"the same")


def test_no_terminal_and_no_option(run, office):
    said = run("account", "passwd", "postmaster@example.net", status=2).output
    assert "give --password-stdin or --generate" in said
    both = ("--generate", "--password-stdin")
    run("account", "passwd", "postmaster@example.net", *both, status=2)


def test_an_account_is_added_once_and_in_a_domain_of_ours(run, office):
    run("account", "add", "ann@example.net", "--generate")
    assert (
        "is here already" in run("account", "add", "ANN@example.net", "--generate", status=1).stderr
    )
    elsewhere = run("account", "add", "ann@example.org", "--generate", status=1).stderr
    assert "example.org is not ours; postoffice domain add example.org" in elsewhere


def test_accounts_are_listed(run, ask, office):
    run("domain", "add", "example.org")
    run("account", "add", "ann@example.org", "--generate")
    assert ask("account", "list", "example.org") == {
        "accounts": [
            {
                "address": "ann@example.org",
                "state": "enabled",
                "password": True,
                "last_login": None,
                "messages": 0,
                "octets": 0,
                "percent": 0,
                **DEFAULT,
            }
        ]
    }
    assert len(ask("account", "list")["accounts"]) == 2
    run("account", "list", "nowhere.example", status=1)
    assert run("account", "list").output.splitlines() == [
        "ACCOUNT                 STATE    PASSWORD  LAST LOGIN  SERVICE  USED          QUOTA  "
        "OVER       FROM",
        "ann@example.org         enabled  yes       never                0 octets, 0%  1 GiB  "
        "reject     default",
        "postmaster@example.net  enabled  no        never                0 octets, 0%  1 GiB  "
        "make-room  postmaster",
    ]


def test_an_account_is_shown_with_its_mail(run, ask, office):
    assert ask("account", "add", "ann@example.net", "--password-stdin", text="x")
    post(office, "ann@example.net", 2)
    shown = ask("account", "show", "ann@example.net")
    assert set(shown.pop("serving_from").values()) == {"default"}
    assert shown.pop("serving")["keep"] == 0
    assert (shown.pop("last_login"), shown.pop("devices")) == (None, [])
    assert shown == {
        "address": "ann@example.net",
        "maildrop": "ann@example.net",
        "state": "enabled",
        "password": True,
        "mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        "messages": 2,
        "octets": 34,
        **DEFAULT,
    }
    assert "2 messages, 34 octets" in run("account", "show", "ann@example.net").output
    run("account", "show", "nobody@example.net", status=1)
    run("account", "passwd", "nobody@example.net", "--generate", status=1)


@pytest.fixture
def ann(run, office):
    run("account", "add", "ann@example.net", "--generate")
    return "ann@example.net"


def test_an_account_without_mail_goes(run, ask, ann):
    assert ask("account", "remove", ann) == {
        "address": ann,
        "removed": True,
        "messages": 0,
        "kept_in": [],
    }
    run("account", "remove", ann, status=1)


def test_an_account_with_mail_goes_only_if_it_is_said_what_becomes_of_it(run, ann, office):
    post(office, ann, 3)
    said = run("account", "remove", ann, status=1).stderr
    assert "its maildrop holds 3 messages: --keep-mail" in said
    run("account", "remove", ann, "--keep-mail", "--delete-mail", status=2)
    assert "3 messages" in run("account", "show", ann).output


def test_mail_is_deleted(run, ask, ann, office):
    post(office, ann, 3)
    assert ask("account", "remove", ann, "--delete-mail")["messages"] == 3
    assert not [p for p in (office / "state" / "maildrops").rglob("*,S=*") if p.is_file()]
    run("account", "add", ann, "--generate")
    assert "0 messages" in run("account", "show", ann).output


def test_mail_is_set_aside_and_a_new_account_starts_empty(run, ask, ann, office):
    post(office, ann, 3)
    (place,) = ask("account", "remove", ann, "--keep-mail")["kept_in"]
    assert place.startswith(f"{office}/state/maildrops/")
    run("account", "add", ann, "--generate")
    assert "0 messages" in run("account", "show", ann).output


def test_mail_that_an_earlier_account_left_is_not_shown_to_a_new_one(run, ann, office):
    run("account", "remove", ann)
    post(office, ann)
    said = run("account", "add", ann, "--generate", status=1).stderr
    assert "holds 1 message of an earlier account" in said
    run("account", "add", ann, "--generate", "--adopt-mail")
    assert "1 message," in run("account", "show", ann).output


def test_an_account_that_collects_its_mail_stays(run, ann, office):
    post(office, ann)
    store = opened(office)
    maildrop = store.maildrop(ann)
    finish(maildrop.open())
    assert (
        "collects its mail just now"
        in run("account", "remove", ann, "--keep-mail", status=1).stderr
    )
    maildrop.release()
    finish(store.stop())
    run("account", "remove", ann, "--keep-mail")


def test_the_postmasters_account_stays(run, office):
    said = run("account", "remove", "postmaster@example.net", status=1).stderr
    assert "gets the mail to postmaster" in said


class Steps:
    """A store and a register that note what is done, where mail comes in at a given step."""

    def __init__(self, mail: list[int]) -> None:
        self.mail = mail
        self.done: list[str] = []
        self.store = self.register = self

    async def count(self, name):
        return self.mail.pop(0), 0

    async def discard(self, name, keep):
        self.done.append(f"discard {keep}")
        return f"place {len(self.done)}"

    async def remove(self, name):
        self.done.append("remove")

    async def add(self, name, secret, scram, maildrop):
        self.done.append(f"add {secret} {scram} in {maildrop}")

    async def set_shared(self, name, shared):
        self.done.append(f"share {shared}")

    async def account_quota(self, name):
        return Quota(octets=7)

    async def set_quota(self, name, quota):
        self.done.append(f"quota {quota.octets}")

    async def account_serving(self, name):
        return MailPolicy(keep=9)

    async def set_state(self, name, state):
        self.done.append(f"state {state}")

    async def devices(self, name):
        return [AppPassword("phone", "acdefg", "digest")]

    async def add_device(self, name, device):
        self.done.append(f"device {device.name}")

    async def set_serving(self, name, serving):
        self.done.append(f"keep {serving.keep}")


ANN = Account("ann@example.net", "anne@example.net", "hash", "keys", "shared")


def test_mail_goes_before_the_account_so_that_a_crash_between_loses_nothing():
    steps = Steps([2, 0])
    assert finish(account_removal._remove(steps, ANN, False, True)) == (2, ["place 1"])
    assert steps.done == ["discard True", "remove"]


def test_mail_that_comes_while_it_is_removed_is_treated_alike():
    steps = Steps([2, 1])
    assert finish(account_removal._remove(steps, ANN, False, True)) == (3, ["place 1", "place 3"])
    assert steps.done == ["discard True", "remove", "discard True"]


def test_mail_that_comes_while_it_is_removed_brings_the_account_back():
    steps = Steps([0, 1])
    with pytest.raises(account_removal.Refused, match="mail has just come"):
        finish(account_removal._remove(steps, ANN, False, False))
    assert steps.done == [
        "remove",
        "add hash keys in anne@example.net",
        "share shared",
        "quota 7",
        "keep 9",
        "state enabled",
        "device phone",
    ]


def test_a_maildrop_that_is_held_keeps_its_account():
    steps = Steps([2, 0])

    async def discard(name, keep):
        raise MaildropLocked

    steps.discard = discard
    with pytest.raises(account_removal.Refused):
        finish(account_removal._remove(steps, ANN, True, False))
    assert steps.done == []


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
        ("account", "enable", "ann@example.org"): {"address", "state", "changed"},
        ("account", "remove", "ann@example.org"): {"address", "removed", "messages", "kept_in"},
        ("domain", "remove", "example.org"): {"domain", "removed"},
        ("explain", "rcpt", "x@example.net"): {"address", "size", "steps", "reply", "accepted"},
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
    assert re.search("is no folder|cannot be made", problem["text"])


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
