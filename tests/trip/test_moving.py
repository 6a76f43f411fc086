"""Users move here from a real Dovecot and a real Courier: no program fetches a message twice."""

from __future__ import annotations

import os
import poplib
import re
import shutil
import smtplib
import subprocess
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.old_servers import Courier, Dovecot, OldServer, running
from tests.trip.conftest import run

SECONDS = 60
PASSWORD = "a password"
#: What Dovecot's pop3_uidl_format may be.
FORMATS = ("%08Xu%08Xv", "%08Xv%08Xu", "%v.%u", "UID%u-%v", "%u", "%f", "%Uf", "%Mf", "%g")
#: What lies at an old server: odd names, flags, two of one second, LF and CRLF, dots.
FILES = {
    "new/1700000003.M1P3.host": "Subject: 3\n\nline\n",
    "new/1700000001.M1P1.host": "Subject: 1\r\n\r\nwith CRLF\r\n",
    "cur/1700000002.M1P2.Host,S=17:2,S": "Subject: 2\n\nline\n",
    "cur/1700000004.M1P4.host:2,RS": "Subject: 4\n\n.\n..\n\n",
}
OLD = ["1", "2", "3", "4"]

Collect = Callable[[str, str, int], list[str]]


@pytest.fixture(scope="module")
def dovecot():
    with running(Dovecot) as server:
        yield server


@pytest.fixture(scope="module")
def courier():
    with running(Courier) as server:
        yield server


@pytest.fixture
def collect(tmp_path) -> Collect:
    """The subjects that a mail program fetches, which it has not seen; it keeps the mail."""
    environment = {"PATH": os.environ["PATH"], "FETCHMAILHOME": str(tmp_path)}
    environment["HOME"] = str(tmp_path)

    def fetchmail(address: str, port: int, out: Path) -> list[str]:
        (tmp_path / "fetchmailrc").write_text(
            f"poll localhost protocol POP3 service {port} auth password uidl\n"
            f'  user "{address}" password "{PASSWORD}" sslproto "" keep\n'
            f'  no rewrite mda "cat > {out}/new/$$"\n'
        )
        (tmp_path / "fetchmailrc").chmod(0o600)
        return ["fetchmail", "--fetchmailrc", f"{tmp_path}/fetchmailrc", "--nodetach",
                "--nosyslog", "--pidfile", f"{tmp_path}/pid"]  # fmt: skip

    def mpop(address: str, port: int, out: Path) -> list[str]:
        return ["mpop", "--host=localhost", f"--port={port}", f"--user={address}", "--tls=off",
                f"--passwordeval=echo '{PASSWORD}'", "--auth=user", "--keep=on",
                f"--uidls-file={tmp_path}/uidls", f"--delivery=maildir,{out}"]  # fmt: skip

    def collect(program: str, address: str, port: int) -> list[str]:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        for box in ("new", "cur", "tmp"):
            (out / box).mkdir(parents=True)
        words = {"fetchmail": fetchmail, "mpop": mpop}[program](address, port, out)
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
        allowed = (0, 1) if program == "fetchmail" else (0,)  # fetchmail: 1 if there was nothing
        assert done.returncode in allowed, done.stdout + done.stderr
        texts = [path.read_text() for path in (out / "new").iterdir()]
        return sorted(re.search(r"^Subject: (.*)$", text, re.M)[1] for text in texts)

    return collect


PROGRAMS = ("fetchmail", "mpop")


