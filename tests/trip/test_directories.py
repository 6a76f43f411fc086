"""Accounts in files: the daemon serves them, and reads what changes while it runs."""

from __future__ import annotations

import poplib
import smtplib

import pytest

TEA = "grüner Tee"
HASH = "{SSHA}g0h8M32nW0iHEjS+/tCmKGtkwa+hshiH"
ANN, BOB = "ann@example.net", "bob@example.org"
FILES = "accounts: [{kind: yaml, path: accounts.yaml}, {kind: passwd-file, path: passwd}]\n"
ACCOUNTS = f"""\
domains: {{example.net: }}
accounts:
  postmaster@example.net:
  {ANN}: {{password: "{HASH}"}}
aliases:
  info@example.net: [{ANN}, {BOB}]
"""


@pytest.fixture
def state(tmp_path, written):
    written(FILES)
    state = tmp_path / "state"
    state.mkdir()
    (state / "accounts.yaml").write_text(ACCOUNTS)
    (state / "passwd").write_text(f"{BOB}:{{PLAIN}}bob's word::::::allow_nets=127.0.0.0/8\n")
    return state


def replace(path, text):
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def collected(office, user, password):
    client = poplib.POP3("127.0.0.1", office.pop3)
    client.encoding = "utf-8"
    client.user(user)
    client.pass_(password)
    count, _ = client.stat()
    client.quit()
    return count


def test_accounts_and_aliases_in_files_get_mail_and_collect_it(start, state):
    office = start().open()
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.com", ["info@example.net"], b"Subject: x\r\n\r\nfor both\r\n")
    assert collected(office, ANN, TEA) == collected(office, BOB, "bob's word") == 1
    replace(state / "passwd", f"{BOB}:{{PLAIN}}a new word\nhalf a line\n")
    assert collected(office, BOB, "bob's word") == 1
    office.wait_for("passwd:2: there is no colon: is it half a line")
    replace(state / "passwd", f"{BOB}:{{PLAIN}}a new word\n")
    assert collected(office, BOB, "a new word") == 1
    with pytest.raises(poplib.error_proto):
        collected(office, BOB, "bob's word")


def test_check_config_tells_of_mistakes_in_the_files(command, state):
    assert "all is well" in command("check-config").stdout
    (state / "accounts.yaml").write_text(ACCOUNTS + "alias: {}\n")
    done = command("check-config")
    assert done.returncode == 1
    assert "accounts.yaml:7: alias: unknown key; did you mean aliases?" in done.stderr
