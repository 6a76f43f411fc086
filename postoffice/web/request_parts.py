"""The parts of a request as values: header fields, cookies, the fields of forms."""

from __future__ import annotations

from urllib.parse import parse_qs

from twisted.web import http

#: Fields of a form at most.
FIELDS = 2000


def headers_of(raw: http.Request) -> dict[str, str]:
    """Return the header fields by lower-case name; of several with one name the last counts."""
    found: dict[str, str] = {}
    for name, values in raw.requestHeaders.getAllRawHeaders():
        key = name.decode("ascii").lower()
        if key == "host" and len(values) > 1:
            raise ValueError("several hosts")
        join = ", " if key in ("x-forwarded-for", "accept-language") else ""
        text = join.join(one.decode("latin-1") for one in (values if join else values[-1:]))
        found[key] = "; ".join(one.decode("latin-1") for one in values) if key == "cookie" else text
    return found


def fields_of(octets: bytes) -> dict[str, list[str]]:
    """Return the fields of a query or form, with all their values.  Raises ValueError."""
    return parse_qs(
        octets.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS
    )


def cookies_of(text: str) -> dict[str, str]:
    """Return the cookies; of several with one name the first counts (that of the longest path)."""
    found: dict[str, str] = {}
    for one in text.split(";")[:50]:
        name, _, value = one.strip().partition("=")
        found.setdefault(name, value)
    return found
