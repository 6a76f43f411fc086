"""The post offices that are compared: ours, and those of others, each tuned for its best."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import loadlib

DOMAIN = "example.test"
#: Where mail goes that the office sends on.
ELSEWHERE = "elsewhere.test"
PASSWORD = "pw"
USERS = 1000


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def end(process: subprocess.Popen | None) -> None:
    """Ask it to stop, and wait; kill what does not stop."""
    if process is None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise SystemExit(f"{process.args[0]} did not stop") from None


def wait_for(port: int, seconds: float = 30) -> None:
    """Until clients are greeted there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                if client.recv(3) in (b"220", b"+OK"):
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"nobody answers on port {port}")
        time.sleep(0.05)


class Office:
    """
    One that runs: its ports, its Maildirs, the processes to account to.

    ``stop()`` may be called whatever came of ``start()``.
    """

    name = ""
    eol = "lf"  # how it keeps lines on disk
    lmtp = False
    login = "u{}"
    owner: str | None = None

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)
        self.post_port = free_port()
        self.pop3_port = free_port()
        self.process: subprocess.Popen | None = None
        #: The port to which it sends mail for other domains, over 20 connections; 0: nowhere.
        self.sends_to = 0

    @classmethod
    def missing(cls) -> str:
        """What is missing to run it; "" for nothing."""
        return ""

    @property
    def maildir(self) -> str:
        """The Maildir of each account, with {user} for its name."""
        raise NotImplementedError

    @property
    def pids(self) -> list[int]:
        """The roots of its trees of processes."""
        return [self.process.pid] if self.process else []

    def start(self) -> None:
        raise NotImplementedError

    @property
    def submit_args(self) -> list[object]:
        """How ``smtpload`` submits mail for other domains."""
        return ["--port", self.post_port]

    def hold_back(self) -> None:
        """Send nothing to other domains until ``let_go``."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Send what waits."""
        raise NotImplementedError

    def make_certificate(self) -> None:
        """``certificate.pem`` and ``key.pem`` in its folder: P-256, as most have today."""
        subject = ["-subj", "/CN=mail.example.test", "-days", "30"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        files = ["-keyout", self.folder / "key.pem", "-out", self.folder / "certificate.pem"]
        command = ["openssl", "req", "-x509", *kind, *subject, *files]
        subprocess.run(command, check=True, capture_output=True)

    def wait_until_idle(self) -> None:
        """Until it has used no CPU to speak of for half a second."""
        used = -1.0
        while (now := sum(loadlib.cpu_seconds(pid) for pid in self.pids)) > used + 0.02:
            used = now
            time.sleep(0.5)

    def stop(self) -> None:
        end(self.process)


class Ours(Office):
    """As it comes: on the bench's disk, with the journal."""

    name = "postoffice"
    store = "{kind: maildir}"
    run = "from twisted.scripts.twistd import run; run()"
    eol = "crlf"
    login = "u{}@" + DOMAIN
    python = sys.executable

    CONFIGURATION = """\
hostname: mail.example.test
state: {state}
postmaster: u0@{domain}
listeners:
  smtp: ["tcp:{smtp}:interface=127.0.0.1:backlog=1024"]
  submission: [{submission}]
  lmtp: []
  pop3: ["tcp:{pop3}:interface=127.0.0.1:backlog=1024"]
  submissions: []
  pop3s: []
store: {store}
tls:
  certificates: [{{certificate: certificate.pem, key: key.pem}}]
limits: {{connections: 5000, connections_per_client: 5000}}
"""
    OUTBOUND = """\
outbound:
  routes: [{{via: "smtp:127.0.0.1:{port}"}}]
  connections: {{destination: 20}}
  limits: {{recipients: []}}
"""
    ACCOUNTS = """
import sys
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.protocol.scram import derive
from postoffice.testing import ImmediateExecutor as InlineWorkers, finish
path, domain, password, users = sys.argv[1:]
directory = SQLiteDirectory(path, InlineWorkers())
finish(directory.start())
finish(directory.add_domain(domain))
secret, scram = hash_password(password.encode()), str(derive(password.encode()))
for number in range(int(users)):
    finish(directory.add(f"u{number}@{domain}", secret, scram))
finish(directory.stop())
"""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.submission_port = free_port()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}

    @property
    def submit_args(self) -> list[object]:
        login = self.login.format(0)
        who = ["--login", login, "--password", PASSWORD, "--sender", login]
        return ["--port", self.submission_port, *who]

    def hold_back(self) -> None:
        self.queue("pause", ELSEWHERE)

    def let_go(self) -> None:
        self.queue("resume", ELSEWHERE)

    def queue(self, *words: str) -> str:
        """Run ``postoffice queue``; return what it writes."""
        path = self.folder / "postoffice.yaml"
        program = Path(self.python).parent / "postoffice"
        command = [program, "queue", *words, "--config", path]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"postoffice queue {words}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def maildir(self) -> str:
        return f"{self.state}/maildrops/{DOMAIN}/{{user}}"

    def start(self) -> None:
        self.state.mkdir()
        self.make_certificate()
        self.configure()
        subprocess.run(
            [self.python, "-c", self.ACCOUNTS, self.state / "accounts.db", DOMAIN, PASSWORD]
            + [str(USERS)],
            check=True,
            env=self.environment,
        )
        self.run_daemon()

    def configure(self) -> None:
        """Write the configuration."""
        submission = f'"tcp:{self.submission_port}:interface=127.0.0.1:backlog=1024"'
        text = self.CONFIGURATION.format(
            state=self.state,
            domain=DOMAIN,
            smtp=self.post_port,
            submission=submission if self.sends_to else "",
            pop3=self.pop3_port,
            store=self.store,
        )
        if self.sends_to:
            text += self.OUTBOUND.format(port=self.sends_to)
        (self.folder / "postoffice.yaml").write_text(text)

    def run_daemon(self) -> None:
        """Start the daemon; it answers when this returns."""
        path = self.folder / "postoffice.yaml"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-c", self.run, "-n", "--pidfile=", "postoffice", "--config", path],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_for(self.post_port)
        wait_for(self.pop3_port)


