"""Debian's Dovecot lists a Maildir; after the import the same list is ours."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes

ANN = "ann@example.net"
POP3 = Path("/usr/lib/dovecot/pop3")
SETTINGS = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
ssl = no
mail_location = maildir:{home}/Maildir
pop3_uidl_format = {form}
"""
#: What each file is called, and its text.
FILES = {
    "new/1700000003.M1P3.host": "Subject: 3\n\nline\n",
    "new/1700000001.M1P1.host": "Subject: 1\r\n\r\nwith CRLF\r\n",
    "cur/1700000002.M1P2.Host,S=17:2,S": "Subject: 2\n\nline\n",
    "cur/1700000004.M1P4.host:2,RS": "Subject: 4\n\n.\n\n",
}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not POP3.exists() or shutil.which("setpriv") is None,
    reason="needs root, and Debian's dovecot-pop3d",
)


@pytest.fixture
def home():
    """A folder of the user mail, on the file system of pytest's."""
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        for box in ("new", "cur", "tmp"):
            Path(name, "Maildir", box).mkdir(parents=True)
        for place, text in FILES.items():
            Path(name, "Maildir", place).write_text(text, newline="")
        yield Path(name)


def dovecot(home: Path, form: str) -> list[tuple[str, int]]:
    """The UIDL and the size of each message, in order, as Dovecot's pop3 tells its client."""
    (home / "dovecot.conf").write_text(SETTINGS.format(home=home, form=form))
    mail = pwd.getpwnam("mail")
    for path in (home, *home.rglob("*")):
        os.chown(path, mail.pw_uid, mail.pw_gid)
    done = subprocess.run(
        ["setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", POP3, "-c",
         home / "dovecot.conf"],
        input="UIDL\r\nLIST\r\nQUIT\r\n", capture_output=True, text=True, timeout=60,
        env={"USER": "mail", "HOME": str(home), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    both = re.split(r"^\.\r?$", done.stdout, flags=re.M)
    uidls, sizes = (re.findall(r"^\d+ (\S+)\r?$", text, re.M) for text in both[:2])
    assert len(uidls) == len(sizes) == len(FILES), (done.stdout, (home / "log").read_text())
    return list(zip(uidls, map(int, sizes), strict=True))


def ours(office: Path) -> list[tuple[str, int]]:
    folder = office / "state" / "maildrops" / "example.net" / "ann"
    entries = maildir.scan(str(folder), MeasuredSizes()).entries
    return [(one.uidl, one.size) for one in entries]


@pytest.mark.parametrize(
    "form",
    ["%08Xu%08Xv", "%08Xv%08Xu", "%v.%u", "UID%u-%v", "%u", "%f", "%Uf", "%Mf", "%g"],
)
def test_each_format(run, ask, office, home, form):
    run("account", "add", ANN, "--generate")
    listed = dovecot(home, form)
    said = ask("maildrop", "import", ANN, str(home / "Maildir"), "--uidl-format", form)
    assert [one["warnings"] for one in said["maildrops"]] == [[]]
    assert ours(office) == listed


def test_uidls_and_an_order_that_dovecot_has_taken_over_itself(run, ask, office, home):
    run("account", "add", ANN, "--generate")
    dovecot(home, "%08Xu%08Xv")
    path = home / "Maildir" / "dovecot-uidlist"
    header, *lines = path.read_text().splitlines()
    fields = ["O3", "Pold.1 O1", "P", "O2 Pa/b:c"]
    lines = [line.replace(" ", f" {more} ", 1) for line, more in zip(lines, fields, strict=True)]
    path.write_text("\n".join([header, *lines, ""]))
    listed = dovecot(home, "%08Xu%08Xv")
    run("maildrop", "import", ANN, str(home / "Maildir"))
    assert ours(office) == listed
    assert {"old.1", "a/b:c"} < {uidl for uidl, _ in listed}
