"""The lines of docs/import.rst that make tables of other servers' accounts and aliases."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "import.rst"
#: Each line of the page, in its order, with what the other server has.
ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.net"
DAN = "dan@example.net"
DOVECOT = f"""\
# accounts
{ANN}:{{ARGON2ID}}$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWA:::::
{BOB}:$6$saltstring${"a" * 86}:5000:5000::/home/bob::userdb_quota_rule=*:storage=1G
{EVE}:{{PLAIN}}a "quoted" word
{DAN}:*::::::
"""
MAILBOXES = (
    f'{ANN}\t"{{BLF-CRYPT}}$2y$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"\t1048576\n'
)
FORWARDS = f'{BOB}\t"{EVE}"\tno\n'
ALIASES = f'info@example.net\t"{BOB},{EVE}"\n'
DOMAIN_ALIASES = "example.com\texample.net\n"
CATCH_ALLS = f'example.net\t"{BOB},{EVE}"\n'
VIRTUAL = f"""\
# virtual
example.net anything
info@example.net   {BOB},
  # a comment between the lines of one entry
\t{EVE}
"two.words"@example.net {BOB}
@example.net {BOB}
"""
LOCAL = """\
# aliases
info:   bob,
\teve@example.net
all:bob,
  eve
prog: "|/bin/vacation"
"two words": bob
root : bob
"""


def lines() -> list[str]:
    text = re.sub(r"\|\n\s*", "| ", PAGE.read_text())
    return [line.strip() for line in text.split("\n") if re.search(" import( --update)?$", line)]


BOTH = [BOB, EVE]
CASES = {
    "passwd-file": (0, DOVECOT, [ANN, BOB, EVE, DAN], {}),
    "domains": (1, "example.com\nexample.org\n", [], {}),
    "domain aliases": (2, DOMAIN_ALIASES, [], {}),
    "mailboxes": (3, MAILBOXES, [ANN], {}),
    "forwards": (4, FORWARDS, [BOB], {}),
    "aliases": (5, ALIASES, [], {"info@example.net": BOTH}),
    "catch-alls": (6, CATCH_ALLS, [], {}),
    "virtual": (7, VIRTUAL, [], {"info@example.net": BOTH, "two.words@example.net": [BOB]}),
    "virtual catch-all": (8, VIRTUAL, [], {}),
    "local aliases": (
        9, LOCAL, [], {
            "info@example.net": BOTH, "all@example.net": BOTH, "root@example.net": [BOB],
            "two words@example.net": [BOB],
        },
    ),
}  # fmt: skip


#: What the lines for domains say of a domain.
DOMAINS = {
    "domains": ("example.org", {"same_as": "", "catch_all": []}),
    "domain aliases": ("example.com", {"same_as": "example.net"}),
    "catch-alls": ("example.net", {"catch_all": BOTH}),
    "virtual catch-all": ("example.net", {"catch_all": [BOB]}),
}


def test_all_lines_are_tried():
    assert len(lines()) == len(CASES)


@pytest.mark.skipif(not shutil.which("awk"), reason="there is no awk here")
@pytest.mark.parametrize("case", CASES)
def test_a_line_of_the_manual_imports_what_another_server_has(run, ask, office, case):
    number, text, accounts, aliases = CASES[case]
    if aliases or case == "forwards" or case in DOMAINS:
        for name in (BOB, EVE):
            run("account", "add", name, "--generate")
    theirs = office / "theirs"
    theirs.write_text(text)
    mysql = office / "bin" / "mysql"
    mysql.parent.mkdir()
    mysql.write_text(f"#!/bin/sh\ncat {theirs}\n")
    mysql.chmod(0o755)
    path = f"{mysql.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    line = re.sub(r"/etc/\S+", str(theirs), lines()[number])
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    if case == "forwards":
        shown = ask("account", "show", BOB)
        assert (shown["forward"], shown["keep_copy"]) == ([EVE], False), done.stderr
    if case in DOMAINS:
        name, values = DOMAINS[case]
        shown = ask("domain", "show", name)
        assert {key: shown[key] for key in values} == values, done.stdout + done.stderr
    found = [one["address"] for one in ask("account", "list")["accounts"]]
    assert set(accounts) <= set(found), done.stdout + done.stderr
    got = {one["address"]: one["targets"] for one in ask("alias", "list")["aliases"]}
    assert got == aliases, done.stdout + done.stderr
