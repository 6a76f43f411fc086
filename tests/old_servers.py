"""Other POP3 servers, from which users move: Debian's Dovecot and its Courier, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import NEVER, Server, free_port

#: Who owns the mail of the old servers: uid and gid.
NOBODY = 65534
_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
info_log_path = {folder}/log
protocols = pop3
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_chars =
disable_plaintext_auth = no
first_valid_uid = 1
pop3_fast_size_lookups = no
default_internal_user = dovecot
default_login_user = dovenull
mail_plugin_dir = /usr/lib/dovecot/modules
{tls}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/{users}
}}
userdb {{
  driver = passwd-file
  args = {folder}/{users}
}}
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener pop3s {{
    address = 127.0.0.1
    port = {pop3s}
  }}
  process_min_avail = 1
  service_count = 0
}}
service pop3 {{
  service_count = 100
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


class OldServer(Server):
    """
    A POP3 server on ``port``, with accounts and maildrops of its own.

    Its maildrop for ADDRESS is a Maildir, if it is not said otherwise.
    """

    user = "root"

    def __init__(self, certificate=None):
        if os.geteuid():
            pytest.skip(f"{type(self).__name__} needs root")
        super().__init__(certificate)

    def _prepare(self) -> None:
        self.folder.chmod(0o755)
        (self.folder / "mail").mkdir()
        os.chown(self.folder / "mail", NOBODY, NOBODY)

    def home(self, address: str) -> Path:
        """The home of an account."""
        return self.folder / "mail" / address

    def maildir(self, address: str) -> Path:
        """The Maildir of an account."""
        return self.home(address) / "Maildir"

    def put(self, address: str, name: str, text: str) -> None:
        """Let a message lie in the Maildir; ``name`` is new/… or cur/…."""
        path = self.maildir(address) / name
        path.write_text(text)
        own(path)

    def take_back(self, address: str, maildir: Path) -> None:
        """Let a Maildir be the account's, in place of the one that it had."""
        shutil.rmtree(self.maildir(address), ignore_errors=True)
        shutil.copytree(maildir, self.maildir(address))
        own(self.home(address))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as client:
                return client.recv(3) == b"+OK"
        except ConnectionError:
            return False


class Dovecot(OldServer):
    """Debian's Dovecot: each account has a ``pop3_uidl_format``, and a format of its mailbox."""

    programs = ("dovecot", "doveadm")
    #: A file for each account is read at once; of one file for all, accounts can be listed.
    users = "users/%u"
    folders = ("/usr/sbin", "/usr/bin")

    def _make(self) -> None:
        if not Path("/usr/lib/dovecot/pop3").exists():
            pytest.skip("dovecot-pop3d is not installed")
        self._prepare()
        self.pop3s, self.port = self.port, free_port()
        tls = "ssl = no"
        if self.certificate:
            tls = "ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}".format(
                **self.certificate
            )
        (self.folder / "conf").write_text(
            _DOVECOT.format(
                folder=self.folder, port=self.port, pop3s=self.pop3s, tls=tls, users=self.users
            )
        )
        if self.users == Dovecot.users:
            (self.folder / "users").mkdir()
        self.start()

    def add(
        self, address: str, password: str, form: str = "%08Xu%08Xv", kind: str = "maildir"
    ) -> None:
        """Make an account, or make it anew; ``form`` is its pop3_uidl_format."""
        home = self.home(address)
        anew = home.exists()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        if kind == "maildir":
            make_maildir(self.maildir(address))
        own(home)
        place = f"{kind}:{home}/{kind.capitalize()}"
        more = [f"userdb_mail={place}"]
        more += ["userdb_pop3_uidl_format=" + form.replace("%", "%%")]
        line = f"{address}:{{PLAIN}}{password}:{NOBODY}:{NOBODY}::{home}::{' '.join(more)}\n"
        mode = "w" if self.users == Dovecot.users else "a"
        with open(self.folder / self.users.replace("%u", address), mode) as file:
            file.write(line)
        # a file that it has read in this second it does not look at again
        while anew and self.doveadm("user", "-f", "mail", address).strip() != place:
            time.sleep(0.05)

    def save(self, address: str, text: str) -> None:
        """Put a message into the mailbox, whatever its format is."""
        self.doveadm("save", "-u", address, text=text)

    def doveadm(self, *words: str, text: str | None = None) -> str:
        """What doveadm says."""
        return self.run("doveadm", "-c", str(self.folder / "conf"), *words, text=text)

    def _command(self) -> list[str]:
        return [self._paths["dovecot"], "-F", "-c", str(self.folder / "conf")]