class Files(Ours):
    """With each file synced by itself."""

    name = "with files"
    store = "{kind: maildir, durability: files}"


class Unsynced(Ours):
    """What it could do if nothing had to be on the disk: only here, for no setting says so."""

    name = "unsynced"
    run = (
        """
import os
os.fsync = os.fdatasync = lambda fd: None
from postoffice.store.journal import segments
segments.sync_all = lambda fd: None
"""
        + Ours.run
    )


class Dovecot(Office):
    """Dovecot alone: LMTP in, POP3 out."""

    name = "Dovecot"
    lmtp = True
    owner = "mail:mail"

    CONFIGURATION = """\
base_dir = {folder}/run
log_path = {folder}/log
protocols = pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %n
mail_location = maildir:{folder}/mail/%n
first_valid_uid = 1
mail_max_userip_connections = 5000
passdb {{
  driver = static
  args = password={{PLAIN}}{password}
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={folder}/home/%n allow_all_users=yes
}}
service anvil {{
  client_limit = 8000
}}
service auth {{
  client_limit = 8000
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 2
  client_limit = 4000
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service pop3 {{
  service_count = 1000
  process_min_avail = 4
  process_limit = 2000
}}
service lmtp {{
  process_min_avail = 4
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@{domain}
}}
"""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.lmtp_port = self.post_port

    @classmethod
    def missing(cls) -> str:
        if os.geteuid():
            return "needs root"
        if not shutil.which("dovecot") or not Path("/usr/lib/dovecot/lmtp").exists():
            return "Debian's dovecot-pop3d and dovecot-lmtpd are not installed"
        return ""

    @property
    def maildir(self) -> str:
        return f"{self.folder}/mail/{{user}}"

    def start(self) -> None:
        user = pwd.getpwnam("mail")
        for name in ("mail", "home"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, user.pw_uid, user.pw_gid)
        path = self.folder / "dovecot.conf"
        path.write_text(
            self.CONFIGURATION.format(
                folder=self.folder,
                password=PASSWORD,
                pop3=self.pop3_port,
                lmtp=self.lmtp_port,
                domain=DOMAIN,
            )
        )
        self.process = subprocess.Popen(["dovecot", "-F", "-c", path])
        wait_for(self.lmtp_port)
        wait_for(self.pop3_port)


class Pair(Dovecot):
    """Postfix in front of Dovecot, LMTP over TCP between them."""

    name = "Postfix + Dovecot"
    lmtp = False

    MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.{domain}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/certificate.pem
smtpd_tls_key_file = {folder}/key.pem
in_flow_delay = 0
message_size_limit = 104857600
mailbox_size_limit = 0
default_process_limit = 200
maillog_file_prefixes = /
maillog_file = {folder}/postfix.log
"""
    #: Its limits are those of our office; a queue manager that may open more would wait no less.
    RELAY = """\
relayhost = [127.0.0.1]:{port}
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtp_tls_security_level = none
smtp_dns_support_level = disabled
"""
    MASTER = """\
127.0.0.1:{smtp} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
pickup unix n - n 60 1 pickup
showq unix n - n - - showq
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.lmtp_port = free_port()
        self._master = 0

    @classmethod
    def missing(cls) -> str:
        if not shutil.which("postfix"):
            return "Debian's postfix is not installed"
        return super().missing()

    def start(self) -> None:
        super().start()
        self.make_certificate()
        configuration = self.folder / "postfix"
        configuration.mkdir()
        names = {
            "folder": self.folder,
            "domain": DOMAIN,
            "lmtp": self.lmtp_port,
            "smtp": self.post_port,
        }
        text = self.MAIN.format(**names)
        if self.sends_to:
            text += self.RELAY.format(port=self.sends_to)
        (configuration / "main.cf").write_text(text)
        (configuration / "master.cf").write_text(self.MASTER.format(**names))
        (self.folder / "queue").mkdir()
        data = self.folder / "data"
        data.mkdir()
        os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
        self._postfix("start")  # which waits until its master runs
        self._master = int((self.folder / "queue/pid/master.pid").read_text())
        wait_for(self.post_port)

    def _postfix(self, command: str) -> None:
        configuration = self.folder / "postfix"
        done = subprocess.run(
            ["postfix", "-c", configuration, command], capture_output=True, text=True
        )
        if done.returncode:
            log = self.folder / "postfix.log"
            told = log.read_text()[-2000:] if log.exists() else ""
            raise SystemExit(f"postfix {command}: {done.stderr}{told}")

    def hold_back(self) -> None:
        self._defer("smtp")

    def let_go(self) -> None:
        self._defer("")
        configuration = self.folder / "postfix"
        subprocess.run(["postqueue", "-c", configuration, "-f"], check=True)

    def _defer(self, transports: str) -> None:
        change = ["-e", f"defer_transports = {transports}"]
        subprocess.run(["postconf", "-c", self.folder / "postfix", *change], check=True)
        self._postfix("reload")

    @property
    def pids(self) -> list[int]:
        return [*super().pids, *([self._master] if self._master else [])]

    def stop(self) -> None:
        try:
            # it may run though start() was interrupted
            if (self.folder / "queue/pid/master.pid").exists():
                self._postfix("stop")
        finally:
            super().stop()


OFFICES = {
    "ours": Ours,
    "files": Files,
    "unsynced": Unsynced,
    "pair": Pair,
    "dovecot": Dovecot,
}
