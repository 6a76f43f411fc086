"""Real servers for tests: each in a folder of its own, on a socket in it; started and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from postoffice.model.errors import TemporaryFailure
from postoffice.testing import finish

#: Seconds after which a server will not start any more.
NEVER = 60
#: Where a server with a certificate listens: where the certificate fits, and where it does not.
HOSTS = ("127.0.0.1", "127.0.0.2")


class Server:
    """A server in its own folder below the system's, as the paths of sockets have to be short."""

    #: Who runs it, where the tests are run by root, and the programs that it needs.
    user = "nobody"
    programs: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def __init__(self, certificate=None):
        """``certificate``: it also listens on a port of loopback, with TLS; two files."""
        self._paths = {name: self._program(name) for name in self.programs}
        self.folder = Path(tempfile.mkdtemp(prefix="postoffice-"))
        self._as = {"user": self.user} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, self.user)
        self.process = None
        self.certificate, self.port = {}, 0
        if certificate is not None:
            self.port = free_port()
            self.certificate = {what: self._own(path) for what, path in certificate.items()}
        self._make()

    def _own(self, path: str) -> str:
        """A copy of a file that its user may read, and nobody else."""
        copy = shutil.copy(path, self.folder)
        os.chmod(copy, 0o600)
        if self._as:
            shutil.chown(copy, self.user)
        return copy

    @classmethod
    def _program(cls, name: str) -> str:
        places = os.pathsep.join([*cls.folders, os.environ.get("PATH", "")])
        found = shutil.which(name, path=places)
        if found is None:
            pytest.skip(f"{name} is not installed")
        return found

    def run(self, name: str, *words: str, text: str | None = None) -> str:
        """Run one of its programs to the end; what it says."""
        done = subprocess.run(
            [self._paths[name], *words], input=text, text=True, timeout=NEVER,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self.folder, **self._as
            )
        until = time.monotonic() + NEVER
        while not self._answers():
            log = (self.folder / "log").read_text()
            assert self.process.poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(NEVER)
            self.process = None

    def freeze(self) -> None:
        """It stays, but says nothing any more."""
        self._signal(signal.SIGSTOP)
        while not all(map(_is_stopped, self._processes())):
            time.sleep(0.001)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _processes(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [pid, *map(int, children.split())]

    def _signal(self, number: int) -> None:
        for pid in self._processes():
            os.kill(pid, number)

    def remove(self) -> None:
        """Stop it, and take its folder away."""
        self.stop()
        shutil.rmtree(self.folder)


class NSD(Server):
    """An nsd on a port of loopback: it knows ``zones``, and resolves nothing else."""

    programs = ("nsd",)
    folders = ("/usr/sbin",)
    zones = {
        "example": """\
$ORIGIN example.
$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ MX 20 mx2
@ MX 10 mx1
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
mx2 CNAME mx1
null MX 0 .
bare A 192.0.2.3
text TXT "one " "record"
far CNAME www.elsewhere.test.
big TXT ( {big} )
""".format(big=" ".join(f'"{n:0200}"' for n in range(20)))
    }

    def _make(self) -> None:
        self.port = free_port()
        for name, text in self.zones.items():
            (self.folder / name).write_text(text)
        zones = "".join(f"zone:\n  name: {name}\n  zonefile: {name}\n" for name in self.zones)
        files = "".join(
            f'  {what}: "{self.folder}/{what}"\n'
            for what in ("pidfile", "zonelistfile", "xfrdfile")
        )
        (self.folder / "nsd.conf").write_text(
            f'server:\n  ip-address: 127.0.0.1@{self.port}\n  username: ""\n  database: ""\n'
            f'  server-count: 1\n  zonesdir: "{self.folder}"\n  xfrdir: "{self.folder}"\n{files}'
            f"remote-control:\n  control-enable: no\n{zones}"
        )
        self.start()

    def _command(self) -> list[str]:
        return [self._paths["nsd"], "-d", "-c", str(self.folder / "nsd.conf")]

    def _answers(self) -> bool:
        return "nsd started" in (self.folder / "log").read_text()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process are: a signal takes its time."""
    states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)


class PostgreSQL(Server):
    """A PostgreSQL with a database ``mail``, for the user ``postoffice``."""

    user = "postgres"
    programs = ("initdb", "postgres", "psql", "pg_isready")
    folders = tuple(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))

    def _make(self) -> None:
        options = ("--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        self.run("initdb", *options, "--username=postoffice", str(self.folder / "data"))
        self.start()
        self.sql("CREATE DATABASE mail", "postgres")

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} dbname=mail user=postoffice"

    def _command(self) -> list[str]:
        settings = ["fsync=off", f"unix_socket_directories={self.folder}"]
        settings += [f"listen_addresses={','.join(HOSTS) if self.port else ''}"]
        if self.port:
            files = (f"ssl_cert_file={self.certificate['certificate']}", f"port={self.port}")
            settings += ["ssl=on", f"ssl_key_file={self.certificate['key']}", *files]
        options = [word for one in settings for word in ("-c", one)]
        return [self._paths["postgres"], "-D", str(self.folder / "data"), *options]

    def _answers(self) -> bool:
        words = [self._paths["pg_isready"], "-q", "-h", str(self.folder), "-p", self._port]
        return subprocess.run(words).returncode == 0

    def sql(self, text: str, database: str = "mail") -> str:
        """What psql says to this."""
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder))
        options += ("-p", self._port, "-U", "postoffice", "-d", database)
        return self.run("psql", *options, text=text).strip()

    @property
    def _port(self) -> str:
        return str(self.port or 5432)

    def empty_tables(self, directory) -> None:
        """Let the database have our tables, with nothing in them."""
        names = ("domain", "account", "alias", "device", "target")
        empty = f"TRUNCATE {', '.join(f'postoffice.{name}' for name in names)}"
        try:
            directory._connections.read(lambda connection: connection.execute(empty))
        except TemporaryFailure:
            finish(directory.create_schema())


class LDAP(Server):
    """A slapd for ``dc=example,dc=net``, which ``cn=admin`` may change."""

    user = "openldap"
    programs = ("slapd", "slapadd", "ldapadd", "ldapmodify", "ldapsearch")
    folders = ("/usr/sbin",)
    base = "dc=example,dc=net"
    admin = f"cn=admin,{base}"
    peopled = False

    def _make(self) -> None:
        (self.folder / "data").mkdir()
        if self._as:
            shutil.chown(self.folder / "data", self.user)
        schemas = "".join(
            f"include /etc/ldap/schema/{name}.schema\n"
            for name in ("core", "cosine", "nis", "inetorgperson", "misc")
        )
        (self.folder / "slapd.conf").write_text(
            f"{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\n"
            f"pidfile {self.folder}/pid\n{self._tls()}database mdb\nmaxsize 10485760\n"
            f"suffix {self.base}\nrootdn {self.admin}\nrootpw secret\n"
            f"directory {self.folder}/data\ndbnosync\n{self.more}"
        )
        self.start()
        self.change("ldapadd", self.entries)

    #: What stands in its configuration as well: who may see what.
    more = (
        f"access to attrs=userPassword by dn.base=cn=reader,{base} read by anonymous auth\n"
        f"access to * by dn.base=cn=reader,{base} read by anonymous auth by self read\n"
    )
    entries = """\
dn: dc=example,dc=net
objectClass: domain
dc: example

dn: cn=reader,dc=example,dc=net
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: may read

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people
"""

    @property
    def uri(self) -> str:
        return f"ldapi://{str(self.folder / 'socket').replace('/', '%2F')}"

    def _command(self) -> list[str]:
        return [
            self._paths["slapd"], "-f", str(self.folder / "slapd.conf"), "-d", "0", "-h",
            " ".join([self.uri, *(f"ldaps://{host}:{self.port}" for host in HOSTS if self.port)]),
        ]  # fmt: skip

    def _tls(self) -> str:
        if not self.port:
            return ""
        files = self.certificate
        return f"TLSCertificateFile {files['certificate']}\nTLSCertificateKeyFile {files['key']}\n"

    def _answers(self) -> bool:
        words = [self._paths["ldapsearch"], "-x", "-H", self.uri, "-b", "", "-s", "base"]
        return subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode in (0, 32)

    def change(self, program: str, text: str) -> None:
        """Let one of its programs add entries, or change them."""
        self.run(program, "-x", "-H", self.uri, "-D", self.admin, "-w", "secret", text=text)
