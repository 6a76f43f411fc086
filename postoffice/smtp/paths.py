"""
A tolerant parser for the addresses of MAIL and RCPT (RFC 5321 §4.1.2).

Addresses of other domains are data and may have any form.  The parser accepts the
form of the RFC, and the other forms that clients send as Postfix does.  Each step
reads each character once.
"""

from __future__ import annotations

import re
from functools import lru_cache

from postoffice.model.address import Address

#: What can hide a bracket, a space or an @: a backslash pair, and a quoted string.
_HIDDEN = r'\\.|"(?:[^"\\]|\\.)*"'
_BRACKET = re.compile(rf"{_HIDDEN}|[<>]")
_WORD = re.compile(rf'(?:{_HIDDEN}|[^ "\\]|["\\])+')
#: The usual form: no quotes, no display name, nothing after it but a parameter.
_USUAL = re.compile(r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)@([A-Za-z0-9.-]*[A-Za-z0-9-])>(?: |\Z)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)" *(?:@(.*))?\Z')


class NotAPath(ValueError):
    """This is not an address; the message says why."""


def read(argument: str) -> tuple[Address | None, str]:
    """
    The address at the start of ``argument``, and the text after it.

    None is the null path ``<>``.  The ``domain`` is empty for a bare name
    (``<root>``), and the ``local`` part is empty for a bare domain (``<@domain>``).
    Raises NotAPath.
    """
    if usual := _USUAL.match(argument):
        return _known(usual[1], usual[2]), argument[usual.end() :].strip(" ")
    text = argument.strip(" ")
    start = _start_of_path(text)
    if start is None:
        word = _WORD.match(text)
        if word is None:
            raise NotAPath("there is none")
        return _address(word[0].rstrip(">")), text[word.end() :].strip(" ")
    end = _end_of_path(text, start)
    rest = text[end:].lstrip(">,;")  # superfluous characters are ignored
    if rest and not rest.startswith(" "):
        raise NotAPath("a space is missing after the >")
    inside = _innermost(text[start + 1 : end - 1].strip(" "))
    return (_address(inside) if inside else None), rest.strip(" ")


@lru_cache(maxsize=4096)
def _known(local: str, domain: str) -> Address:
    """One object for all uses of an address; it remembers its normal form."""
    return Address(local, domain)


def _start_of_path(text: str) -> int | None:
    """The position of ``<``, at the start or after a display name; None if there is none."""
    for found in _BRACKET.finditer(text):
        if found[0] == "<":
            before = text[: found.start()]
            return None if "@" in before or "=" in before else found.start()
    return None


def _end_of_path(text: str, start: int) -> int:
    """The position after the ``>`` that matches the ``<`` at ``start``.  Raises NotAPath."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += (found[0] == "<") - (found[0] == ">")
        if not depth:
            return found.end()
    raise NotAPath("the closing > is missing")


def _innermost(inside: str) -> str:
    """The address in ``Name <address>``; any other text is returned unchanged."""
    start, path = None, inside
    for found in _BRACKET.finditer(inside):
        if found[0] == "<":
            start = found.end()
        elif found[0] == ">" and start is not None:
            path, start = inside[start : found.start()], None
    return path.strip(" ")


def _address(text: str) -> Address:
    if text.startswith("@") and ":" in text:  # a source route (RFC 5321 §3.6.1)
        text = text.partition(":")[2]
    if text.endswith(")") and text.rfind("(") > 0:  # a comment
        text = text[: text.rfind("(")].strip(" ")
    local, domain = _parts(text)
    if not local and not domain:
        raise NotAPath("there is none")
    if domain is None:
        domain = ""
    elif not domain:
        raise NotAPath("nothing after the @")
    if any(letter in domain for letter in ' <>"'):
        raise NotAPath("no domain after the @")
    if any(letter in local for letter in "<>") and not text.startswith('"'):
        raise NotAPath("a < or > is inside")
    return Address(local, domain)


def _parts(text: str) -> tuple[str, str | None]:
    """The local part, and the domain after the last @; None if there is no @."""
    quoted = _QUOTED.match(text)
    if quoted is not None:
        local, domain = re.sub(r"\\(.)", r"\1", quoted[1]), quoted[2]
    elif "@" in text:
        local, _, domain = text.rpartition("@")
    else:
        local, domain = text, None
    if quoted is None:  # RFC 821 allows backslash pairs outside of quotes, too
        local = re.sub(r"\\(.)", r"\1", local.strip(" "))
    return local, _domain(domain)


def _domain(text: str | None) -> str | None:
    """The domain without a final dot, which stands for the DNS root."""
    return None if text is None else text.strip(" ").removesuffix(".")
