"""
One tolerant reader for the addresses of MAIL and RCPT (RFC 5321 §4.1.2).

Other people's addresses are data.  The form of the RFC is read first; what
the field sends beside it is read as Postfix reads it.  Each step looks at
each letter once.
"""

from __future__ import annotations

import re

from postoffice.model.address import Address

#: What hides a bracket, a blank or an @: a pair with a backslash, and a string in quotes.
_HIDDEN = r'\\.|"(?:[^"\\]|\\.)*"'
_BRACKET = re.compile(rf"{_HIDDEN}|[<>]")
_WORD = re.compile(rf'(?:{_HIDDEN}|[^ "\\]|["\\])+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)" *(?:@(.*))?\Z')


class NotAPath(ValueError):
    """This is no address; the message says what is wrong with it."""


def read(argument: str) -> tuple[Address | None, str]:
    """
    The address at the start of ``argument``, and what stands behind it.

    None is the null path ``<>``; an address whose ``domain`` is empty is a
    bare name, as in ``<root>``; one whose ``local`` is empty names a domain and
    nobody there.  Raises NotAPath.
    """
    text = argument.strip(" ")
    start = _start_of_path(text)
    if start is None:
        word = _WORD.match(text)
        if word is None:
            raise NotAPath("there is none")
        return _address(word[0].rstrip(">")), text[word.end() :].strip(" ")
    end = _end_of_path(text, start)
    rest = text[end:].lstrip(">,;")  # what stands too much there says nothing
    if rest and not rest.startswith(" "):
        raise NotAPath("a blank is missing behind the >")
    inside = _innermost(text[start + 1 : end - 1].strip(" "))
    return (_address(inside) if inside else None), rest.strip(" ")


def _start_of_path(text: str) -> int | None:
    """Where ``<`` stands, if it does: first, or behind somebody's name."""
    for found in _BRACKET.finditer(text):
        if found[0] == "<":
            before = text[: found.start()]
            return None if "@" in before or "=" in before else found.start()
    return None


def _end_of_path(text: str, start: int) -> int:
    """Behind the ``>`` that belongs to the ``<`` at ``start``."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += (found[0] == "<") - (found[0] == ">")
        if not depth:
            return found.end()
    raise NotAPath("the > behind it is missing")


def _innermost(inside: str) -> str:
    """The address of ``Name <address>``; anything else stays as it is."""
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
        raise NotAPath("nothing stands behind the @")
    if any(letter in domain for letter in ' <>"'):
        raise NotAPath("behind the @ stands no domain")
    if any(letter in local for letter in "<>") and not text.startswith('"'):
        raise NotAPath("a < or > is inside")
    return Address(local, domain)


def _parts(text: str) -> tuple[str, str | None]:
    """What stands before the last @, and the domain behind it; None where there is no @."""
    quoted = _QUOTED.match(text)
    if quoted is not None:
        local, domain = re.sub(r"\\(.)", r"\1", quoted[1]), quoted[2]
    elif "@" in text:
        local, _, domain = text.rpartition("@")
    else:
        local, domain = text, None
    if quoted is None:  # RFC 821 has such pairs outside of quotes, too
        local = re.sub(r"\\(.)", r"\1", local.strip(" "))
    return local, _domain(domain)


def _domain(text: str | None) -> str | None:
    """A domain may end with the dot of the root, which is no part of its name."""
    return None if text is None else text.strip(" ").removesuffix(".")
