"""Domains and accounts: added, listed, shown and removed, with their mail."""

from __future__ import annotations

import re
import sqlite3

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from postoffice.accounts.passwords import verify
from postoffice.accounts.sqlite_directory import SQLiteDirectory
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
    run("dkim", "add", "example.org")
    assert "example.org" in run("domain", "list").output
    assert ask("domain", "remove", "example.org") == {
        "domain": "example.org",
        "removed": True,
        "pointing": [],
        "dkim_keys": str(office / "state" / "dkim" / "example.org"),
    }
    run("domain", "remove", "example.org", status=1)


def test_a_domain_with_accounts_stays(run, office):
    said = run("domain", "remove", "example.net", status=1)
    assert "example.net still has accounts: 1; remove those first" in said.stderr


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


SHA = "{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y="  # "grüner Tee"
SCRAM = (
    "{SCRAM-SHA-256}4096,B5TUCtEIuSYOuxXd7L/EtA==,qjP1wFT2i+MMqmQrXHiv7x8ZkQsxkME9P5PIgK56IMs="
    ",ZC4q32gSq3qe2NgIbYwZD7o+R3RJCoh0npoUI7xmyiI="
)


@pytest.mark.parametrize(
    ("text", "mechanisms"),
    [
        (SHA, ["PLAIN", "LOGIN"]),
        (SCRAM + "\r\n", ["SCRAM-SHA-256", "PLAIN", "LOGIN"]),
        ("{PLAIN}grüner Tee\n", ["SCRAM-SHA-256", "PLAIN", "LOGIN"]),
    ],
)
def test_an_account_keeps_the_password_that_it_has_elsewhere(ask, office, text, mechanisms):
    name = "ann@example.net"
    assert ask("account", "add", name, "--hash-stdin", text=text) == {
        "address": name,
        "added": True,
    }
    assert ask("account", "show", name)["mechanisms"] == mechanisms
    assert ask("account", "passwd", name, "--generate")["changed"]
    assert ask("account", "passwd", name, "--hash-stdin", text=text)["changed"]
    assert ask("account", "show", name)["mechanisms"] == mechanisms
    database = sqlite3.connect(office / "state" / "accounts.db")
    ((secret,),) = database.execute("SELECT secret FROM account WHERE address = ?", (name,))
    database.close()
    assert verify(secret, "grüner Tee".encode())
    assert "{PLAIN}" not in secret


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no {SCHEME}"),
        ("secret word\n", "no {SCHEME}"),
        ("{SHA}x", "not base64"),
        ("$6$rounds=999999999$abcdefgh$" + "a" * 86, "rounds 999999999 is not between"),
        ("{PLAIN.hex}09", "control characters"),
        (b"{PLAIN}\xff", "not UTF-8"),
    ],
)
def test_a_hash_that_could_log_nobody_in_is_refused(run, office, text, why):
    add = ("account", "add", "ann@example.net", "--hash-stdin")
    assert why in run(*add, text=text, status=2).stderr
    assert "exclude one another" in run(*add, "--generate", text=SHA, status=2).stderr


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
                "scheme": "ARGON2ID",
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
        "state_note": {"by": "", "when": None, "why": ""},
        "sending_held": None,
        "password": True,
        "mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        "messages": 2,
        "octets": 34,
        "forward": [],
        "keep_copy": True,
        "pointing": [],
        **DEFAULT,
    }
    assert "2 messages, 34 octets" in run("account", "show", "ann@example.net").output
    run("account", "show", "nobody@example.net", status=1)
    run("account", "passwd", "nobody@example.net", "--generate", status=1)


@pytest.fixture
def ann(furnish):
    furnish("account add ann@example.net --generate")
    return "ann@example.net"


def test_an_account_without_mail_goes(run, ask, ann):
    assert ask("account", "remove", ann) == {
        "address": ann,
        "removed": True,
        "messages": 0,
        "kept_in": [],
        "pointing": [],
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
        "has an open POP3 session" in run("account", "remove", ann, "--keep-mail", status=1).stderr
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

    async def account_mail_policy(self, name):
        return MailPolicy(keep=9)

    async def set_state(self, name, state, note):
        self.done.append(f"state {state}")

    async def app_passwords(self, name):
        return [AppPassword("phone", "acdefg", "digest")]

    async def add_app_password(self, name, device):
        self.done.append(f"device {device.name}")

    async def set_mail_policy(self, name, serving):
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
