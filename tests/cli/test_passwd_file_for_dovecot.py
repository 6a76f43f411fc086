"""The program of docs/moving.rst that makes a passwd-file, and Debian's doveadm with its hashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "passwd_file.py"
ANN, BOB, EVE, OLD = (f"{name}@example.net" for name in ("ann", "bob", "eve", "old"))


@pytest.fixture
def users(run, office):
    """The passwd-file that the program makes: the fields after the name, by the name."""
    run("account", "add", ANN, "--password-stdin", text="secret of ann\n")
    run("account", "set", ANN, "--quota", "5MiB")
    made = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", "saltstring", "secret of bob"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (office / "more.csv").write_text(
        f"address,hash\n{BOB},{made.stdout.strip()}\n{EVE},{{SSHA}}CWpZvrfEVDISYkgY1Dc9Gmc+8y1hYmNk\n"
    )
    run("account", "import", "more.csv")
    run("account", "add", OLD, "--generate")
    run("account", "disable", OLD)
    run("account", "export", "accounts.jsonl", "--with-secrets")
    with (office / "accounts.jsonl").open() as exported:
        done = subprocess.run(
            [sys.executable, PROGRAM], stdin=exported, capture_output=True, text=True, check=True
        )
    lines = [line.split(":") for line in done.stdout.splitlines()]
    return {words[0]: words[1:] for words in lines}


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl here")
def test_enabled_accounts_are_in_it_with_hashes_and_quotas(users):
    assert set(users) - {"postmaster@example.net"} == {ANN, BOB, EVE}
    assert users[ANN][0].startswith("{ARGON2ID}$argon2id$")
    assert users[ANN][6] + ":" + users[ANN][7] == f"userdb_quota_rule=*:storage={5 << 20}B"
    assert users[BOB][0].startswith("{CRYPT}$6$saltstring$")
    assert users[EVE][0] == "{SSHA}CWpZvrfEVDISYkgY1Dc9Gmc+8y1hYmNk"


@pytest.mark.skipif(
    not (shutil.which("doveadm") and shutil.which("openssl")), reason="needs doveadm and openssl"
)
@pytest.mark.parametrize("name", [ANN, BOB])
def test_dovecot_takes_the_hashes(users, tmp_path, name):
    (tmp_path / "dovecot.conf").write_text("ssl = no\n")
    words = ["doveadm", "-c", tmp_path / "dovecot.conf", "pw", "-t", users[name][0], "-p"]
    done = subprocess.run(
        [*words, f"secret of {name[:3]}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
