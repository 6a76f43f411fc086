"""The `postoffice` command: certificates for first tries, and by what accounts can log in."""

from __future__ import annotations

import hmac
import os
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from zope.interface import implementer

from postoffice.accounts.passwords import hash_password
from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account
from postoffice.server.certificates import CertificateFiles, load
from postoffice.testing import finish
from twisted.plugins.postoffice_makers import SQLiteMaker

ANN = "ann@example.net"


# -- init --tls-self-signed -------------------------------------------------------------


@pytest.fixture
def certified(run, ask):
    """Made by init, with a certificate: what it said."""
    return ask(
        *("init", "new", "--hostname", "mail.example.net"),
        *("--domain", "example.net", "--domain", "bücher.example", "--domain", "mail.example.net"),
        "--tls-self-signed",
    )


def test_init_makes_a_certificate_for_all_its_names(certified):
    assert (certified["certificate"], certified["key"]) == (
        "new/tls/certificate.pem",
        "new/tls/key.pem",
    )
    loaded = load(CertificateFiles(certified["certificate"], certified["key"]))
    names = ("mail.example.net", "example.net", "xn--bcher-kva.example", "localhost")
    assert loaded.names == names
    left = loaded.until - datetime.now(UTC)
    assert timedelta(days=824) < left <= timedelta(days=825), "clients take no longer ones"


@pytest.mark.parametrize(
    "host",
    ["mail.example.net", "example.net", "xn--bcher-kva.example", "localhost", "127.0.0.1", "::1"],
)
def test_strict_clients_that_know_the_certificate_trust_it(certified, host):
    theirs = ssl.create_default_context(cafile=certified["certificate"])
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certified["certificate"], certified["key"])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(down, up, server_hostname=host)
    server = ours.wrap_bio(up, down, server_side=True)
    for end in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert client.getpeercert()


def test_strangers_do_not_trust_it(certified):
    with pytest.raises(ssl.SSLCertVerificationError):
        test_strict_clients_that_know_the_certificate_trust_it(certified, "elsewhere.example")


def test_the_key_is_its_owners_alone_whatever_the_umask(run, tmp_path):
    before = os.umask(0)
    try:
        run("init", "new", "--hostname", "mail.example.net", "--tls-self-signed")
    finally:
        os.umask(before)
    tls = tmp_path / "new" / "tls"
    assert stat.S_IMODE(tls.stat().st_mode) == 0o700
    assert stat.S_IMODE((tls / "key.pem").stat().st_mode) == 0o600


def test_with_a_certificate_tls_is_open(certified, run, ask):
    there = "--config=new/postoffice.yaml"
    assert ask("check-config", there)["warnings"] == []
    said = run("check-config", there).output
    assert "submissions tcp:2465:interface=127.0.0.1\n" in said
    assert "pop3s       tcp:2995:interface=127.0.0.1\n" in said


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem"])
def test_init_overwrites_no_certificate_and_no_key(name, run, tmp_path):
    tls = tmp_path / "new" / "tls"
    tls.mkdir(parents=True)
    (tls / name).write_text("precious")
    said = run("init", "new", "--tls-self-signed", status=1).stderr
    assert f"new/tls/{name}: File exists" in said
    assert (tls / name).read_text() == "precious"
    assert not (tmp_path / "new" / "postoffice.yaml").exists()
    assert [path.name for path in tls.iterdir()] == [name], "no half of a pair is left"


def test_init_does_not_write_its_key_through_a_link(run, tmp_path):
    tls = tmp_path / "new" / "tls"
    tls.mkdir(parents=True)
    (tls / "key.pem").symlink_to(tmp_path / "elsewhere")
    run("init", "new", "--tls-self-signed", status=1)
    assert not (tmp_path / "elsewhere").exists()


# -- check-config -----------------------------------------------------------------------


def configure(office, text: str) -> None:
    """More, and other, keys of the least configuration."""
    (office / "postoffice.yaml").write_text(
        f"hostname: mail.example.net\npostmaster: postmaster@example.net\nstate: state\n{text}"
    )


def offer(office, *mechanisms: str) -> None:
    words = ", ".join(mechanisms)
    configure(
        office,
        f'listeners:\n  submission: [{{endpoint: "tcp:2587", mechanisms: [{words}]}}]\n',
    )


@pytest.fixture
def ann(furnish):
    """An account with a password that the command has set."""
    furnish(f"account add {ANN} --generate")
    return ANN


@pytest.fixture
def old(directory):
    """An account from before there were keys for SCRAM."""
    finish(directory.add("old@example.net", hash_password(b"x")))


