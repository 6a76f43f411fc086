"""Logins that checkers of others judge: the one in the manual, and one of Twisted's."""

from __future__ import annotations

import poplib
import shutil
import smtplib
import subprocess
import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "token_checker.py"
TOKEN, STALE, STRANGERS = "a.good-token_", "a.stale-token", "a.token.of.nobody"
JOE, ANN = "joe@example.net", "ann@example.net"
PLACE = '["tcp:0:interface=127.0.0.1"]'
WAYS = "[OAUTHBEARER, XOAUTH2, PLAIN]"
LISTENER = f'[{{endpoint: "tcp:0:interface=127.0.0.1", mechanisms: {WAYS}}}]'


@pytest.fixture
def office(start, written, with_path, tmp_path):
    """An office that takes tokens, and passwords of Twisted's file; joe has no other password."""
    plugins = tmp_path / "path" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(EXAMPLE, plugins)
    (tmp_path / "passwd").write_text(f"{JOE}:of the file\neve@example.net:x\n")
    lines = ((TOKEN, JOE, 60), (STALE, JOE, -60), (STRANGERS, "eve@example.net", 60))
    (tmp_path / "tokens").write_text(
        "".join(
            f"{sha256(token.encode()).hexdigest()} {account} {time.time() + left}\n"
            for token, account, left in lines
        )
    )
    written(
        f'checkers: ["file:{tmp_path}/passwd", "tokens:{tmp_path}/tokens"]\n',
        (f"  pop3: {PLACE}", f"  pop3: {LISTENER}"),
        (f"  submission: {PLACE}", f"  submission: {LISTENER}"),
    )
    office = start(env=with_path(tmp_path / "path")).open()
    for address in (JOE, ANN):
        office.account(address, office.PASSWORD)
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("a@example.org", [JOE], b"Subject: x\r\n\r\nfor the bearer\r\n")
    return office


def by_token(user: str, token: str, mechanism: str) -> bytes:
    if mechanism == "XOAUTH2":
        return b64encode(f"user={user}\1auth=Bearer {token}\1\1".encode())
    named = f"a={user}" if user else ""
    return b64encode(f"n,{named},\1auth=Bearer {token}\1\1".encode())


def refused(client: poplib.POP3, *lines: bytes) -> bool:
    for line in lines:
        client._putline(line)
        said, _ = client._getline()
    return said == b"-ERR [AUTH] wrong name or password"


def test_tokens_and_the_passwords_of_others(office, tmp_path):
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    assert client.capa()["SASL"] == ["OAUTHBEARER", "XOAUTH2", "PLAIN"]
    for mechanism, user, token in (
        ("OAUTHBEARER", JOE, STALE),
        ("XOAUTH2", ANN, TOKEN),
        ("OAUTHBEARER", "eve@example.net", STRANGERS),
    ):
        auth = b"AUTH %b %b" % (mechanism.encode(), by_token(user, token, mechanism))
        assert refused(client, auth, b64encode(b"\1"))
    client._shortcmd(f"AUTH OAUTHBEARER {by_token('', TOKEN, 'OAUTHBEARER').decode()}")
    assert client.stat()[0] == 1
    client.quit()

    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    client.user(JOE)
    client.pass_("of the file")
    client.quit()

    with smtplib.SMTP("127.0.0.1", office.ports["submission"]) as client:
        client.ehlo()
        code, _ = client.docmd("AUTH", f"XOAUTH2 {by_token(JOE, STALE, 'XOAUTH2').decode()}")
        assert (code, client.docmd("")[0]) == (334, 535)
        code, _ = client.docmd("AUTH", f"XOAUTH2 {by_token(JOE, TOKEN, 'XOAUTH2').decode()}")
        assert (code, client.mail(JOE)[0]) == (235, 250)

    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for mechanism in ("OAUTHBEARER", "XOAUTH2"):
        words = ["curl", "-sS", "--max-time", "30", "--user", JOE, "--oauth2-bearer", TOKEN]
        words += ["--login-options", f"AUTH={mechanism}", f"pop3://127.0.0.1:{office.pop3}/1"]
        said = subprocess.run(words, capture_output=True, timeout=60, cwd=tmp_path)
        assert b"for the bearer" in said.stdout, said.stderr
    office.check()
    assert TOKEN not in office.said