@pytest.fixture
def ours(office):
    """Runs our command in the office's folder."""

    def ours(*words: str) -> str:
        done = run(*words, cwd=office.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return ours


def post(office, address: str, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", office.smtp, "pc.example.org", timeout=SECONDS) as client:
        client.sendmail("a@example.org", [address], f"Subject: {subject}\r\n\r\nx\r\n")


def fill(server: OldServer, address: str) -> None:
    for name, text in FILES.items():
        server.put(address, name, text)


@pytest.fixture
def moves(collect, office, ours):
    """
    A program has collected from the old server, and collects here after the import.

    It sees only what is new.
    """

    def moves(
        program: str,
        server: OldServer,
        address: str,
        options: Callable[[], list[str]] = list,
        source: Path | None = None,
    ) -> None:
        assert collect(program, address, server.port) == OLD
        office.account(address, PASSWORD)
        words = options()
        ours("maildrop", "import", address, str(source or server.maildir(address)), *words)
        post(office, address, "new")
        assert collect(program, address, office.pop3) == ["new"]
        assert collect(program, address, office.pop3) == []

    return moves


@pytest.mark.parametrize(("form", "program"), list(zip(FORMATS, cycle(PROGRAMS))))
def test_from_dovecot(moves, moves_back, dovecot, form, program):
    address = f"format{FORMATS.index(form)}@example.net"
    dovecot.add(address, PASSWORD, form)
    fill(dovecot, address)
    moves(program, dovecot, address, lambda: ["--uidl-format", form])
    moves_back(program, address)


@pytest.fixture
def moves_back(collect, ours, dovecot, tmp_path):
    """The mail of an account goes back to Dovecot; a program sees only what came since."""

    def moves_back(program: str, address: str) -> None:
        ours("maildrop", "export", address, str(tmp_path / "export"))
        dovecot.take_back(address, tmp_path / "export")
        dovecot.put(address, "new/2000000000.M1P1.host", "Subject: back\n\nline\n")
        assert collect(program, address, dovecot.port) == ["back"]
        assert collect(program, address, dovecot.port) == []

    return moves_back


def test_from_dovecot_s_mdbox(moves, moves_back, dovecot, tmp_path):
    address = "mdbox@example.net"
    dovecot.add(address, PASSWORD, kind="mdbox")
    for subject in OLD:
        dovecot.save(address, f"Subject: {subject}\n\nline\n")
    folder, table = dovecot.home(address) / "copy", tmp_path / "table"

    def written() -> list[str]:
        dovecot.doveadm("backup", "-u", address, f"maildir:{folder}:LAYOUT=fs")
        fields = "uid guid pop3.uidl pop3.order date.received.unixtime size.virtual"
        words = ("-f", "tab", "fetch", "-u", address, fields, "mailbox", "INBOX")
        table.write_text(dovecot.doveadm(*words))
        return ["--uidls", str(table)]

    moves("fetchmail", dovecot, address, written, source=folder)
    dovecot.add(address, PASSWORD)  # it is a Maildir from now on
    moves_back("fetchmail", address)


#: How Courier's list began in older versions: none was there, or one of a version.
LISTS = {
    "none": "",
    "0": "1700000001.M1P1.host 30\n1700000002.M1P2.Host,S=17 20\n"
    "1700000003.M1P3.host 20\n1700000004.M1P4.host 22\n",
    "1": "/1 9\n1700000001.M1P1.host 30 5\n1700000002.M1P2.Host,S=17 20 6\n"
    "1700000003.M1P3.host 20 7\n1700000004.M1P4.host 22 8\n",
    "2": "/2 9 1600000000\n1700000001.M1P1.host 30 5:1600000000\n"
    "1700000002.M1P2.Host,S=17 20 6:1600000000\n1700000003.M1P3.host 20 7:0\n",
}


@pytest.mark.parametrize(("version", "program"), list(zip(LISTS, cycle(PROGRAMS))))
def test_from_courier(moves, courier, version, program):
    address = f"list-{version}@example.net"
    courier.add(address, PASSWORD)
    fill(courier, address)
    if LISTS[version]:
        courier.put(address, "courierpop3dsizelist", LISTS[version])
    moves(program, courier, address)


@pytest.fixture
def live(ours, tmp_path):
    """Imports an account over POP3, and returns what the command said."""

    def live(address: str, port: int, *options: str) -> str:
        (tmp_path / "password").write_text(PASSWORD)
        user = options[0] if options else address
        url = f"pop3://{user}@localhost:{port}"
        words = ("--password-file", str(tmp_path / "password"), *options[1:])
        return ours("maildrop", "import", address, url, *words)

    return live


@pytest.fixture
def compared(ours, tmp_path):
    """Compares whole texts over POP3, and returns what the command said."""

    def compared(address: str, port: int) -> str:
        against = f"pop3://{address}@localhost:{port}"
        words = ("--full", "--password-file", str(tmp_path / "password"))
        return ours("maildrop", "compare", address, "--against", against, *words)

    return compared


@pytest.mark.parametrize("program", PROGRAMS)
def test_from_a_dovecot_that_runs(collect, office, live, compared, dovecot, program):
    address = f"live-{program}@example.net"
    dovecot.add(address, PASSWORD)
    fill(dovecot, address)
    assert collect(program, address, dovecot.port) == OLD
    office.account(address, PASSWORD)
    assert "4 messages" in live(address, dovecot.port)
    assert "4 the same, 0 wrong, 0 explained" in compared(address, dovecot.port)
    post(office, address, "new")
    assert collect(program, address, office.pop3) == ["new"]


def test_from_a_courier_that_runs(collect, office, live, compared, courier):
    address = "live-courier@example.net"
    courier.add(address, PASSWORD)
    fill(courier, address)
    assert collect("mpop", address, courier.port) == OLD
    office.account(address, PASSWORD)
    assert "4 messages" in live(address, courier.port)
    assert " 0 wrong" in compared(address, courier.port)
    post(office, address, "new")
    assert collect("mpop", address, office.pop3) == ["new"]


def test_from_a_post_office_of_ours(collect, office, live):
    here, there = "moved-here@example.net", "was-there@example.net"
    for address in (here, there):
        office.account(address, PASSWORD)
    post(office, there, "old")
    assert collect("mpop", there, office.pop3) == ["old"]
    assert "1 message" in live(here, office.pop3, there)
    assert "0 messages" in live(here, office.pop3, there)
    assert collect("mpop", here, office.pop3) == ["old"]


def delete_all(address: str, port: int) -> None:
    client = poplib.POP3("localhost", port, timeout=SECONDS)
    client.user(address)
    client.pass_(PASSWORD)
    for number in range(1, client.stat()[0] + 1):
        client.dele(number)
    client.quit()


@pytest.mark.parametrize("how", ["files", "live"])
def test_what_was_fetched_and_deleted_there_meanwhile(
    collect, office, ours, live, dovecot, how, tmp_path
):
    """Between the first and the last import a user fetches all mail, and keeps none there."""
    address = f"keeps-none-{how}@example.net"
    dovecot.add(address, PASSWORD)
    fill(dovecot, address)
    assert collect("fetchmail", address, dovecot.port) == OLD
    office.account(address, PASSWORD)

    def imported(*options: str) -> str:
        if how == "live":
            return live(address, dovecot.port, address, *options)
        return ours("maildrop", "import", address, str(dovecot.maildir(address)), *options)

    assert "4 messages" in imported()
    delete_all(address, dovecot.port)
    dovecot.put(address, "new/1800000000.M1P1.host", "Subject: last\n\nline\n")
    assert "4 messages removed" in imported("--remove-gone")
    (tmp_path / ".fetchids").unlink()  # a program that keeps none remembers none
    assert collect("fetchmail", address, office.pop3) == ["last"]
