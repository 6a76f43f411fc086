"""Debian's Dovecot serves an exported Maildir: the same list, also after a second export."""

from __future__ import annotations

import pwd
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from postoffice.store import files, maildir, names
from postoffice.store.listing_cache import MeasuredSizes
from tests import processes
from tests.cli import dovecots

ANN = "ann@example.net"
MAIN = "from postoffice.cli import main; main()"
pytestmark = dovecots.needed


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        yield Path(name)


def ours(folder: Path) -> list[tuple[str, int]]:
    entries = maildir.scan(str(folder), MeasuredSizes()).entries
    return [(one.uidl, one.size) for one in entries]


def put(folder: Path, name: str, text: bytes) -> None:
    (folder / name).write_bytes(text)


def test_dovecot_lists_what_we_list(run, ask, office, home):
    run("account", "add", ANN, "--generate")
    ann = office / "state" / "maildrops" / "example.net" / "ann"
    files.make(str(ann))
    crlf, lf = b"Subject: x\r\n\r\n.\r\nend\r\n", b"Subject: y\n\n.\nno end"
    for place, uidl in ((3, "0000000700000001"), (1, "a:b/c,d|!~"), (2, "UID1-2"), (9, "x" * 70)):
        name = names.with_import(names.new_name("h"), uidl, place)
        put(ann, f"new/{names.with_sizes(name, len(crlf))}", crlf)
    put(ann, f"cur/{names.with_sizes(names.new_name('h'), len(crlf))}:2,RS", crlf)
    put(ann, "new/1700000009.of.another,S=3", lf)
    put(ann, "new/1700000010.a b\n,S=3", lf)
    out = home / "Maildir"
    run("maildrop", "export", ANN, str(out))
    assert dovecots.listed(home) == ours(ann)
    back(out)
    put(ann, "new/8000000009.later", lf)
    early = names.with_import(names.new_name("h"), "early", 4)
    put(ann, f"new/{names.with_sizes(early, len(crlf))}", crlf)
    run("maildrop", "export", ANN, str(out))
    for file in home.glob("Maildir/dovecot.index*"):
        file.unlink()
    assert dovecots.listed(home) == ours(ann)
    before = ours(ann)
    back(out)
    shutil.rmtree(ann)
    run("maildrop", "import", ANN, str(out))
    assert ours(ann) == before


def test_dovecot_lists_an_mbox_by_its_x_uidl_fields(run, office, home):
    run("account", "add", ANN, "--generate")
    ann = office / "state" / "maildrops" / "example.net" / "ann"
    files.make(str(ann))
    put(ann, f"new/{names.with_import(names.new_name('h'), 'a:b/c', 1)}", b"Subject: 1\n\nFrom x\n")
    put(ann, "cur/1700000001.a:2,S", b"X-UIDL: theirs\r\n\r\n.\r\n")
    put(ann, "new/1700000002.b", b"Subject: 3")
    run("maildrop", "export", ANN, str(home / "mbox"), "--format", "mbox")
    location = "mbox:{home}/mail:INBOX={home}/mbox"
    listed = dovecots.listed(home, location=location, more="pop3_reuse_xuidl = yes")
    assert [uidl for uidl, _ in listed] == [uidl for uidl, _ in ours(ann)]
    fields = [len(f"X-UIDL: {uidl}\r\n") for uidl, _ in listed]
    quote = [1, 0, 0]
    sizes = [size for _, size in ours(ann)]
    assert [size for _, size in listed] == [
        sum(one) for one in zip(sizes, fields, quote, strict=True)
    ]


def back(out: Path) -> None:
    """Give the Maildir back to the user of the post office."""
    for path in (out.parent, out, *out.rglob("*")):
        shutil.chown(path, 0, 0)


def test_root_exports_for_the_user_of_the_post_office(run, office, home):
    """A target that root names is made for this user, who writes all of it."""
    run("account", "add", ANN, "--generate")
    ann = office / "state" / "maildrops" / "example.net" / "ann"
    files.make(str(ann))
    put(ann, "new/1700000001.a", b"Subject: x\r\n\r\n")
    shutil.copytree(office, home / "office")
    shutil.rmtree(home / "office/state/maildrops/.journal")
    dovecots.run_as_mail(home / "office", "true")
    home.chmod(0o755)

    def root_runs(*words):
        config = str(home / "office/postoffice.yaml")
        words = [sys.executable, "-c", MAIN, "--config", config, *words]
        return processes.run(words, cwd="/")

    done = root_runs("maildrop", "export", "--all", str(home / "Maildir"))
    assert done.returncode == 0, done.stdout + done.stderr
    out = home / "Maildir/example.net/ann"
    mail = pwd.getpwnam("mail")
    found = [home / "Maildir", *(home / "Maildir").rglob("*")]
    assert {path.stat().st_uid for path in found} == {mail.pw_uid}
    assert {path.stat().st_mode & 0o77 for path in found} == {0}
    assert dovecots.listed(home, location=f"maildir:{out}") == ours(ann)
    (home / "theirs").mkdir(mode=0o755)
    said = root_runs("maildrop", "export", ANN, f"{home}/theirs/x", "--format", "mbox")
    assert said.returncode == 1
    assert "the post office runs as mail, who may not write to" in said.stdout
