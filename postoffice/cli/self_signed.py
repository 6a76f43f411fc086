"""A self-signed certificate for trials; clients do not trust it by themselves."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from postoffice.daemon import new_files
from postoffice.daemon.privileges import Identity
from postoffice.model.errors import StartupError

#: How long the certificate is valid: the longest that clients accept.
LIFETIME = timedelta(days=825)
LOOPBACK = ("127.0.0.1", "::1")


def make(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """Return a certificate for these hosts and for localhost, and its key, in PEM form."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0][:64])])
    names: list[x509.GeneralName] = [
        x509.DNSName(host) for host in dict.fromkeys((*hosts, "localhost"))
    ]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in LOOPBACK]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write(folder: str, hosts: Sequence[str], owner: Identity | None = None) -> dict[str, str]:
    """
    Write both files into a folder, or none; return their paths.

    The owner alone can read them, and the folder if it is new.  Existing files stay.
    Raises StartupError.
    """
    files = {
        "certificate": os.path.join(folder, "certificate.pem"),
        "key": os.path.join(folder, "key.pem"),
    }
    written = []
    try:
        new_files.folder(folder, 0o700, owner)
        for path, octets in zip(files.values(), make(hosts), strict=True):
            with new_files.file(path, 0o600, owner) as file:
                written.append(path)
                file.write(octets)
    except OSError as error:
        for path in written:
            os.unlink(path)
        raise StartupError(f"{error.filename or folder}: {error.strerror}") from error
    return files
