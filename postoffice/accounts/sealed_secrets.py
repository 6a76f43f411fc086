"""
Encryption of the shared secrets in the accounts' database; the key is in another file.

A copy of the database alone does not reveal the secrets.  The functions block.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from cryptography.fernet import Fernet, InvalidToken

from postoffice.model.errors import TemporaryFailure
from postoffice.util.atomic_file import sync_folder


class Seal:
    """Encrypts and decrypts texts with the key in a file, which is made when it is needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._key: Fernet | None = None

    def seal(self, text: str) -> str:
        """Encrypt.  Raises TemporaryFailure."""
        if self._key is None:
            make_key(self._path)
        return self._fernet().encrypt(text.encode("utf-8", "surrogateescape")).decode()

    def unseal(self, token: str) -> str:
        """Decrypt.  Raises TemporaryFailure if the key is missing or is not the right one."""
        try:
            return self._fernet().decrypt(token).decode("utf-8", "surrogateescape")
        except (InvalidToken, ValueError):  # encrypted with another key, or not encrypted
            raise TemporaryFailure(
                f"{self._path} is not the key that the accounts' shared secrets were sealed with: "
                "put the right one in its place, or set the secrets anew"
            ) from None

    def _fernet(self) -> Fernet:
        if self._key is None:
            try:
                self._key = Fernet(_read(self._path))
            except (OSError, ValueError) as error:
                raise TemporaryFailure(f"the key file {self._path}: {error}") from error
        return self._key


def key(path: str) -> bytes:
    """Return the key in a file; make the file if it is missing.  Raises TemporaryFailure."""
    make_key(path)
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        raise TemporaryFailure(f"the key file {path}: {error}") from error


def make_key(path: str) -> None:
    """Make a key file if there is none, whole or not at all.  Raises TemporaryFailure."""
    if os.path.lexists(path):
        return
    draft = f"{path}.{secrets.token_hex(4)}.new"
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(fd)
            with suppress(FileExistsError):  # another process was faster
                os.link(draft, path)
        finally:
            os.unlink(draft)
        sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        raise TemporaryFailure(f"the key file {path}: {error}") from error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        octets = file.read(1000).strip()
    if len(octets) < 32:
        raise ValueError("there is no key in it")
    return octets
