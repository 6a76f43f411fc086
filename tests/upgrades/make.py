"""Make the state of another version, for test_upgrades.py: make.py VERSION, in its environment.

    cd /tmp && OLD/bin/python .../tests/upgrades/make.py 0.1.0

It writes VERSION.tar.xz beside itself: a post office with mail, killed as it was.  What the
journal can put back is then taken away, as a power cut may do.
"""

from __future__ import annotations

import os
import poplib
import shutil
import smtplib
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
PASSWORD = "a password of before"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def postoffice(folder: Path, *words: str) -> None:
    command = [BIN / "postoffice", *words]
    subprocess.run(command, cwd=folder, input=PASSWORD + "\n", text=True, check=True)


def use(smtp: int, pop3: int) -> None:
    """Letters to Ann and Bob; Ann deletes one of hers."""
    with smtplib.SMTP("127.0.0.1", smtp) as post:
        for subject in ("first", "both", "Grüße", "last"):
            text = f"Subject: {subject}\r\n\r\nThis is {subject}.\r\n".encode()
            for_bob = ["bob@example.net"] if subject == "both" else []
            post.sendmail("joe@example.org", ["ann@example.net", *for_bob], text)
    collect = poplib.POP3("127.0.0.1", pop3)
    collect.user("ann@example.net")
    collect.pass_(PASSWORD)
    collect.retr(1)
    collect.dele(1)
    collect.quit()


def wait_for(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "the post office is open" in line:
            return
    raise SystemExit("it did not open")


def make(folder: Path) -> None:
    smtp, pop3 = free_port(), free_port()
    listen = (f"smtp=tcp:{smtp}:interface=127.0.0.1", f"pop3=tcp:{pop3}:interface=127.0.0.1")
    init = ("init", ".", "--hostname", "mail.example.net", "--domain", "example.net")
    postoffice(folder, *init, "--listen", listen[0], "--listen", listen[1])
    for name in ("ann@example.net", "bob@example.net"):
        postoffice(folder, "account", "add", name, "--password-stdin")
    command = [BIN / "twistd", "-n", "--pidfile=", "postoffice"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            wait_for(daemon)
            use(smtp, pop3)
        finally:
            daemon.kill()
    shutil.rmtree(folder / "state" / "neighbours", ignore_errors=True)
    maildrops = folder / "state" / "maildrops"
    if (maildrops / ".journal").exists():
        cut(maildrops / "example.net")


def cut(domain: Path) -> None:
    """Have nothing of what the journal holds: no message in its place, and none removed."""
    for placed in domain.glob("*/new/*"):
        placed.unlink()
    for removed in domain.glob(".vault/ann/*/*"):
        removed.rename(domain / "ann" / "new" / removed.name)


def main() -> None:
    into = Path(__file__).resolve().parent / f"{sys.argv[1]}.tar.xz"
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        with tarfile.open(into, "w:xz", format=tarfile.GNU_FORMAT) as packed:
            for path in sorted(Path(name).iterdir()):
                packed.add(path, path.name, filter=_of_nobody)
    print(into, os.path.getsize(into), "octets")


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
