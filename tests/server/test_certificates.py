"""Certificates: real files, real handshakes in memory; time is a Clock."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.internet.task import Clock

from postoffice.model.errors import StartupError
from postoffice.server.certificates import (
    LOOKS,
    REMINDERS,
    CertificateFiles,
    Certificates,
    Unusable,
    load,
)
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
OPENSSL = serialization.PrivateFormat.TraditionalOpenSSL


def made(*names: str, days: float = 90, common: str = "", by=None, key=None, theirs: str = ""):
    """A certificate for these names with its key, by itself or by such a pair."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common or "x")])
    issuer, signer = (subject, key) if by is None else (by[0].subject, by[1])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    if theirs:
        alternatives = x509.IssuerAlternativeName([x509.DNSName(theirs)])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def written(folder, pair, *chain, form=PKCS8, password: bytes | None = None) -> CertificateFiles:
    """The files of a pair, and of the chain behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(one.public_bytes(PEM) for one in (pair[0], *chain)))
    secrecy = serialization.NoEncryption()
    if password is not None:
        secrecy = serialization.BestAvailableEncryption(password)
    key.write_bytes(pair[1].private_bytes(PEM, form, secrecy))
    return CertificateFiles(str(certificate), str(key))


def shown(certificates: Certificates, name: bytes | None = None) -> list[x509.Certificate]:
    """What a client sees that asks for this host: a whole handshake."""
    server = certificates.serverConnectionForTLS(None)
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    if name is not None:
        client.set_tlsext_host_name(name)
    client.set_connect_state()
    server.set_accept_state()
    ends = ((client, server), (server, client))
    done = set()
    while len(done) < len(ends):
        for end, other in ends:
            try:
                end.do_handshake()
                done.add(end)
            except SSL.WantReadError:
                pass
            try:
                while True:
                    other.bio_write(end.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return [one.to_cryptography() for one in client.get_peer_cert_chain()]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(clock):
    """Certificates of these files, looked at from now on."""
    made = []

    def opened(*pairs: CertificateFiles, executor=None) -> Certificates:
        made.append(Certificates(pairs, executor or ImmediateExecutor(), clock))
        made[-1].load_now()
        finish(made[-1].start())
        return made[-1]

    yield opened
    for one in made:
        finish(one.stop())
    assert not clock.getDelayedCalls()


# -- loading ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [PKCS8, OPENSSL], ids=["pkcs8", "openssl"])
def test_a_client_is_shown_the_certificate_and_its_chain(tmp_path, opened, form):
    authority = made(common="authority")
    pair = made("mail.example.net", by=authority)
    certificates = opened(written(tmp_path, pair, authority[0], form=form))
    assert certificates.ready
    assert shown(certificates) == [pair[0], authority[0]]


def test_the_certificate_and_its_key_may_lie_in_one_file(tmp_path, opened):
    pair = made("mail.example.net")
    files = written(tmp_path, pair)
    with open(files.certificate, "ab") as whole, open(files.key, "rb") as key:
        whole.write(key.read())
    certificates = opened(CertificateFiles(files.certificate, files.certificate))
    assert shown(certificates) == [pair[0]]


def test_nothing_is_ready_before_it_is_loaded(tmp_path):
    certificates = Certificates([written(tmp_path, made("x"))], ImmediateExecutor(), Clock())
    assert not certificates.ready


def test_one_that_is_started_without_being_loaded_loads_by_itself(tmp_path, clock):
    certificates = Certificates([written(tmp_path, made("x"))], ImmediateExecutor(), clock)
    finish(certificates.start())
    assert certificates.ready
    finish(certificates.stop())


def _wrong_key(files, path):
    other = written(path / "other", made("x"))
    return CertificateFiles(files.certificate, other.key)


def _small_key(files, path):
    return written(path / "small", made("x", key=rsa.generate_private_key(65537, 1024)))


def patched(folder, old: bytes, new: bytes) -> CertificateFiles:
    """Files of a certificate some of whose octets are others than it was signed with."""
    certificate, key = made("mail.example.net", common="old.example", theirs="ca.example.net")
    files = written(folder / "patched", (certificate, key))
    octets = certificate.public_bytes(serialization.Encoding.DER)
    assert octets.count(old) == 1
    (folder / "patched" / "certificate.pem").write_text(
        ssl.DER_cert_to_PEM_cert(octets.replace(old, new))
    )
    return files


def _version_8(files, path):
    return patched(path, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")


def _passphrase(form):
    def locked(files, path):
        return written(path / "locked", made("x"), form=form, password=b"secret")

    return locked


def _no_certificate(files, path):
    (path / "certificate.pem").write_text("no certificate\n")
    return files


def _no_key(files, path):
    (path / "key.pem").write_text("no key\n")
    return files


def _swapped(files, path):
    return CertificateFiles(files.key, files.certificate)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_wrong_key, r"other/key\.pem does not belong to the certificate .*/certificate\.pem"),
        (_small_key, r"small/key\.pem cannot be used with .*: ee key too small$"),
        (_version_8, r"patched/certificate\.pem has no certificate in PEM form: 7 is not a valid"),
        (_passphrase(PKCS8), r"locked/key\.pem has a passphrase; take it away: openssl pkey$"),
        (_passphrase(OPENSSL), r"locked/key\.pem has a passphrase; take it away: openssl pkey$"),
        (_no_certificate, r"certificate\.pem has no certificate in PEM form: ."),
        (_no_key, r"key\.pem has no private key in PEM form: ."),
        (_swapped, r"key\.pem has no certificate in PEM form: ."),
        (
            lambda files, path: CertificateFiles(str(path / "no.pem"), files.key),
            r"no\.pem cannot be read: No such file or directory$",
        ),
        (
            lambda files, path: CertificateFiles(files.certificate, str(path)),
            r" cannot be read: Is a directory$",
        ),
    ],
    ids=[
        "the key of another",
        "a key that is too small",
        "a version that there is not",
        "a passphrase",
        "a passphrase in the old form",
        "no certificate",
        "no key",
        "swapped",
        "missing",
        "a folder",
    ],
)
def test_what_cannot_be_used_is_told_by_its_file(spoil, why, tmp_path):
    files = spoil(written(tmp_path, made("mail.example.net")), tmp_path)
    with pytest.raises(Unusable, match=why) as caught:
        load(files)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_only_root_may_read(tmp_path):
    files = written(tmp_path, made("x"))
    (tmp_path / "key.pem").chmod(0)
    with pytest.raises(Unusable, match=r"key\.pem cannot be read: Permission denied$"):
        load(files)


def test_all_that_is_wrong_is_told_at_once_and_nobody_is_let_in(tmp_path):
    good = written(tmp_path, made("x"))
    pairs = [
        CertificateFiles("/no/one.pem", good.key),
        good,
        CertificateFiles("/no/two.pem", good.key),
    ]
    certificates = Certificates(pairs, ImmediateExecutor(), Clock())
    with pytest.raises(StartupError) as caught:
        certificates.load_now()
    assert [line.partition(" ")[0] for line in str(caught.value).split("\n")] == [
        "/no/one.pem",
        "/no/two.pem",
    ]
    assert not certificates.ready


# -- which one --------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path, opened):
    """Certificates of several hosts; what a client is shown, as its first name."""
    pairs = [
        made("mail.example.net", "example.net"),
        made("*.example.org", "Loud.Example.COM"),
        made("mail.example.org"),
        made("xn--bcher-kva.example"),
        made(common="old.example"),
    ]
    certificates = opened(*(written(tmp_path / str(n), pair) for n, pair in enumerate(pairs)))
    return lambda name: [pair[0] for pair in pairs].index(shown(certificates, name)[0])


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        (None, 0),
        (b"mail.example.net", 0),
        (b"example.net", 0),
        (b"MAIL.Example.ORG", 1),
        (b"any.example.org", 1),
        (b"a.b.example.org", 0),
        (b"example.org", 0),
        (b"loud.example.com", 1),
        (b"xn--bcher-kva.example", 3),
        (b"XN--BCHER-KVA.example", 3),
        ("bücher.example".encode(), 0),
        (b"old.example", 4),
        (b"elsewhere.example", 0),
        (b"net", 0),
    ],
)
def test_a_host_that_is_named_has_its_certificate_and_all_others_the_first(several, name, pair):
    assert several(name) == pair


def test_a_certificate_that_names_its_hosts_twice_is_for_its_common_name(tmp_path):
    issuer_alternative_name, subject_alternative_name = b"\x55\x1d\x12", b"\x55\x1d\x11"
    files = patched(tmp_path, issuer_alternative_name, subject_alternative_name)
    assert load(files).names == ("old.example",)


# -- changes ----------------------------------------------------------------------------


def _overwrite(folder, pair):
    written(folder, pair)


def _rename(folder, pair):
    files = written(folder / "draft", pair)
    for path in (files.key, files.certificate):
        os.replace(path, folder / os.path.basename(path))


@pytest.mark.parametrize("change", [_overwrite, _rename])
def test_new_files_are_taken_up(change, tmp_path, opened, clock, logged):
    old, new = made("mail.example.net"), made("mail.example.net", "more.example.net", days=60)
    files = written(tmp_path, old)
    for path in (files.certificate, files.key):
        os.utime(path, (1, 1))  # not in the same tick of the clock as the new ones
    certificates = opened(files)
    assert shown(certificates) == [old[0]]
    clock.advance(LOOKS)
    change(tmp_path, new)
    assert shown(certificates) == [old[0]]
    clock.advance(LOOKS)
    assert shown(certificates) == [new[0]]
    (line,) = [line for line in logged if " reloaded" in line]
    until = f"{new[0].not_valid_after_utc:%Y-%m-%d}"
    assert line == (
        f"certificate {files.certificate} reloaded: "
        f"for mail.example.net, more.example.net, valid until {until}"
    )


def test_new_files_behind_links_are_taken_up_as_certbot_lays_them(tmp_path, opened, clock):
    """``live/`` has links into ``archive/``, and a renewal turns one after the other."""
    pairs = [made("mail.example.net"), made("mail.example.net")]
    for number, pair in enumerate(pairs):
        written(tmp_path / "archive" / str(number), pair)
    live = tmp_path / "live"
    live.mkdir()

    def turn(name, number):
        (live / "link").symlink_to(f"../archive/{number}/{name}")
        (live / "link").replace(live / name)

    for name in ("certificate.pem", "key.pem"):
        turn(name, 0)
    certificates = opened(CertificateFiles(f"{live}/certificate.pem", f"{live}/key.pem"))
    clock.advance(LOOKS)
    assert shown(certificates) == [pairs[0][0]]
    turn("certificate.pem", 1)
    turn("key.pem", 1)
    clock.advance(LOOKS)
    assert shown(certificates) == [pairs[1][0]]


def test_a_look_between_the_two_files_keeps_the_old_pair(tmp_path, opened, clock, logged):
    old, new = made("x"), made("x")
    files = written(tmp_path, old)
    certificates = opened(files)
    draft = written(tmp_path / "draft", new)
    os.replace(draft.certificate, files.certificate)
    clock.advance(LOOKS)
    assert shown(certificates) == [old[0]]
    os.replace(draft.key, files.key)
    clock.advance(LOOKS)
    assert shown(certificates) == [new[0]]
    assert sum("does not belong to the certificate" in line for line in logged) == 1


def _break(path):
    path.write_text("-----BEGIN CERTIFICATE-----\nhalf of it")


@pytest.mark.parametrize("spoil", [_break, os.unlink], ids=["half written", "gone"])
def test_a_broken_file_is_told_once_and_the_old_one_stays(spoil, tmp_path, opened, clock, logged):
    old, new = made("x"), made("x")
    certificates = opened(written(tmp_path, old))
    spoil(tmp_path / "certificate.pem")
    clock.pump([LOOKS] * 5)
    assert certificates.ready
    assert shown(certificates) == [old[0]]
    (line,) = [line for line in logged if "the old certificate is kept" in line]
    assert line.startswith(f"reloading a certificate failed: {tmp_path}/certificate.pem ")
    written(tmp_path, new)
    clock.advance(LOOKS)
    assert shown(certificates) == [new[0]]


def test_a_changed_one_is_chosen_by_its_new_names_and_leaves_the_others(tmp_path, opened, clock):
    pairs = [made("one.example"), made("two.example"), made("three.example")]
    files = [written(tmp_path / str(n), pair) for n, pair in enumerate(pairs)]
    certificates = opened(*files)
    assert shown(certificates, b"two.example") == [pairs[1][0]]
    new = [made("one.example", "1.example"), made("two.example", "2.example")]
    for number, pair in enumerate(new):
        _rename(tmp_path / str(number), pair)
    clock.advance(LOOKS)
    assert shown(certificates, b"1.example") == [new[0][0]]
    assert shown(certificates, b"2.example") == [new[1][0]]
    assert shown(certificates, b"three.example") == [pairs[2][0]]


def test_a_fault_of_ours_does_not_end_the_looking(tmp_path, opened, clock, failures):
    class Faulty(ImmediateExecutor):
        fault = True

        def run(self, function, *args):
            if self.fault:
                raise ZeroDivisionError
            return super().run(function, *args)

    executor = Faulty()
    certificates = opened(written(tmp_path, made("x")), executor=executor)
    clock.advance(LOOKS)
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    failures.clear()
    executor.fault = False
    new = made("x")
    _rename(tmp_path, new)
    clock.advance(LOOKS)
    assert shown(certificates) == [new[0]]


def test_a_stop_during_a_look_ends_it(tmp_path, opened, clock, failures):
    executor = ManualExecutor()
    certificates = opened(written(tmp_path, made("x")), executor=executor)
    clock.advance(LOOKS)
    assert executor.waiting
    finish(certificates.stop())
    executor.work_on()
    assert not clock.getDelayedCalls()
    assert not failures


# -- the end of a certificate -----------------------------------------------------------


@pytest.mark.parametrize("days", [-1, 13])
def test_one_that_has_ended_or_ends_soon_is_spoken_of_once_a_day(
    days, tmp_path, opened, clock, logged
):
    pair = made("x", days=days)
    files = written(tmp_path / "soon", pair)
    certificates = opened(written(tmp_path / "later", made("y", days=15)), files)
    day = f"{pair[0].not_valid_after_utc:%Y-%m-%d}"
    told = f"certificate {files.certificate} expires on {day}"
    assert certificates.expiring() == [(files.certificate, day)]
    assert [line for line in logged if "expires on" in line] == [told]
    clock.pump([LOOKS] * int(REMINDERS / LOOKS - 1))
    assert logged.count(told) == 1
    clock.advance(LOOKS)
    assert logged.count(told) == 2


def test_one_that_was_renewed_is_spoken_of_no_more(tmp_path, opened, clock, logged):
    certificates = opened(written(tmp_path, made("x", days=3)))
    _rename(tmp_path, made("x"))
    clock.advance(LOOKS)
    assert certificates.expiring() == []
    clock.pump([LOOKS] * int(REMINDERS / LOOKS))
    assert sum("expires on" in line for line in logged) == 1
