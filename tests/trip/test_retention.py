"""How long mail is kept, what clients are told of it, and how soon they may come again."""

from __future__ import annotations

import os
import poplib
import smtplib
import time
from dataclasses import replace

import pytest

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import A_DAY, MailPolicy
from postoffice.testing import finish

CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: []
  lmtp: []
  pop3: ["tcp:0:interface=127.0.0.1"]
retention: {keep: 90 days}
"""
TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\nx\r\n"


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened):
    """An office that keeps mail for ninety days."""
    for office in opened(tmp_path_factory.mktemp("retention"), CONFIGURATION):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


@pytest.fixture
def account(office):
    """Makes an account with two messages, and with what it says itself."""

    def account(**said):
        made = office.new_account()
        with office.directory() as directory:
            finish(directory.set_mail_policy(made.address, MailPolicy(**said)))
        with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
            for _ in range(2):
                client.sendmail("a@example.org", [made.address], TEXT)
        return made

    return account


def connected(office) -> poplib.POP3:
    return poplib.POP3("127.0.0.1", office.pop3, timeout=30)


def logged_in(office, account) -> poplib.POP3:
    client = connected(office)
    client.user(account.address)
    client.pass_(account.password)
    return client


def told(client) -> tuple[list[str], list[str] | None]:
    """What CAPA says of EXPIRE and of LOGIN-DELAY."""
    capabilities = client.capa()
    return capabilities["EXPIRE"], capabilities.get("LOGIN-DELAY")


def test_clients_are_told_what_holds_for_all_and_then_what_holds_for_them(office, account):
    careful, quick = account(keep=0, login_delay=0), account(delete_on_collect=True)
    slow = account(login_delay=300, keep_collected=7 * A_DAY)
    client = connected(office)
    assert told(client) == (["0", "USER"], ["300", "USER"])
    client.quit()
    for one, expected in (
        (careful, (["NEVER"], None)),
        (quick, (["0"], None)),
        (slow, (["7"], ["300"])),
    ):
        client = logged_in(office, one)
        assert told(client) == expected
        client.quit()


def test_what_is_collected_goes_at_quit_where_that_is_asked_for(office, account):
    account = account(delete_on_collect=True)
    client = logged_in(office, account)
    client.retr(1)
    client.close()
    client = logged_in(office, account)
    assert client.stat()[0] == 2, "without QUIT nothing was collected"
    client.retr(2)
    client.top(1, 0)
    assert client.quit() == b"+OK 1 deleted, goodbye"
    client = logged_in(office, account)
    assert client.stat()[0] == 1
    client.retr(1)
    client.dele(1)
    client.rset()
    assert client.quit() == b"+OK 1 deleted, goodbye"


def test_what_one_device_has_waits_for_the_others(office, account):
    account = account(delete_on_collect=True, devices="all")
    passwords = {name: AppPasswordToken.generate() for name in ("phone", "laptop")}
    with office.directory() as directory:
        for name, password in passwords.items():
            device = AppPassword(name, password.id, password.digest)
            assert finish(directory.add_app_password(account.address, device))

    def collects(name, *numbers):
        client = logged_in(office, replace(account, password=passwords[name].text))
        for number in numbers:
            client.retr(number)
        return client.quit()

    assert collects("phone", 1, 2) == b"+OK 0 deleted, goodbye"
    assert collects("phone", 1, 2) == b"+OK 0 deleted, goodbye"
    assert collects("laptop", 2) == b"+OK 1 deleted, goodbye"
    assert collects("laptop", 1) == b"+OK 1 deleted, goodbye"


def test_the_next_login_comes_when_its_time_has_come(office, account):
    account = account(login_delay=3600)
    logged_in(office, account).quit()
    lock = office.folder / "state/maildrops/example.net" / account.address.partition("@")[0]
    lock /= "postoffice.lock"
    before = lock.stat().st_mtime
    for _ in range(2):
        with pytest.raises(poplib.error_proto, match=r"-ERR \[LOGIN-DELAY\]"):
            logged_in(office, account)
    assert lock.stat().st_mtime == before, "who was refused has not logged in"
    an_hour_ago = time.time() - 3601
    os.utime(lock, (an_hour_ago, an_hour_ago))
    logged_in(office, account).quit()


def test_a_dry_run_shows_what_is_removed(office, account, command):
    account = account(keep_collected=7 * A_DAY)
    client = logged_in(office, account)
    client.retr(1)
    client.quit()
    folder = office.folder / "state/maildrops/example.net" / account.address.partition("@")[0]
    for message in (folder / "new").iterdir():
        old = time.time() - 91 * A_DAY
        os.utime(message, (old, old))
        stamp, _, rest = message.name.partition(".")
        message.rename(folder / "new" / f"{int(stamp) - 91 * A_DAY}.{rest}")

    config = str(office.folder / "postoffice.yaml")

    def expire(*words):
        return command("maildrop", "expire", account.address, *words, "--config", config)

    assert expire("--dry-run").stdout.endswith("2 messages would be removed\n")
    client = logged_in(office, account)
    assert client.stat()[0] == 2
    assert "a POP3 session is open" in expire().stdout
    client.quit()
    assert expire().stdout.endswith("2 messages removed\n")
    assert expire().stdout == "nothing is due\n"
    client = logged_in(office, account)
    assert client.stat()[0] == 0
    client.quit()
