"""An import from a live POP3 server is killed in its middle while the daemon runs, and goes on."""

from __future__ import annotations

import poplib
import sys
import threading

from postoffice.moving.pop3_import import GROUP
from tests import processes
from tests.pop3_server import OldServer

ANN, PASSWORD, SECONDS = "killed@example.net", "a password", 60
MAIN = "from postoffice.cli import main; main(prog_name='postoffice')"


def test_a_killed_import_goes_on_where_it_stopped(office, tmp_path):
    office.account(ANN, PASSWORD)
    (tmp_path / "password").write_text("secret")
    messages = [(f"old{n}", b"Subject: %d\r\n\r\n" % n) for n in range(GROUP + 300)]
    reached = threading.Event()

    def fault(number, line):
        if number == 1 and line == f"RETR {GROUP + 200}":
            reached.set()
            return b""  # and nothing more: the import waits
        return None

    with OldServer(list(messages), fault=fault) as old:
        words = ["maildrop", "import", ANN, old.url, "--password-file", str(tmp_path / "password")]
        command = [sys.executable, "-c", MAIN, *words]
        first = processes.Popen(command, cwd=office.folder, env=processes.environment())
        try:
            assert reached.wait(SECONDS)
        finally:
            first.kill()
            first.wait()
        again = processes.run(command, cwd=office.folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "300 messages, " in again.stdout
    assert f"{GROUP} were there before" in again.stdout
    client = poplib.POP3("localhost", office.pop3, timeout=SECONDS)
    client.user(ANN)
    client.pass_(PASSWORD)
    listed = [line.split()[1].decode() for line in client.uidl()[1]]
    client.quit()
    assert listed == [uidl for uidl, _ in messages]
