"""
DKIM signatures (RFC 6376) by RSA and Ed25519 (RFC 8463), computed while a text passes.

Canonicalization is relaxed/relaxed, and the whole body is signed.  The fields of ``SIGNED`` are
over-signed: another one that somebody adds later breaks the signature.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

#: The fields that are signed, as often as they occur and once more.
SIGNED = (
    "from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding",
)  # fmt: skip
#: The kinds of keys, and what their signatures are called.
KINDS = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}
#: Bits of a new RSA key; octets of a string in a TXT record (RFC 1035 §3.3.14).
BITS, STRING = 2048, 255
#: Octets of a header that is signed; a message with a longer one is not.
HEADER_MAXIMUM = 512 << 10
_SPACES = re.compile(rb"[ \t]+")
#: Line ends that are hashed at a time.
_ENDS = 8192
#: Characters of a line of the signature.
_LINE = 70

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class NotAKey(ValueError):
    """A file has no private key of a kind that signs."""


@dataclass(frozen=True)
class SigningKey:
    """A key that signs for a domain, under the name ``selector``."""

    domain: str
    selector: str
    private: PrivateKey

    @property
    def kind(self) -> str:
        return "rsa" if isinstance(self.private, RSAPrivateKey) else "ed25519"

    @property
    def name(self) -> str:
        """The name of the record in the DNS."""
        return record_name(self.domain, self.selector)

    @property
    def record(self) -> str:
        """The text of the record in the DNS (RFC 6376 §3.6.1)."""
        public = self.private.public_key()
        if self.kind == "rsa":
            octets = public.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        else:
            octets = public.public_bytes_raw()  # type: ignore[union-attr]
        return f"v=DKIM1; k={self.kind}; p={b64encode(octets).decode()}"

    def sign(self, data: bytes) -> bytes:
        """Sign what a signature covers."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, PKCS1v15(), hashes.SHA256())
        return self.private.sign(sha256(data).digest())


def record_name(domain: str, selector: str) -> str:
    """Return the name of a key's record in the DNS."""
    return f"{selector}._domainkey.{domain}"


def new_key(kind: str) -> bytes:
    """Make a key of this kind, in PEM."""
    key = generate_private_key(65537, BITS) if kind == "rsa" else Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(domain: str, selector: str, pem: bytes) -> SigningKey:
    """Read a key.  Raises NotAKey."""
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise NotAKey(f"no private key in PEM without a password: {error}") from error
    if not isinstance(private, PrivateKey):
        raise NotAKey("neither RSA nor Ed25519")
    return SigningKey(domain, selector, private)


def zone_line(key: SigningKey) -> str:
    """Return a key's record as a line of a zone file, in strings of 255 octets at most."""
    return f"{key.name}. IN TXT ( {txt_strings(key.record)} )"


def txt_strings(text: str) -> str:
    """Return the text of a TXT record as a zone file has it: strings of 255 octets at most."""
    return " ".join(f'"{text[at : at + STRING]}"' for at in range(0, len(text), STRING))


def same_record(found: bytes, record: str) -> bool:
    """Whether a record in the DNS has the same key; spaces and the order of tags do not count."""
    return _tags(found.decode("ascii", "replace")) == _tags(record)


def _tags(record: str) -> tuple[str, str]:
    pairs = (part.partition("=")[::2] for part in record.split(";"))
    tags = {name.strip(): "".join(value.split()) for name, value in pairs}
    return tags.get("k", "rsa"), tags.get("p", "")


