"""Clients that others wrote collect from the live post office, in clear and over TLS."""

from __future__ import annotations

import mailbox
import os
import poplib
import pty
import select
import shutil
import smtplib
import subprocess
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path

import pytest

from postoffice.testing import ScramClient, finish

#: What waits for each user: dots, a long line, and many lines.
TEXTS = [
    b"Subject: one\r\nFrom: a@example.org\r\n\r\nfirst\r\n.\r\n..\r\nlast\r\n",
    b"Subject: two\r\nFrom: a@example.org\r\n\r\n" + b"x" * 1500 + b"\r\n",
    b"Subject: three\r\nFrom: a@example.org\r\n\r\n" + b"a line\r\n" * 5000,
]
SECONDS = 60
#: In clear, by STLS, and with TLS from the first octet.
LINKS = ("clear", "stls", "pop3s")
MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")


@dataclass
class User:
    """One of our own, who can log in by all mechanisms, and whose mail waits."""

    address: str
    password: str
    shared: str

    def secret(self, mechanism: str) -> str:
        return self.shared if mechanism in ("CRAM-MD5", "APOP") else self.password


@pytest.fixture
def user(whole_office) -> User:
    account = whole_office.new_account()
    with whole_office.directory() as directory:
        finish(directory.set_shared(account.address, "a secret of its own"))
    with smtplib.SMTP("127.0.0.1", whole_office.smtp, "pc.example.org", timeout=30) as client:
        for text in TEXTS:
            client.sendmail("a@example.org", [account.address], text)
    return User(account.address, account.password, "a secret of its own")


@pytest.fixture
def port(whole_office):
    """Where to connect for a link."""
    return lambda link: whole_office.ports["pop3s" if link == "pop3s" else "pop3"]


@pytest.fixture
def believed(whole_office) -> Path:
    """The certificate that clients believe."""
    return whole_office.folder / "mail.example.net.pem"


@pytest.fixture
def program(tmp_path):
    """Runs a mail program in a home of its own; skips where it is missing."""

    def program(*words: str, status: int = 0) -> str:
        if not shutil.which(words[0]):
            pytest.skip(f"{words[0]} is not installed")
        done = subprocess.run(
            words, capture_output=True, timeout=SECONDS, cwd=tmp_path, env=home(tmp_path)
        )
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert done.returncode == status, said
        return said

    return program