SCRAM_IS_LACKING = (
    "SCRAM-SHA-256 is offered by submission: 1 of 2 accounts have no keys for it yet; they get "
    "them at their next login with a password"
)
SECRETS_ARE_LACKING = (
    "CRAM-MD5 is offered by submission: 2 of 2 accounts have no shared secret; "
    "postoffice account set ADDRESS --generate-shared-secret"
)


@pytest.mark.parametrize(
    ("mechanisms", "warnings"),
    [
        (("SCRAM-SHA-256", "PLAIN"), [SCRAM_IS_LACKING]),
        (("CRAM-MD5",), [SECRETS_ARE_LACKING]),
        (("SCRAM-SHA-256", "CRAM-MD5"), [SCRAM_IS_LACKING, SECRETS_ARE_LACKING]),
        (("PLAIN", "LOGIN"), []),
    ],
)
def test_accounts_that_cannot_use_what_is_offered_are_counted(
    ann, old, office, ask, run, mechanisms, warnings
):
    offer(office, *mechanisms)
    assert ask("check-config")["warnings"] == warnings
    said = run("check-config")
    assert [line for line in said.stdout.splitlines() if line.startswith("warning: ")] == [
        f"warning: {warning}" for warning in warnings
    ]


def test_all_services_that_offer_it_are_named(ann, office, ask):
    offered = "{{endpoint: 'tcp:{}', mechanisms: [CRAM-MD5]}}"
    places = f"[{offered.format(2587)}, {offered.format(2588)}]"
    certificate(office, 90)
    configure(
        office,
        "tls: {certificates: [{certificate: one.pem, key: one.pem}]}\n"
        f"listeners:\n  submission: {places}\n  submissions: [{offered.format(2465)}]\n",
    )
    (warning,) = ask("check-config")["warnings"]
    assert warning.startswith("CRAM-MD5 is offered by submission, submissions: 1 of 1 account ")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5", "APOP"])
def test_so_are_those_of_pop3(mechanism, old, office, ask):
    place = f"[{{endpoint: 'tcp:2110', mechanisms: [{mechanism}]}}]"
    configure(office, f"listeners:\n  pop3: {place}\n")
    (warning,) = ask("check-config")["warnings"]
    assert warning.startswith(f"{mechanism} is offered by pop3: 1 of 1 account ")


def test_those_in_files_are_counted_too(office, ask):
    (office / "state" / "passwd").write_text(
        "ann@example.net:{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y=\nbob@example.net:{PLAIN}x\n"
    )
    offer(office, "SCRAM-SHA-256", "CRAM-MD5")
    with open(office / "postoffice.yaml", "a") as file:
        file.write("accounts: [{kind: sqlite}, {kind: passwd-file, path: passwd}]\n")
    assert ask("check-config")["warnings"] == [
        f"{mechanism} is offered by submission: {count} of 2 accounts in directories that are only "
        "read cannot use it: see docs/directories.rst"
        for mechanism, count in (("SCRAM-SHA-256", 2), ("CRAM-MD5", 1))
    ]


def test_those_who_cannot_log_in_at_all_are_not_counted(office, ask):
    """The postmaster has no password yet."""
    offer(office, "SCRAM-SHA-256", "CRAM-MD5")
    assert ask("check-config")["warnings"] == []


def test_an_account_with_all_secrets_is_not_counted_any_more(ann, office, run, ask):
    offer(office, "SCRAM-SHA-256", "CRAM-MD5")
    assert len(ask("check-config")["warnings"]) == 1
    run("account", "set", ann, "--generate-shared-secret")
    assert ask("check-config")["warnings"] == []


def test_counting_makes_no_accounts_where_there_are_none_yet(run, ask, tmp_path):
    (tmp_path / "state").mkdir()
    offer(tmp_path, "SCRAM-SHA-256")
    assert ask("check-config")["warnings"] == []
    assert list((tmp_path / "state").iterdir()) == []


def test_a_directory_that_cannot_be_counted_is_no_problem(office, ask, monkeypatch):
    @implementer(IAccountDirectory)
    class ReadOnly:
        async def start(self):
            pass

        async def stop(self):
            pass

        async def serves(self, domain):
            return True

        async def find(self, name):
            return Account(name, name)

    monkeypatch.setattr(SQLiteMaker, "make", lambda *args: ReadOnly())
    offer(office, "SCRAM-SHA-256")
    assert ask("check-config")["warnings"] == []


