"""The `postoffice` command beside the running daemon."""

from __future__ import annotations

import json
import poplib
import re
import smtplib

import pytest


@pytest.fixture
def running(start, written):
    written()
    return start().open()


@pytest.fixture
def ask(command):
    def ask(*words: str, status: int = 0, **more) -> dict:
        done = command("--json", *words, **more)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    return ask


def post(office, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.sendmail("a@example.org", [recipient], b"Subject: x\r\n\r\nx\r\n")


def refusal(office, recipient: str) -> tuple[int, bytes]:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        post(office, recipient)
    return caught.value.recipients[recipient]


def login(office, name: str, password: str) -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    client.user(name)
    client.pass_(password)
    return client


def uidls(client: poplib.POP3) -> list[bytes]:
    found = [line.split()[1] for line in client.uidl()[1]]
    client.quit()
    return found


def test_what_it_does_works_at_once(running, ask):
    ann = "ann@example.org"
    assert refusal(running, ann)[0] == 550
    ask("domain", "add", "example.org")
    assert b"5.1.1" in refusal(running, ann)[1]
    ask("account", "add", ann, "--password-stdin", text="first\n")
    post(running, ann)
    assert ask("account", "show", ann)["messages"] == 1
    before = uidls(login(running, ann, "first"))

    ask("account", "passwd", ann, "--password-stdin", text="second\n")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        login(running, ann, "first")
    held = login(running, ann, "second")

    assert (
        "has an open POP3 session"
        in ask("account", "remove", ann, "--keep-mail", status=1)["error"]
    )
    held.quit()
    assert "1 message" in ask("account", "remove", ann, status=1)["error"]
    (place,) = ask("account", "remove", ann, "--keep-mail")["kept_in"]
    assert refusal(running, ann)[0] == 550
    with pytest.raises(poplib.error_proto, match="AUTH"):
        login(running, ann, "second")

    ask("account", "add", ann, "--password-stdin", text="third\n")
    assert uidls(login(running, ann, "third")) == []
    post(running, ann)
    after = uidls(login(running, ann, "third"))
    assert len(after) == 1
    assert not set(after) & set(before)
    assert place.startswith(str(running.folder / "state" / "maildrops"))

    ask("account", "remove", ann, "--delete-mail")
    ask("domain", "remove", "example.org")
    assert b"5.7.1" in refusal(running, ann)[1]
    running.check()


def test_init_starts_as_it_is(command, start, tmp_path):
    services = ("smtp", "submission", "lmtp", "pop3")
    listen = [f"--listen={service}=tcp:0:interface=127.0.0.1" for service in services]
    made = command("init", "new", "--hostname=m.example.net", "--domain=example.net", *listen)
    assert made.returncode == 0, made.stderr
    office = start(cwd=tmp_path / "new").open()
    post(office, "postmaster@example.net")
    post(office, "PostMaster@EXAMPLE.net")
    config = "--config=new/postoffice.yaml"
    shown = command("account", "show", "postmaster@example.net", "--json", config)
    assert json.loads(shown.stdout)["messages"] == 2
    assert "there is no account" not in office.said
    office.check()


def test_passwords_stand_in_no_log_and_no_list(running, ask, command):
    ask("domain", "add", "example.org")
    added = ask("account", "add", "joe@example.org", "--generate")
    password = added["generated_password"]
    login(running, "joe@example.org", password).quit()
    shown = [command(*words.split()) for words in ("account list", "account show joe@example.org")]
    assert all(password not in one.stdout + one.stderr for one in shown)
    assert all("$argon2" not in one.stdout + one.stderr for one in shown)
    running.check()
    assert password not in running.said
    assert not re.search(r"\$argon2", running.said)


def test_maildrops_are_looked_after_while_it_runs(running, ask):
    ann = "ann@example.org"
    ask("domain", "add", "example.org")
    ask("account", "add", ann, "--password-stdin", text="first\n")
    for _ in range(3):
        post(running, ann)
    client = login(running, ann, "first")
    before = client.uidl()[1]
    client.dele(2)
    assert (
        "a POP3 session holds"
        in ask("maildrop", "purge", ann, "--larger-than", "0", status=1)["error"]
    )
    client.quit()

    (one,) = ask("maildrop", "list")["maildrops"]
    assert (one["account"], one["messages"], one["vault_messages"]) == (ann, 2, 1)
    (session,) = ask("maildrop", "undelete", ann)["sessions"]
    running.wait_for(f"{session['session']}.*{ann}")
    assert ask("maildrop", "undelete", ann, "--session", session["session"])["messages"] == 1
    client = login(running, ann, "first")
    assert client.uidl()[1] == before
    client.quit()

    assert ask("maildrop", "purge", ann, "--larger-than", "0")["messages"] == 3
    post(running, ann)
    assert len(uidls(login(running, ann, "first"))) == 1
    assert ask("maildrop", "verify") == {"maildrops": 1, "findings": []}
