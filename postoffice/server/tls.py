"""Facts of a TLS connection: a description for the log, and channel bindings for SCRAM."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from twisted.python.failure import Failure

#: RFC 9266 §2.
_EXPORTER = b"EXPORTER-Channel-Binding"
_EXPORTED = 32


def describe(connection: SSL.Connection) -> str:
    """The TLS version and the cipher, for the log."""
    return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"


def bindings(connection: SSL.Connection) -> dict[str, bytes]:
    """
    The channel bindings of a connection, by name; the handshake must be over.

    ``tls-exporter`` (RFC 9266) exists only with TLS 1.3, ``tls-server-end-point``
    (RFC 5929 §4) only if the certificate's signature names a hash.
    """
    found: dict[str, bytes] = {}
    if connection.get_protocol_version_name() == "TLSv1.3":
        found["tls-exporter"] = connection.export_keying_material(_EXPORTER, _EXPORTED, b"")
    ours = connection.get_certificate()
    if ours is not None:
        certificate = ours.to_cryptography()
        algorithm = _hash_of_signature(certificate)
        if algorithm is not None:
            found["tls-server-end-point"] = certificate.fingerprint(algorithm)
    return found


def why_failed(reason: Failure | None) -> str:
    """What OpenSSL says about a handshake that failed; empty if the failure is not one of TLS."""
    if reason is None or not isinstance(reason.value, SSL.Error):
        return ""
    return error_text(reason.value) or "broken off"


def error_text(error: Exception) -> str:
    """The text of an OpenSSL error; empty if it has none."""
    told = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(one[-1]) for one in told)


def _hash_of_signature(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    """The hash; None if the signature names none, or one that is not supported."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return hashes.SHA256() if isinstance(algorithm, hashes.MD5 | hashes.SHA1) else algorithm