def certificate(folder, days: float) -> str:
    """The words that put a certificate of these days into the configuration."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example.net")])
    end = datetime.now(UTC) + timedelta(days=days)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    signed = made.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "one.pem").write_bytes(
        signed.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return f"{end:%Y-%m-%d}"


ONE = "tls:\n  certificates:\n    - {certificate: one.pem, key: one.pem}\n"


@pytest.mark.parametrize(("days", "told"), [(-3, True), (13, True), (15, False)])
def test_certificates_that_end_soon_are_a_warning(days, told, office, ask):
    day = certificate(office, days)
    configure(office, ONE)
    warnings = [f"{office}/one.pem ends on {day}"] if told else []
    assert ask("check-config")["warnings"] == warnings


def test_certificates_that_cannot_be_used_are_problems(office, ask):
    certificate(office, 30)
    configure(office, ONE + "    - {certificate: two.pem, key: one.pem}\n")
    (problem,) = ask("check-config", status=2)["problems"]
    assert problem == {
        "file": "postoffice.yaml",
        "line": 7,
        "key": "tls.certificates[1]",
        "text": f"{office}/two.pem cannot be read: No such file or directory",
    }


# -- account set, account show ----------------------------------------------------------


def mechanisms(ask) -> list[str]:
    return ask("account", "show", ANN)["mechanisms"]


def test_an_account_is_shown_with_all_by_which_it_can_log_in(ann, run, ask):
    by_password = ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    assert mechanisms(ask) == by_password
    run("account", "set", ann, "--generate-shared-secret")
    assert mechanisms(ask) == ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "APOP"]
    shown = run("account", "show", ann).output
    assert "logs in by  SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN, APOP\n" in shown
    run("account", "set", ann, "--no-shared-secret")
    assert mechanisms(ask) == by_password


def test_an_account_without_a_password_is_shown_so(office, run):
    shown = run("account", "show", "postmaster@example.net").output
    assert "password    no: nobody can log in\n" in shown
    assert "logs in by  nothing\n" in shown


def test_a_password_from_before_there_were_keys(old, ask):
    assert ask("account", "show", "old@example.net")["mechanisms"] == ["PLAIN", "LOGIN"]


def test_a_new_password_leaves_the_shared_secret(ann, run, ask, directory):
    run("account", "set", ann, "--shared-secret-stdin", text="shared\n")
    run("account", "passwd", ann, "--generate")
    assert finish(directory.find(ann)).shared == "shared"


@pytest.mark.parametrize("text", ["a sécret", "a sécret\n", "a sécret\r\n"])
def test_a_shared_secret_comes_from_a_pipe_and_lies_there_sealed(text, ann, ask, directory, office):
    said = ask("account", "set", ann, "--shared-secret-stdin", text=text)
    assert said == {"address": ann, "changed": True}
    assert finish(directory.find(ann)).shared == "a sécret"
    kept = b"".join(path.read_bytes() for path in (office / "state").iterdir() if path.is_file())
    assert "a sécret".encode() not in kept


def test_a_shared_secret_is_made_up_and_shown_once(ann, run, ask, directory):
    said = ask("account", "set", ann, "--generate-shared-secret")
    assert set(said) == {"address", "changed", "generated_shared_secret"}
    shared = finish(directory.find(ann)).shared
    assert hmac.compare_digest(shared, said["generated_shared_secret"])
    assert shared not in run("account", "show", ann).output
    shown = run("account", "set", ann, "--generate-shared-secret").output
    assert f"shared secret: {finish(directory.find(ann)).shared}\n" in shown


def test_it_is_said_for_what_a_shared_secret_is(run):
    told = " ".join(run("account", "set", "--help").output.replace("CRAM- MD5", "CRAM-MD5").split())
    assert told.count("APOP") == 4
    assert "for CRAM-MD5 alone" not in told


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "NUL\0", "x" * 201])
def test_a_shared_secret_that_is_none(text, ann, run, ask):
    run("account", "set", ann, "--shared-secret-stdin", text=text, status=2)
    assert "CRAM-MD5" not in mechanisms(ask)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--generate-shared-secret", "--no-shared-secret"),
        ("--shared-secret-stdin", "--generate-shared-secret"),
    ],
)
def test_account_set_does_one_thing_at_a_time(options, ann, ask):
    (said,) = ask("account", "set", ann, *options, status=2).values()
    assert "give one of --shared-secret-stdin, --generate-shared-secret, --no-" in said


def test_nobody_has_no_shared_secret(office, run):
    said = run("account", "set", "nobody@example.net", "--no-shared-secret", status=1).stderr
    assert "there is no account nobody@example.net here" in said