def home(folder: Path) -> dict[str, str]:
    """The environment of a user who lives there."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
    return {**kept, "HOME": str(folder), "FETCHMAILHOME": str(folder), "TERM": "xterm"}


def delivered(folder: Path) -> list[bytes]:
    """What a program has put into a Maildir, in the order of our own names, as it came."""
    found = [path.read_bytes() for path in (folder / "new").iterdir()]
    return sorted(text.replace(b"\r\n", b"\n") for text in found)


def whole(found: list[bytes]) -> None:
    """All that was posted is there, octet for octet below what was put on top."""
    bodies = sorted(text.partition(b"\n\n")[2] for text in found)
    assert bodies == sorted(text.replace(b"\r\n", b"\n").partition(b"\n\n")[2] for text in TEXTS)


# -- poplib ----------------------------------------------------------------------------------


def connect(port, link: str, trusted) -> poplib.POP3:
    if link == "pop3s":
        return poplib.POP3_SSL("localhost", port(link), timeout=SECONDS, context=trusted)
    client = poplib.POP3("localhost", port(link), timeout=SECONDS)
    if link == "stls":
        client.stls(context=trusted)
    return client


def ask(client: poplib.POP3, line: bytes) -> bytes:
    client._putline(line)
    return client._getline()[0]


def take_all(client: poplib.POP3) -> None:
    whole([b"\n".join(client.retr(number)[1]) + b"\n" for number in (1, 2, 3)])
    for number in (1, 2, 3):
        client.dele(number)
    assert client.quit() == b"+OK 3 deleted, goodbye"


@pytest.mark.parametrize("link", LINKS)
def test_poplib(whole_office, port, trusted, user, link):
    client = connect(port, link, trusted)
    capabilities = client.capa()
    assert {"TOP", "UIDL", "PIPELINING", "USER", "SASL", "IMPLEMENTATION"} <= capabilities.keys()
    assert set(MECHANISMS) <= set(capabilities["SASL"])
    assert ("SCRAM-SHA-256-PLUS" in capabilities["SASL"]) is (link != "clear")
    assert ("STLS" in capabilities) is (link == "clear")
    client.user(user.address)
    client.pass_(user.password)
    take_all(client)
    assert whole_office.collect(user) == []
    whole_office.wait_for(f"login id=.* account={user.address} ")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_auth_step_by_step(port, trusted, user, mechanism):
    client = connect(port, "stls", trusted)
    challenge = ask(client, b"AUTH " + mechanism.encode())
    words = [user.address.encode(), user.secret(mechanism).encode()]
    if mechanism == "PLAIN":
        words = [b"\0" + b"\0".join(words)]
    elif mechanism == "CRAM-MD5":
        digest = hmac(words[1], b64decode(challenge[2:]), "md5").hexdigest().encode()
        words = [words[0] + b" " + digest]
    for word in words:
        assert challenge.startswith(b"+ ")
        challenge = ask(client, b64encode(word))
    assert challenge.startswith(b"+OK 3 messages (")
    take_all(client)


@pytest.mark.parametrize("between", [False, True], ids=["the office", "somebody in between"])
@pytest.mark.parametrize("link", ["stls", "pop3s"])
def test_scram_plus_shows_who_is_at_the_other_end(port, trusted, user, link, between):
    """Somebody in between has a certificate of his own."""
    client = connect(port, link, trusted)
    seen = client.sock.getpeercert(binary_form=True)
    end_point = sha256(b"his" if between else seen).digest()
    gs2 = b"p=tls-server-end-point,,"
    joe = ScramClient(user.address.encode(), user.password.encode(), b"x", gs2, end_point)
    first = ask(client, b"AUTH SCRAM-SHA-256-PLUS " + b64encode(joe.first))
    client._putline(b64encode(joe.final(b64decode(first[2:]))))
    if between:
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client._getresp()
        client.close()
    else:
        assert b64decode(client._getresp()[2:]) == joe.verdict
        assert ask(client, b"").startswith(b"+OK 3 messages (")
        take_all(client)


def test_poplib_by_apop(whole_office, user):
    client = poplib.POP3("localhost", whole_office.places["pop3"][1], timeout=SECONDS)
    assert "USER" not in client.capa()
    with pytest.raises(poplib.error_proto, match="AUTH"):
        client.apop(user.address, user.password)
    client.apop(user.address, user.shared)
    take_all(client)


def test_the_stamp_is_another_for_each_client_and_stands_where_apop_is_alone(whole_office):
    stamps = set()
    for _ in range(3):
        client = poplib.POP3("localhost", whole_office.places["pop3"][1], timeout=SECONDS)
        stamp = client.getwelcome().rpartition(b" ")[2]
        assert stamp.startswith(b"<")
        assert stamp.endswith(b"@mail.example.net>")
        stamps.add(stamp)
        client.close()
    assert len(stamps) == 3
    client = poplib.POP3("localhost", whole_office.pop3, timeout=SECONDS)
    assert b"<" not in client.getwelcome()
    client.close()


def test_commands_put_behind_stls_are_not_obeyed(raw, whole_office, trusted, user):
    here = "127.0.0.9"
    injected = f"USER {user.address}\r\nPASS {user.password}\r\nDELE 1\r\nQUIT\r\n".encode()
    with raw(whole_office.pop3, here) as client:
        client.hear()
        client.say(b"NOOP\r\nSTLS\r\n" + injected)
        assert client.rest().splitlines()[1:] == [
            b"-ERR no command may follow STLS before TLS has begun"
        ]
    whole_office.wait_for(f"injected .* client={here} command=STLS")
    assert len(whole_office.collect(user)) == 3


def test_a_user_name_in_clear_is_forgotten_behind_the_handshake(raw, whole_office, trusted, user):
    with raw(whole_office.pop3) as client:
        client.hear()
        client.say(f"USER {user.address}\r\n".encode())
        assert client.hear() == [b"+OK\r\n"]
        client.say(b"STLS\r\n")
        assert client.hear() == [b"+OK begin TLS\r\n"]
        client.begin_tls(trusted)
        client.say(f"PASS {user.password}\r\nSTLS\r\nQUIT\r\n".encode())
        assert client.rest().splitlines() == [
            b"-ERR USER first",
            b"-ERR TLS has begun already",
            b"+OK goodbye",
        ]


# -- programs --------------------------------------------------------------------------------


def curl(user: User, url: str, believed: Path, *more: str, secret: str = "") -> list[str]:
    words = ["curl", "-sS", "--max-time", str(SECONDS), "--cacert", str(believed)]
    return [*words, "--user", f"{user.address}:{secret or user.password}", *more, url]


@pytest.mark.parametrize("link", LINKS)
def test_curl(user, port, believed, program, link):
    scheme, more = ("pop3s" if link == "pop3s" else "pop3"), ["--login-options", "AUTH=PLAIN"]
    more += ["--ssl-reqd"] * (link == "stls")
    url = f"{scheme}://localhost:{port(link)}"
    assert len(program(*curl(user, f"{url}/", believed, *more)).splitlines()) == 3
    said = program(*curl(user, f"{url}/1", believed, *more, "-v"))
    assert "\nfirst\n.\n..\nlast\n" in said.replace("\r", "")
    assert ("> STLS" in said) is (link == "stls")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "+APOP"])
def test_curl_logs_in_as_it_is_told(whole_office, user, port, believed, program, mechanism):
    apop = mechanism == "+APOP"
    place = whole_office.places["pop3"][1] if apop else port("clear")
    told = ["--login-options", f"AUTH={mechanism}"]
    secret = user.secret(mechanism.lstrip("+"))
    said = program(*curl(user, f"pop3://localhost:{place}/", believed, *told, "-v", secret=secret))
    assert said.startswith("1 ")
    assert ("> APOP" in said) is apop


def fetchmailrc(folder: Path, user: User, place: int, believed: Path, how: str, auth: str) -> str:
    secret = user.secret("APOP" if how == "apop" else auth.upper())
    ssl = {"pop3s": "ssl", "stls": 'sslproto "TLS1.2+"'}.get(how, 'sslproto ""')
    certificates = f'sslcertck sslcertfile "{believed}"' if how in ("pop3s", "stls") else ""
    protocol = "APOP" if how == "apop" else "POP3"
    path = folder / "fetchmailrc"
    path.write_text(
        f"poll localhost protocol {protocol} service {place} auth {auth}\n"
        f'  user "{user.address}" password "{secret}" {ssl} {certificates}\n'
        f'  fetchall nokeep no rewrite mda "cat > {folder}/out/new/$$"\n'
    )
    path.chmod(0o600)
    (folder / "out" / "new").mkdir(parents=True)
    return str(path)


@pytest.mark.parametrize(
    ("how", "auth"),
    [("clear", "password"), ("stls", "password"), ("pop3s", "password"), ("stls", "cram-md5"),
     ("apop", "password")],
)  # fmt: skip
def test_fetchmail(whole_office, user, port, believed, program, tmp_path, how, auth):
    place = whole_office.places["pop3"][1] if how == "apop" else port(how)
    rc = fetchmailrc(tmp_path, user, place, believed, how, auth)
    alone = ("--pidfile", f"{tmp_path}/pid")  # as root it has one for the whole machine
    program("fetchmail", "--fetchmailrc", rc, "--verbose", "--nodetach", "--nosyslog", *alone)
    whole(delivered(tmp_path / "out"))
    assert whole_office.collect(user) == []


@pytest.mark.parametrize("link", ["clear", "pop3s"])
def test_getmail(whole_office, user, port, believed, program, tmp_path, link):
    """It knows no STLS."""
    (tmp_path / "out" / "new").mkdir(parents=True)
    retriever = "SimplePOP3SSLRetriever" if link == "pop3s" else "SimplePOP3Retriever"
    certificates = f"ca_certs = {believed}\n" if link == "pop3s" else ""
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = {retriever}\nserver = localhost\nport = {port(link)}\n"
        f"username = {user.address}\npassword = {user.password}\n{certificates}"
        "[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
        f'arguments = ("-c", "cat > {tmp_path}/out/new/$$")\n'
        "[options]\ndelete = true\nread_all = true\n"
    )
    (tmp_path / "getmailrc").chmod(0o600)
    program("getmail", "--getmaildir", str(tmp_path), "--rcfile", "getmailrc")
    whole(delivered(tmp_path / "out"))
    assert whole_office.collect(user) == []


def mpop(user: User, place: int, folder: Path, *more: str, mechanism: str = "on") -> list[str]:
    for name in ("cur", "new", "tmp"):
        (folder / "out" / name).mkdir(parents=True)
    words = ["mpop", "--host=localhost", f"--port={place}", f"--user={user.address}"]
    words += [f"--passwordeval=echo '{user.secret(mechanism)}'", f"--auth={mechanism.lower()}"]
    return [*words, f"--delivery=maildir,{folder}/out", "--keep=off", "--timeout=30", *more]


@pytest.mark.parametrize("pipelining", ["on", "off"])
@pytest.mark.parametrize("link", LINKS)
def test_mpop(whole_office, user, port, believed, program, tmp_path, link, pipelining):
    tls = [f"--tls-trust-file={believed}", "--tls=on"] if link != "clear" else ["--tls=off"]
    starttls = f"--tls-starttls={'on' if link == 'stls' else 'off'}"
    words = mpop(user, port(link), tmp_path, *tls, starttls, mechanism="PLAIN")
    program(*words, f"--pipelining={pipelining}")
    whole(delivered(tmp_path / "out"))
    assert whole_office.collect(user) == []


@pytest.mark.parametrize("mechanism", [*MECHANISMS, "USER", "APOP"])
def test_mpop_logs_in_as_it_is_told(
    whole_office, user, port, believed, program, tmp_path, mechanism
):
    place = whole_office.places["pop3"][mechanism == "APOP"]
    tls = [f"--tls-trust-file={believed}", "--tls=on", "--tls-starttls=on"]
    program(*mpop(user, place, tmp_path, *tls, mechanism=mechanism))
    whole(delivered(tmp_path / "out"))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "USER"])
def test_mpop_with_a_wrong_password(whole_office, user, port, program, tmp_path, mechanism):
    user.password = user.shared = "wrong"
    words = mpop(user, port("clear"), tmp_path, "--tls=off", mechanism=mechanism)
    assert "authentication failed" in program(*words, status=77)
    user.password = whole_office.PASSWORD
    assert len(whole_office.collect(user)) == 3


def on_a_terminal(words: list[str], folder: Path) -> bytes:
    """What a program shows that wants a terminal."""
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    ours, its = pty.openpty()
    process = subprocess.Popen(
        words, stdin=its, stdout=its, stderr=its, cwd=folder, env=home(folder),
        start_new_session=True,
    )  # fmt: skip
    os.close(its)
    shown = b""
    try:
        while select.select([ours], [], [], SECONDS)[0]:
            shown += os.read(ours, 65536)
    except OSError:  # it has closed its side
        pass
    os.close(ours)
    process.terminate()
    process.wait(SECONDS)
    return shown


@pytest.mark.parametrize(
    ("link", "mechanism"),
    [("clear", "user"), ("stls", "user"), ("pop3s", "user"), ("stls", "scram-sha-256")],
)
def test_mutt(whole_office, user, port, believed, tmp_path, link, mechanism):
    scheme = "pops" if link == "pop3s" else "pop"
    (tmp_path / "muttrc").write_text(
        f'set pop_host="{scheme}://localhost:{port(link)}"\n'
        f'set pop_user="{user.address}" pop_pass="{user.password}" pop_delete=yes\n'
        f'set pop_authenticators="{mechanism}" ssl_ca_certificates_file="{believed}"\n'
        f"set ssl_starttls={'yes' if link == 'stls' else 'no'} ssl_force_tls=no\n"
        f'set mbox_type=mbox spoolfile="{tmp_path}/box" folder="{tmp_path}" record=""\n'
        "set quit=yes wait_key=no beep=no sleep_time=0\n"
        'push "<fetch-mail><quit>"\n'
    )
    (tmp_path / "box").touch()
    shown = on_a_terminal(["mutt", "-n", "-F", "muttrc"], tmp_path)
    box = mailbox.mbox(tmp_path / "box")
    try:
        assert sorted(one["Subject"] for one in box) == ["one", "three", "two"], shown[-3000:]
    finally:
        box.close()
    assert whole_office.collect(user) == []
