"""Debian's Dovecot lists a Maildir; after the import the same list is ours."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from tests.cli import dovecots

ANN = "ann@example.net"
#: What each file is called, and its text.
FILES = {
    "new/1700000003.M1P3.host": "Subject: 3\n\nline\n",
    "new/1700000001.M1P1.host": "Subject: 1\r\n\r\nwith CRLF\r\n",
    "cur/1700000002.M1P2.Host,S=17:2,S": "Subject: 2\n\nline\n",
    "cur/1700000004.M1P4.host:2,RS": "Subject: 4\n\n.\n\n",
}

pytestmark = dovecots.needed


@pytest.fixture
def home():
    """A folder of the user mail, on the file system of pytest's."""
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        for box in ("new", "cur", "tmp"):
            Path(name, "Maildir", box).mkdir(parents=True)
        for place, text in FILES.items():
            Path(name, "Maildir", place).write_text(text, newline="")
        yield Path(name)


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
    listed = dovecots.listed(home, form)
    said = ask("maildrop", "import", ANN, str(home / "Maildir"), "--uidl-format", form)
    assert [one["warnings"] for one in said["maildrops"]] == [[]]
    assert len(listed) == len(FILES)
    assert ours(office) == listed


def test_uidls_and_an_order_that_dovecot_has_taken_over_itself(run, ask, office, home):
    run("account", "add", ANN, "--generate")
    dovecots.listed(home, "%08Xu%08Xv")
    path = home / "Maildir" / "dovecot-uidlist"
    header, *lines = path.read_text().splitlines()
    fields = ["O3", "Pold.1 O1", "P", "O2 Pa/b:c"]
    lines = [line.replace(" ", f" {more} ", 1) for line, more in zip(lines, fields, strict=True)]
    path.write_text("\n".join([header, *lines, ""]))
    listed = dovecots.listed(home, "%08Xu%08Xv")
    run("maildrop", "import", ANN, str(home / "Maildir"))
    assert ours(office) == listed
    assert {"old.1", "a/b:c"} < {uidl for uidl, _ in listed}


@pytest.mark.parametrize("location", ["mdbox", "sdbox"])
@pytest.mark.parametrize("form", ["%08Xu%08Xv", "%g"])
def test_mailboxes_that_are_no_maildirs(run, ask, office, home, location, form):
    """With what `doveadm backup` makes of them, and a table of `doveadm fetch`."""
    run("account", "add", ANN, "--generate")
    shutil.rmtree(home / "Maildir")
    spaces = "namespace inbox {\n  inbox = yes\n  separator = /\n}"
    options = {"location": f"{location}:{home}/{location}", "more": spaces}
    assert dovecots.listed(home, form, **options) == []
    for text in FILES.values():
        dovecots.run_as_mail(home, "doveadm", "save", "-m", "INBOX", text=text)
    listed = dovecots.listed(home, form, **options)
    assert len(listed) == len(FILES)
    fields = "uid guid pop3.uidl pop3.order date.received.unixtime size.virtual"
    table = dovecots.run_as_mail(home, "doveadm", "-f", "tab", "fetch", fields, "mailbox", "INBOX")
    dovecots.run_as_mail(home, "doveadm", "backup", f"maildir:{home}/Maildir")
    (home / "table").write_text(table)
    words = (str(home / "Maildir"), "--uidls", str(home / "table"), "--uidl-format", form)
    (said,) = ask("maildrop", "import", ANN, *words)["maildrops"]
    assert (said["kind"], said["warnings"]) == ("dovecot", [])
    assert ours(office) == listed


def test_x_uidl_fields(run, ask, office, home):
    run("account", "add", ANN, "--generate")
    (home / "Maildir/new/1700000009.M1.host").write_text("Subject: x\nX-UIDL:  a/b\n\n")
    listed = dovecots.listed(home, more="pop3_reuse_xuidl = yes")
    ask("maildrop", "import", ANN, str(home / "Maildir"), "--reuse-xuidl")
    assert ours(office) == listed
    assert "a/b" in dict(listed)
