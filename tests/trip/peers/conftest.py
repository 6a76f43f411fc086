"""The office in a network of its own, with a name server and other mail servers in it."""

from __future__ import annotations

import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.nameserver import NameServer
from tests.postfix import postfix as run_postfix
from tests.trip.conftest import CONFIGURATION, NEVER, Account, Office, run
from tests.trip.peers.network import Network

#: Where the office takes mail from the others.
OFFICE = "11.0.0.1"
OUTBOUND = """\
outbound:
  routes:
    - {to: [smarthost.example], via: provider}
    - {to: [refused.example], via: wrong}
    - {to: [lmtp.example], via: "lmtp:11.0.4.1:24"}
    - {via: direct}
  smarthosts:
    provider: {host: mx.login.example, port: 587, login: ann, password_file: right}
    wrong: {host: mx.login.example, port: 587, login: ann, password_file: wrong}
  limits: {recipients: []}
  tls:
    ca: authority.pem
    domains:
      - {domain: wrong.example, level: verify}
      - {domain: right.example, level: verify}
      - {domain: clear.example, level: encrypt}
  dns: {servers: ["127.0.0.1:%d"]}
  addresses: [11.0.0.1]
"""
#: The personalities of Postfix: each is the mail server of the domain of this name, NAME.example.
POSTFIX = {
    "plain": "",
    "tls": "-o smtpd_tls_security_level=may",
    "right": "-o smtpd_tls_security_level=may",
    "wrong": "-o smtpd_tls_security_level=may",
    "clear": "",
    "old-tls": "-o smtpd_tls_security_level=may -o smtpd_tls_protocols=TLSv1",
    "no-dsn": "-o smtpd_discard_ehlo_keywords=dsn",
    "no-utf8": "-o smtputf8_enable=no",
    "no-pipelining": "-o smtpd_discard_ehlo_keywords=pipelining",
    "no-extensions": "-o smtpd_discard_ehlo_keywords=pipelining,size,8bitmime,dsn,smtputf8",
    "small": "-o message_size_limit=20000",
    "no-size": "-o message_size_limit=20000 -o smtpd_discard_ehlo_keywords=size",
    "ten": "-o smtpd_recipient_limit=10",
    "greylist": "-o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:10023,permit",
    "closed": "-o smtpd_delay_reject=no -o smtpd_client_restrictions=reject",
    "busy": "-o smtpd_delay_reject=no -o smtpd_client_restrictions=defer",
    "login": "-o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes"
    " -o smtpd_sasl_type=dovecot -o smtpd_sasl_path=inet:127.0.0.1:12345"
    " -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject",
}
#: All mail is kept in one folder; "nobody" is unknown.
SETTINGS = """\
myhostname = mx.postfix.example
mynetworks = 127.0.0.1/32
virtual_mailbox_domains = static:all
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = regexp:{{ {{!/^nobody@/ all/}} }}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 50000000
transport_maps = inline:{{ {{ example.net = smtp:[{office}]:25 }} }}
smtputf8_autodetect_classes = all
smtpd_tls_session_cache_database =
smtp_tls_security_level = none
"""


def address(name: str) -> str:
    """Where Postfix is the server of NAME.example."""
    return f"11.0.1.{list(POSTFIX).index(name) + 1}"


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _within(network) -> Iterator[None]:
    with network.entered():
        yield


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A folder that other users may enter, as they may not enter pytest's."""
    with tempfile.TemporaryDirectory(prefix="peers") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def authority(shared) -> Authority:
    return Authority(shared)


@pytest.fixture(scope="session")
def resolver(network) -> Iterator[NameServer]:
    yield from network.within(_name_server())


def _name_server() -> Iterator[NameServer]:
    server = NameServer()
    server.ttl = 0
    yield server
    server.stop()


@pytest.fixture(scope="session")
def zone(resolver) -> dict:
    """What the name server says: (name, type) to records, or a script."""
    return resolver.zone


def mail_host(zone: dict, domain: str, where: str) -> None:
    """A domain with one mail server."""
    zone[domain, "MX"] = [f"10 mx.{domain}."]
    zone[f"mx.{domain}", "A"] = [where]


@pytest.fixture(scope="session")
def office(tmp_path_factory, opened, resolver, network, authority) -> Iterator[Office]:
    """The office that sends."""
    folder = tmp_path_factory.mktemp("sender")
    (folder / "authority.pem").write_bytes(authority.path.read_bytes())
    for name in ("right", "wrong"):
        (folder / name).write_text(f"{name}\n")
        (folder / name).chmod(0o600)
    smtp = f'smtp: ["tcp:25:interface={OFFICE}"]'
    configuration = CONFIGURATION.replace('smtp: ["tcp:0:interface=127.0.0.1"]', smtp)
    for office in network.within(opened(folder, configuration + OUTBOUND % resolver.server[1])):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


class Postfix:
    """What Postfix has kept."""

    def __init__(self, process, home: Path) -> None:
        self._process = process
        self._home = home

    def received(self, recipient: str) -> list[bytes]:
        """Wait for mail of a recipient; all of it, with CRLF, as Postfix keeps it."""
        self._process.wait_for(rf"to=<{recipient}>.* status=sent")
        return self.kept(recipient)

    def kept(self, recipient: str) -> list[bytes]:
        """What there is for a recipient, now."""
        texts = [file.read_bytes() for file in (self._home / "mail" / "all" / "new").glob("*")]
        wanted = f"Delivered-To: {recipient}\n".encode()
        return [text.replace(b"\n", b"\r\n") for text in texts if wanted in text]

    def wait_for(self, pattern: str):
        return self._process.wait_for(pattern)


@pytest.fixture(scope="session")
def postfix(shared, network, zone, launch, authority) -> Iterator[Postfix]:
    """Debian's Postfix, in many personalities: one for each address."""
    home = shared / "postfix"
    home.mkdir()
    (home / "mail").mkdir()
    (home / "mail").chmod(0o777)
    services = {}
    for name, options in POSTFIX.items():
        domain = f"{name}.example"
        mail_host(zone, domain, address(name))
        certificate = authority.certify("other.example" if name == "wrong" else f"mx.{domain}")
        if "smtpd_tls" in options:
            options += f" -o smtpd_tls_cert_file={certificate} -o smtpd_tls_key_file={certificate}"
        port = 587 if name == "login" else 25
        services[f"{address(name)}:{port}"] = options
    settings = SETTINGS.format(home=home, office=OFFICE)
    yield from network.within(_postfix(home, launch, settings, services))


def _postfix(home: Path, *how) -> Iterator[Postfix]:
    with run_postfix(home, *how) as process:
        yield Postfix(process, home)


@pytest.fixture
def ann(office) -> Account:
    return office.new_account()


class Client(smtplib.SMTP):
    """A client that remembers the reply to its message: the log may tell of its end before."""

    def data(self, msg):
        self.taken = super().data(msg)
        return self.taken


@pytest.fixture
def submit(office, ann):
    """Sends as Ann; the message's id."""

    def submit(text: bytes, *to: str, mail=(), rcpt=()) -> str:
        with Client("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client.login(ann.address, ann.password)
            client.sendmail(ann.address, list(to), text, list(mail), list(rcpt))
        return client.taken[1].decode().partition("Taken, ")[2]

    return submit


@pytest.fixture
def queue(office):
    """Runs ``postoffice queue`` for the office; what it prints."""

    def queue(*words: str) -> str:
        done = run("queue", *words, cwd=office.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return queue
