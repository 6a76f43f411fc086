"""TLS certificates: loaded, chosen by server name (SNI), and reloaded when their files change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import Executor
from postoffice.model.errors import StartupError
from postoffice.server import tls

#: Seconds between two checks of the files for changes.
LOOKS = 10.0
#: Octets that are read of a file at most.
FILE_MAXIMUM = 1 << 20
#: How long before its expiry a certificate is warned of, and the seconds between two warnings.
EXPIRES_SOON = timedelta(days=14)
REMINDERS = 86400.0

#: Inode, size and time of a certificate's file and of its key's.
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class CertificateFiles:
    """The paths of a certificate with its chain, and of its key."""

    certificate: str
    key: str


class Unusable(Exception):
    """A certificate or a key cannot be used; the text says which file, and why."""


@dataclass(frozen=True)
class Loaded:
    """A certificate with its key, ready for handshakes."""

    context: SSL.Context
    names: tuple[str, ...]
    until: datetime

    def is_for(self, host: str) -> bool:
        """Whether it is the certificate of that host: by name, or by a wildcard of one label."""
        _, dot, parent = host.partition(".")
        return host in self.names or (bool(dot) and f"*.{parent}" in self.names)


def load(files: CertificateFiles) -> Loaded:
    """Read a certificate with its chain, and its key.  It blocks.  Raises Unusable."""
    certificate, *chain = certificates_in(files.certificate)
    key = _key(files.key)
    if key.public_key() != certificate.public_key():
        raise Unusable(
            f"the key {files.key} does not belong to the certificate {files.certificate}: "
            "it is the key of another; name the two that were made together"
        )
    try:
        options = CertificateOptions(
            # Twisted's annotations are narrower than what it accepts
            privateKey=key,  # type: ignore[arg-type]
            certificate=certificate,  # type: ignore[arg-type]
            extraCertChain=chain,  # type: ignore[arg-type]
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        context = options.getContext()
        context.check_privatekey()
    except (SSL.Error, ValueError, TypeError) as error:
        raise Unusable(
            f"{files.key} cannot be used with {files.certificate}: {tls.error_text(error) or error}"
        ) from None
    return Loaded(context, _names(certificate), certificate.not_valid_after_utc)


def certificates_in(path: str) -> list[x509.Certificate]:
    """Read the certificate and its chain from a file.  It blocks.  Raises Unusable."""
    try:
        return list(x509.load_pem_x509_certificates(_octets(path)))
    except (ValueError, x509.InvalidVersion) as error:
        raise Unusable(f"{path} has no certificate in PEM form: {error}") from None


def _key(path: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_octets(path), None)
    except TypeError:
        raise Unusable(f"{path} has a passphrase; take it away: openssl pkey") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(f"{path} has no private key in PEM form: {error}") from None


def _octets(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_MAXIMUM)
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names of a certificate: its alternative names, or else its common name."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(one.value) for one in common]
    return tuple(name.lower() for name in names)


def _look(files: CertificateFiles) -> Stamp:
    """Inode, size and time of both files, symbolic links followed (certbot's).  It blocks."""
    found: list[tuple[int, int, int] | None] = []
    for path in (files.certificate, files.key):
        try:
            status = os.stat(path)
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


@dataclass
class _Pair:
    """A pair of files, what was loaded from it, and its stamp at the last attempt to load."""

    files: CertificateFiles
    loaded: Loaded | None = None
    look: Stamp = ()


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """
    All certificates; this object is passed to ``startTLS``.

    ``load_now`` reads them, before privileges are dropped.  From ``start()`` on
    their files are checked for changes every ten seconds.  If a changed pair
    cannot be loaded, that is logged once, and the old certificate stays in use.
    ``clock`` is an IReactorTime.
    """

    log = Logger()

    def __init__(
        self, pairs: Sequence[CertificateFiles], executor: Executor, clock: IReactorTime
    ) -> None:
        self._pairs = [_Pair(files) for files in pairs]
        self._executor = executor
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._reminded = -REMINDERS  # so that the first check warns, even with a clock at 0

    @property
    def ready(self) -> bool:
        """Whether the first certificate is loaded, so that TLS can begin."""
        return self._pairs[0].loaded is not None

    def load_now(self, known: Certificates | None = None) -> None:
        """
        Read all certificates now.  It blocks.  Raises StartupError.

        ``known`` has some of them already: perhaps only root can read their files.
        """
        problems = []
        old = {pair.files: pair for pair in known._pairs} if known is not None else {}
        for pair in self._pairs:
            pair.look = _look(pair.files)
            same = old.get(pair.files)
            if same is not None and same.look == pair.look:
                pair.loaded = same.loaded
                continue
            try:
                self._take(pair, load(pair.files))
            except Unusable as error:
                problems.append(str(error))
        if problems:
            raise StartupError("\n".join(problems))

    async def start(self) -> None:
        """Check the files for changes from now on."""
        if not self.ready:
            self.load_now()
        for pair in self._pairs:
            if pair.loaded is not None:
                self._take(pair, pair.loaded)
        self._remind()
        self._wait()

    async def stop(self) -> None:
        """Stop checking the files."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _take(self, pair: _Pair, loaded: Loaded) -> None:
        """Use this certificate from now on; its context must be set up before its first use."""
        loaded.context.set_tlsext_servername_callback(self._choose)
        pair.loaded = loaded

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection with the first certificate, until the client names a server (SNI)."""
        loaded = self._pairs[0].loaded
        assert loaded is not None, "no certificate is loaded"
        return SSL.Connection(loaded.context, None)

    def _choose(self, connection: SSL.Connection) -> None:
        """SNI (RFC 6066 §3): the certificate for this name; an unknown one gets the first."""
        name = connection.get_servername()
        host = "" if name is None else name.decode("ascii", "replace").lower()
        for pair in self._pairs:
            if pair.loaded is not None and pair.loaded.is_for(host):
                connection.set_context(pair.loaded.context)
                return

    # -- changes ---------------------------------------------------------------------

    def _wait(self) -> None:
        self._timer = self._clock.callLater(LOOKS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._looking = Deferred.fromCoroutine(self._look_at_all())
        self._looking.addBoth(self._looked)

    def _looked(self, failure: Failure | None) -> None:
        if self._looking is None:  # it was stopped
            return
        self._looking = None
        if failure is not None:
            self.log.failure("checking the certificates failed; retrying", failure=failure)
        self._wait()

    async def look(self) -> None:
        """Read changed files now; a check in progress is enough."""
        if self._looking is None and self._timer is not None:
            self._timer.cancel()
            self._look_again()
        if self._looking is not None:
            looked: Deferred[None] = Deferred()
            self._looking.addBoth(lambda _: looked.callback(None))
            await looked

    async def _look_at_all(self) -> None:
        for pair in self._pairs:
            look = await self._executor.run(_look, pair.files)
            if look != pair.look:
                pair.look = look
                await self._renew(pair)
        if self._clock.seconds() - self._reminded >= REMINDERS:
            self._remind()

    async def _renew(self, pair: _Pair) -> None:
        try:
            loaded = await self._executor.run(load, pair.files)
        except Unusable as error:
            self.log.error(
                "reloading a certificate failed: {why}; the old certificate is kept", why=str(error)
            )
            return
        self._take(pair, loaded)
        self.log.info(
            "certificate {file} reloaded: for {names}, valid until {until}",
            file=pair.files.certificate,
            names=", ".join(loaded.names) or "nobody",
            until=f"{loaded.until:%Y-%m-%d}",
        )

    def _remind(self) -> None:
        self._reminded = self._clock.seconds()
        for path, when in self.expiring():
            self.log.warn("certificate {path} expires on {when}", path=path, when=when)

    def expiries(self) -> list[tuple[str, datetime]]:
        """When each certificate in use expires: file, and time."""
        return [
            (pair.files.certificate, pair.loaded.until)
            for pair in self._pairs
            if pair.loaded is not None
        ]

    def expiring(self) -> list[tuple[str, str]]:
        """The certificates that have expired or will expire soon: file, and day."""
        soon = datetime.now(UTC) + EXPIRES_SOON
        return [
            (pair.files.certificate, f"{pair.loaded.until:%Y-%m-%d}")
            for pair in self._pairs
            if pair.loaded is not None and pair.loaded.until < soon
        ]
