"""Debian's Dovecot: what its POP3 server lists of a Maildir or an mbox."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

POP3 = Path("/usr/lib/dovecot/pop3")
SETTINGS = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
ssl = no
mail_location = {location}
pop3_uidl_format = {form}
{more}
"""

needed = pytest.mark.skipif(
    os.geteuid() != 0 or not POP3.exists() or shutil.which("setpriv") is None,
    reason="needs root, and Debian's dovecot-pop3d",
)


def run_as_mail(home: Path, program: Path | str, *words: str, text: str = "") -> str:
    """Run a program of Dovecot's as the user mail, who then owns all of ``home``."""
    mail = pwd.getpwnam("mail")
    for path in (home, *home.rglob("*")):
        os.chown(path, mail.pw_uid, mail.pw_gid)
    done = subprocess.run(
        ["setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", program, "-c",
         home / "dovecot.conf", *words],
        input=text, capture_output=True, text=True, timeout=60,
        env={"USER": "mail", "HOME": str(home), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.stdout


def listed(
    home: Path, form: str = "%08Xu%08Xv", location: str = "maildir:{home}/Maildir", more: str = ""
) -> list[tuple[str, int]]:
    """The UIDL and the size of each message, in order, as Dovecot's pop3 tells its client."""
    settings = SETTINGS.format(home=home, form=form, location=location, more=more)
    (home / "dovecot.conf").write_text(settings.replace("{home}", str(home)))
    said = run_as_mail(home, POP3, text="UIDL\r\nLIST\r\nQUIT\r\n")
    both = re.split(r"^\.\r?$", said, flags=re.M)
    uidls, sizes = (re.findall(r"^\d+ (\S+)\r?$", text, re.M) for text in both[:2])
    assert len(both) == 3, (said, (home / "log").read_text())
    assert len(uidls) == len(sizes), said
    return list(zip(uidls, map(int, sizes), strict=True))
