"""Examines certificates: names, days left, the chain, and who can read the key.  It blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime

from OpenSSL import SSL, crypto

from postoffice.doctor.findings import Finding, Report
from postoffice.server.certificates import (
    EXPIRES_SOON,
    CertificateFiles,
    Loaded,
    Unusable,
    certificates_in,
    load,
)


def check_certificates(files: Sequence[CertificateFiles], hostname: str) -> list[Finding]:
    """Examine all certificates; ``hostname`` is what clients call this machine."""
    report = Report("tls")
    if not files:
        report.warning(
            "there is no certificate: passwords and mail are not encrypted",
            "name one in the configuration, under tls: certificates:",
        )
    loaded = [found for one in files if (found := _check(one, report)) is not None]
    if loaded and not any(one.is_for(hostname) for one in loaded):
        names = ", ".join(sorted({name for one in loaded for name in one.names})) or "no name"
        report.error(
            f"no certificate is for {hostname}: mail programs will not connect (it is for {names})",
            f"get a certificate for {hostname}",
        )
    return report.findings


def _check(files: CertificateFiles, report: Report) -> Loaded | None:
    report.where = files.certificate
    try:
        loaded = load(files)
    except Unusable as error:
        report.error(str(error), "name a certificate in PEM form, and the key made with it")
        return None
    _check_days(loaded, report)
    why = chain_trouble(files.certificate)
    if why:
        report.warning(
            f"others do not trust the certificate: {why}",
            "get one from an authority such as Let's Encrypt, and put its whole chain into the "
            "file (fullchain.pem)",
        )
    else:
        report.ok("the chain of the certificate leads to an authority that this machine trusts")
    _check_mode(files.key, report)
    return loaded


def _check_days(loaded: Loaded, report: Report) -> None:
    now = datetime.now(UTC)
    days, day = (loaded.until - now).days, f"{loaded.until:%Y-%m-%d}"
    names = ", ".join(loaded.names) or "no name"
    if loaded.until < now:
        report.error(f"the certificate expired on {day}: mail programs refuse it", "renew it")
    elif loaded.until < now + EXPIRES_SOON:
        report.warning(f"the certificate expires in {days} days, on {day}", "renew it")
    else:
        report.ok(f"the certificate for {names} is valid for {days} more days, until {day}")


def chain_trouble(path: str) -> str:
    """Return why no authority that this system trusts vouches for a certificate; "" if one does."""
    first, *rest = map(crypto.X509.from_cryptography, certificates_in(path))
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    if store is None:
        return "this machine has no list of authorities"
    try:
        crypto.X509StoreContext(store, first, rest).verify_certificate()
    except crypto.X509StoreContextError as error:
        words = str(error)
        if "expired" in words or "not yet valid" in words:
            return ""  # reported by _check_days
        if "local issuer" in words and not rest:
            return f"{words}; the file has no chain"
        return words
    return ""


def _check_mode(path: str, report: Report) -> None:
    status = os.stat(path)
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        report.error(
            "every user of this machine can read the private key", f"chmod o= {path}", where=path
        )
    else:
        report.ok("the private key cannot be read by everybody", where=path)