#: Where .ci/run unpacks Courier.
_COURIER = Path("/opt/courier")
#: Courier's paths are fixed: it sees them in a namespace of its own.
_ENTER = """\
set -e
mount -t overlay overlay -o lowerdir="$1/below:/etc" /etc
mount --bind "$1/etc" /etc/courier
mount -t overlay overlay -o lowerdir={courier}/usr:/usr /usr
mount -t tmpfs tmpfs /run
mkdir -p /run/courier/authdaemon
export LD_LIBRARY_PATH=/usr/lib:/usr/lib/courier-authlib
/usr/lib/courier/courier-authlib/authdaemond &
exec /usr/sbin/couriertcpd -address=127.0.0.1 -nodnslookup -noidentlookup \\
    -maxprocs=40 -maxperip=40 "$2" \\
    /usr/lib/courier/courier/courierpop3login /usr/lib/courier/courier/courierpop3d Maildir
"""


class Courier(OldServer):
    """Debian's Courier pop3d, with its accounts in a userdb."""

    programs = ("unshare",)

    def _make(self) -> None:
        if not (_COURIER / "usr/sbin/couriertcpd").exists():
            pytest.skip(f"courier-pop is not unpacked in {_COURIER}: .ci/run does it")
        self._prepare()
        self.port = free_port()
        (self.folder / "below/courier").mkdir(parents=True)
        (self.folder / "etc").mkdir()
        (self.folder / "etc/authdaemonrc").write_text(
            'authmodulelist="authuserdb"\nauthmodulelistorig="authuserdb"\ndaemons=1\n'
        )
        self._users: list[str] = []
        self._write_users()
        self.start()

    def add(self, address: str, password: str) -> None:
        """Make an account."""
        home = self.home(address)
        home.mkdir()
        make_maildir(self.maildir(address))
        own(home)
        hashed = subprocess.run(
            ["openssl", "passwd", "-1", "-stdin"], input=password, text=True,
            capture_output=True, check=True,
        ).stdout.strip()  # fmt: skip
        facts = {"uid": NOBODY, "gid": NOBODY, "home": home, "mail": f"{home}/Maildir"}
        facts["pop3pw"] = hashed
        self._users.append(f"{address}\t{'|'.join(f'{k}={v}' for k, v in facts.items())}\n")
        self._write_users()

    def _write_users(self) -> None:
        for name, lines in (("userdb", self._users), ("userdbshadow", self._users)):
            made = subprocess.run(
                [_COURIER / "usr/lib/courier/courier-authlib/makedatprog",
                 "-", str(self.folder / f"{name}.new"), str(self.folder / f"etc/{name}.dat")],
                input="".join(lines) + ".\n", text=True, capture_output=True,
                env={"LD_LIBRARY_PATH": f"{_COURIER}/usr/lib"},
            )  # fmt: skip
            assert made.returncode == 0, made.stdout + made.stderr

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # and so all in its namespace
            self.process.wait(NEVER)
            self.process = None

    def _command(self) -> list[str]:
        return [
            self._paths["unshare"], "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
            _ENTER.format(courier=_COURIER), "sh", str(self.folder), str(self.port),
        ]  # fmt: skip


def make_maildir(path: Path) -> None:
    for box in ("new", "cur", "tmp"):
        (path / box).mkdir(parents=True)


def own(path: Path) -> None:
    """Let a file, or a folder with all that is in it, be of the user of the old servers."""
    for one in (path, *path.rglob("*")):
        os.chown(one, NOBODY, NOBODY)


@contextmanager
def running(kind: type[OldServer], **more) -> Iterator[OldServer]:
    """A server, until the end of a module."""
    server = kind(**more)
    try:
        yield server
    finally:
        server.remove()
