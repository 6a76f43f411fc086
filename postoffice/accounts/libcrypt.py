"""The system's ``crypt_r``, for the hashes of /etc/shadow.  It blocks, and releases the GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

#: libxcrypt as Debian and as Fedora name it; None: within the C library (musl).
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)
#: Octets of the largest ``struct crypt_data`` (the old glibc's has 131,232), and some more.
_SCRATCH = 160 << 10


def _load() -> Callable[[bytes, bytes, object], bytes | None] | None:
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
        return function
    return None


# Loaded at import, because root's rights may be gone later.
_crypt_r = _load()


def is_available() -> bool:
    """Whether this system has the function."""
    return _crypt_r is not None


def crypt(password: bytes, setting: bytes) -> bytes | None:
    """
    Hash a password in the way that ``setting``, a hash or its beginning, says.

    Returns None if the system does not know that way.  Neither argument may contain a NUL:
    C would ignore what follows it.
    """
    if _crypt_r is None:
        return None
    found = _crypt_r(password, setting, ctypes.create_string_buffer(_SCRATCH))
    return None if found is None or found.startswith(b"*") else found
