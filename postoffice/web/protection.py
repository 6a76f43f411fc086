"""What protects the page: the host asked for, the origin of changes, the headers of answers."""

from __future__ import annotations

from collections.abc import Collection

from postoffice.web.values import LOOPBACK, SAFE, WebRequest

#: What a page may load and where its forms may lead: only to us.  No script in a page runs.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: Header fields of every answer.  With ``no-referrer`` older browsers, which know no
#: Sec-Fetch-Site, would send forms with the origin ``null``.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
#: For a year the browser asks this host by HTTPS only (RFC 6797); sent only over HTTPS.
STRICT_TRANSPORT = "max-age=31536000"


def headers_for(request: WebRequest) -> dict[str, str]:
    """Return the header fields that every answer to this request has."""
    more = {"Strict-Transport-Security": STRICT_TRANSPORT} if request.client.encrypted else {}
    return {**HEADERS, **more}


def is_our_host(request: WebRequest, hosts: Collection[str]) -> bool:
    """Return whether the Host header names us: no site of another name is served here."""
    return request.host in hosts or (request.client.local and request.host in LOOPBACK)


def is_private(request: WebRequest) -> bool:
    """Whether nobody between the browser and us can read what is sent."""
    return request.client.encrypted or request.at_the_machine


def is_from_us(request: WebRequest) -> bool:
    """
    Return whether a request that may change something comes from a page of ours.

    Browsers say so in Sec-Fetch-Site, which no page can forge.  Those that do not know it say
    the origin, which must have our host and port.
    """
    if request.method in SAFE:
        return True
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    scheme = "https" if request.client.encrypted else "http"
    origin = request.headers.get("origin", "").lower()
    return origin == f"{scheme}://{request.headers.get('host', '').lower()}"
