"""The second factor of administrators: codes by time (TOTP, RFC 6238)."""

from __future__ import annotations

import hmac

import pyotp
import segno

#: Seconds of one code, and how many periods a clock may differ.
PERIOD, DRIFT = 30, 1
ISSUER = "Postoffice"


def new_secret() -> str:
    """Return a new secret, 160 random bits in base 32."""
    return str(pyotp.random_base32())


def matching_step(secret: str, code: str, now: float) -> int | None:
    """Return the period whose code this is, or None; the time does not depend on the code."""
    digits = code.replace(" ", "").encode("utf-8", "replace")
    totp, found = pyotp.TOTP(secret, interval=PERIOD), None
    for offset in range(-DRIFT, DRIFT + 1):
        step = int(now // PERIOD) + offset
        if hmac.compare_digest(totp.generate_otp(step).encode(), digits):
            found = step
    return found


def address_for_apps(secret: str, account: str, host: str) -> str:
    """Return the ``otpauth:`` address that an authenticator app reads."""
    totp = pyotp.TOTP(secret, interval=PERIOD)
    return str(totp.provisioning_uri(name=account, issuer_name=f"{ISSUER} {host}"))


def picture(address: str) -> str:
    """Return the QR code of an address as the source of an image (``data:``)."""
    return str(segno.make(address, error="m").svg_data_uri(scale=5, border=3, light="white"))
