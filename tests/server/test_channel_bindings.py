"""What is known of a TLS connection: real handshakes in memory, seen from both sides."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from postoffice.server import tls


def certificate_and_key(key, algorithm):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example.net")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
    )
    return builder.sign(key, algorithm), key


def connected(certificate, key, version=SSL.TLS1_3_VERSION) -> tuple[SSL.Connection, ...]:
    """Our side and the client's, when the handshake is over."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    ours, theirs = SSL.Connection(context, None), SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    ours.set_accept_state()
    theirs.set_connect_state()
    for _ in range(4):
        for one, other in ((theirs, ours), (ours, theirs)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return ours, theirs


P256 = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_the_end_point_is_the_hash_of_the_certificate_that_the_client_sees(digest):
    algorithm = getattr(hashes, digest.upper())()
    ours, theirs = connected(*certificate_and_key(P256, algorithm))
    seen = theirs.get_peer_certificate(as_cryptography=True).public_bytes(Encoding.DER)
    assert tls.bindings(ours)["tls-server-end-point"] == hashlib.new(digest, seen).digest()


@pytest.mark.parametrize("algorithm", [hashes.MD5(), hashes.SHA1()], ids=["md5", "sha1"])
def test_hashes_that_are_broken_are_not_used_for_it(algorithm):
    """RFC 5929 §4.1.  Nothing makes such certificates any more: ours only says that it is one."""

    class Signed:
        signature_hash_algorithm = algorithm

        def to_cryptography(self):
            return self

        def fingerprint(self, algorithm):
            return algorithm.name.encode()

    class Connection:
        get_protocol_version_name = staticmethod(lambda: "TLSv1.2")
        get_certificate = staticmethod(Signed)

    assert tls.bindings(Connection()) == {"tls-server-end-point": b"sha256"}


def test_a_signature_without_a_hash_has_no_end_point():
    key = ed25519.Ed25519PrivateKey.generate()
    ours, _ = connected(*certificate_and_key(key, None))
    assert set(tls.bindings(ours)) == {"tls-exporter"}


def test_a_signature_that_nobody_knows_has_no_end_point_and_is_no_fault():
    """As those of tomorrow are to the libraries of today."""
    known, key = certificate_and_key(P256, hashes.SHA256())
    ecdsa_with_sha256 = bytes.fromhex("2a8648ce3d040302")
    octets = known.public_bytes(Encoding.DER)
    assert octets.count(ecdsa_with_sha256) == 2
    unknown = octets.replace(ecdsa_with_sha256, ecdsa_with_sha256[:-1] + b"\x63")
    ours, _ = connected(x509.load_der_x509_certificate(unknown), key)
    assert set(tls.bindings(ours)) == {"tls-exporter"}


def test_what_is_exported_is_the_same_on_both_sides_and_another_on_every_link():
    pair = certificate_and_key(P256, hashes.SHA256())
    exported = []
    for _ in range(2):
        ours, theirs = connected(*pair)
        found = tls.bindings(ours)["tls-exporter"]
        assert found == theirs.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        exported.append(found)
    assert exported[0] != exported[1]


@pytest.mark.parametrize(
    ("version", "name", "exported"),
    [(SSL.TLS1_2_VERSION, "TLSv1.2", False), (SSL.TLS1_3_VERSION, "TLSv1.3", True)],
    ids=["1.2", "1.3"],
)
def test_only_tls_1_3_exports_and_the_log_says_which_it_is(version, name, exported):
    ours, _ = connected(*certificate_and_key(P256, hashes.SHA256()), version)
    assert ("tls-exporter" in tls.bindings(ours)) is exported
    assert tls.describe(ours).startswith(f"{name} ")
