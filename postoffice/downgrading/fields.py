"""One header field in ASCII: each by what it holds (RFC 6857 §3.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from postoffice.downgrading.addresses import addresses, received, typed_address
from postoffice.downgrading.tokens import (
    COMMENT,
    QUOTED,
    SPACE,
    SPECIAL,
    Token,
    comment,
    comments,
    core,
    phrase,
    raw,
    tokens,
)
from postoffice.downgrading.words import folded, parameter, percented, text_of, unstructured

#: A field's name, and what stands between it and its text (RFC 5322 §3.6.8, §4.5.8).
NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_PARAMETER = re.compile(r"([^=]*)=(.*)\Z", re.DOTALL)


def downgraded(field: bytes) -> bytes:
    """
    A field, whole lines with their CRLF, in ASCII; an ASCII one as it is.

    What is no field, for it has no name, is taken for text.
    """
    if field.isascii():
        return field
    line = field.removesuffix(b"\r\n")
    end = field[len(line) :]
    found = NAME.match(line)
    start = found.end() if found else 0
    text = text_of(line[start:].replace(b"\r\n", b""))
    converted = None
    name = line[:start].decode("ascii")
    if found is not None:
        convert = _METHODS.get(found[1].lower(), unstructured)
        converted = convert(text)
        if converted is None:
            name = f"Downgraded-{name}"  # a last resort (§3.1.10)
    if converted is None or not converted.isascii():
        converted = unstructured(text)
    return folded(name + converted).encode("ascii") + end


def _comments_only(text: str) -> str:
    return raw(comments(tokens(text)))


def _message_ids(text: str) -> str | None:
    """§3.2.3; None where an id is not ASCII."""
    converted = _comments_only(text)
    return converted if converted.isascii() else None


def _phrases(text: str) -> str:
    """Several, with commas between (§3.2.7)."""
    some: list[list[Token]] = [[]]
    for token in tokens(text):
        if token == Token(SPECIAL, ","):
            some.append([])
        else:
            some[-1].append(token)
    return ",".join(map(phrase, some))


def _segments(text: str) -> Iterator[list[Token]]:
    """What stands between the semicolons of a MIME field."""
    segment: list[Token] = []
    for token in tokens(text):
        if token == Token(SPECIAL, ";"):
            yield segment
            segment = []
        else:
            segment.append(token)
    yield segment


def _mime_value(text: str) -> str:
    """A value with its parameters (§3.1.4, §3.2.5)."""
    return ";".join(map(_mime_segment, _segments(text)))


def _mime_segment(segment: list[Token]) -> str:
    if raw(core(segment)).isascii():
        return raw(comments(segment))
    found = _PARAMETER.match(raw(core(segment)))
    if found is None or not found[1].isascii():
        return raw(comments(segment))
    name, value = found[1], _value_of(segment, found[2])
    if name.endswith("*"):  # extended already
        written = "".join(letter if letter.isascii() else percented(letter) for letter in value)
        written = f"{name}={written}"
    else:
        written = parameter(name, value)
    before = segment[0].raw if segment[0].kind == SPACE else ""
    behind = [comment(token.raw) for token in segment if token.kind == COMMENT]
    return before + " ".join([written, *behind])


def _value_of(segment: list[Token], value: str) -> str:
    """What a parameter's value means."""
    if value.startswith('"'):  # more often than not it is quoted, and not in the midst of something
        return next((token.plain for token in segment if token.kind == QUOTED), value)
    return value


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """The value of a MIME field and its parameters, all names in lower case."""
    first, *rest = _segments(text)
    said: dict[str, str] = {}
    for segment in rest:
        found = _PARAMETER.match(raw(core(segment)))
        if found is not None:
            said.setdefault(found[1].lower(), _value_of(segment, found[2]))
    return raw(core(first)).lower(), said


_ADDRESSES = (
    b"From Sender To Cc Bcc Reply-To Resent-From Resent-Sender Resent-To Resent-Cc Resent-Bcc "
    b"Resent-Reply-To Return-Path Disposition-Notification-To"
)
_COMMENTED = (
    b"Date Resent-Date MIME-Version Content-ID Content-Transfer-Encoding Content-Language "
    b"Accept-Language Auto-Submitted"
)
_IDS = b"Message-ID Resent-Message-ID In-Reply-To References"

#: How a field is converted, by its name; None from it: put what it said into another one.
_METHODS: dict[bytes, Callable[[str], str | None]] = {
    name.lower(): method
    for names, method in (
        (_ADDRESSES, addresses),
        (_COMMENTED, _comments_only),
        (_IDS, _message_ids),
        (b"Received", received),
        (b"Content-Type Content-Disposition", _mime_value),
        (b"Keywords", _phrases),
        (b"Original-Recipient Final-Recipient", typed_address),
    )
    for name in names.split()
}