class Signer:
    """Reads a text, with CRLF line ends, as it passes; then signs it."""

    def __init__(self) -> None:
        self._header: bytes | None = None
        self._held = bytearray()
        self._body = _Body()
        self._too_long = False

    def feed(self, octets: bytes) -> None:
        """Take more of the text."""
        if self._header is not None:
            self._body.feed(octets)
            return
        start = max(len(self._held) - 3, 0)
        self._held += octets
        if self._held.startswith(b"\r\n"):
            self._begin_body(0, 2)
        elif (end := self._held.find(b"\r\n\r\n", start)) >= 0:
            self._begin_body(end + 2, end + 4)
        elif len(self._held) > HEADER_MAXIMUM:
            self._too_long, self._header = True, b""
            self._held.clear()

    def _begin_body(self, end: int, body: int) -> None:
        self._header = bytes(self._held[:end])
        self._body.feed(bytes(self._held[body:]))
        self._held.clear()

    def fields(self, keys: Iterable[SigningKey], now: float) -> bytes:
        """The text is complete: return a signature by each key; b"" if it cannot be signed."""
        if self._header is None:  # a header alone
            self._header = bytes(self._held)
        body = self._body.digest()
        header = _fields(self._header)
        if self._too_long or "from" not in (name for name, _ in header):
            return b""
        return b"".join(_signature(key, header, body, int(now)) for key in keys)


def _signature(
    key: SigningKey, header: Sequence[tuple[str, bytes]], body: bytes, now: int
) -> bytes:
    """One DKIM-Signature field."""
    names: list[str] = []
    covered: list[bytes] = []
    for name in SIGNED:
        ones = [line for other, line in header if other == name]
        names += [name] * (len(ones) + 1)
        covered += reversed(ones)
    lines = [
        f"DKIM-Signature: v=1; a={KINDS[key.kind]}; c=relaxed/relaxed; q=dns/txt;",
        f"d={key.domain};",
        f"s={key.selector}; t={now};",
        *_folded([f"{name}:" for name in names], "h="),
        f"bh={b64encode(body).decode()};",
        "b=",
    ]
    field = "\r\n\t".join(lines).encode()
    signed = key.sign(b"".join(covered) + _relaxed(field))
    value = b64encode(signed).decode()
    cut = [value[at : at + _LINE] for at in range(0, len(value), _LINE)]
    return field + "\r\n\t".join(cut).encode() + b"\r\n"


def _folded(words: list[str], first: str) -> list[str]:
    """Fold words into lines; the last word ends with a semicolon instead of its colon."""
    words[-1] = words[-1][:-1] + ";"
    lines = [first]
    for word in words:
        if len(lines[-1]) + len(word) > _LINE:
            lines.append("")
        lines[-1] += word
    return lines


def _fields(header: bytes) -> list[tuple[str, bytes]]:
    """The fields of a header: their names, and their relaxed forms with CRLF."""
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", header)
    found = []
    for line in unfolded.split(b"\r\n"):
        name, colon, _ = line.partition(b":")
        if colon:
            plain = name.rstrip(b" \t").lower().decode("latin-1")
            found.append((plain, _relaxed(line) + b"\r\n"))
    return found


def _relaxed(field: bytes) -> bytes:
    """A field in the relaxed form (RFC 6376 §3.4.2), without CRLF."""
    name, _, value = field.replace(b"\r\n", b"").partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _SPACES.sub(b" ", value).strip(b" ")


class _Body:
    """The hash of a body in the relaxed form (RFC 6376 §3.4.4)."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._partial = bytearray()  # a line without its end
        self._ends = 0  # line ends that count only if more follows
        self._empty = True

    def feed(self, octets: bytes) -> None:
        start = max(len(self._partial) - 1, 0)
        self._partial += octets
        end = self._partial.rfind(b"\r\n", start) + 2
        if end > 1:
            self._take(bytes(self._partial[:end]))
            del self._partial[:end]

    def digest(self) -> bytes:
        if self._partial:
            self._take(bytes(self._partial) + b"\r\n")
            self._partial.clear()
        if not self._empty:
            self._hash.update(b"\r\n")
        self._ends = 0
        return self._hash.digest()

    def _take(self, lines: bytes) -> None:
        """Take whole lines."""
        relaxed = _SPACES.sub(b" ", lines).replace(b" \r\n", b"\r\n")
        text = relaxed.rstrip(b"\r\n")
        if text:
            for at in range(0, self._ends, _ENDS):
                self._hash.update(b"\r\n" * min(_ENDS, self._ends - at))
            self._ends = 0
            self._hash.update(text)
            self._empty = False
        self._ends += (len(relaxed) - len(text)) // 2
