"""Fields that hold addresses, in ASCII (RFC 6857 §3.1.5 to §3.1.9, §3.2.1, §3.2.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from postoffice.address import DOMAIN_MAXIMUM, NotAnAddress, normal_domain
from postoffice.downgrading.tokens import (
    COMMENT,
    LITERAL,
    SPACE,
    SPECIAL,
    Token,
    comments,
    core,
    phrase,
    raw,
    tokens,
)
from postoffice.downgrading.words import charset_of, encoded, unstructured

_TYPED = re.compile(r"([ \t]*utf-8[ \t]*;[ \t]*)(.*)", re.IGNORECASE | re.DOTALL)


def addresses(text: str) -> str:
    """A list of addresses, groups among them (RFC 6857 §3.2.1)."""
    out: list[str] = []
    pending: list[Token] = []
    name: list[Token] | None = None  # of the group that we are in
    members: list[list[Token]] = []
    in_angles = False
    for token in tokens(text):
        special = token.raw if token.kind == SPECIAL else ""
        if in_angles or special not in ("<", ",", ":", ";"):
            in_angles &= special != ">"
            pending.append(token)
        elif special == "<":
            in_angles = True
            pending.append(token)
        elif special == ":":
            if name is None:
                name, pending = pending, []
            else:
                pending.append(token)
        elif name is None:
            out.append(_mailbox(pending) + special)
            pending = []
        else:
            members.append(pending)
            pending = []
            if special == ";":
                out.append(_group(name, members) + ";")
                name, members = None, []
    if name is not None:
        out.append(_group(name, [*members, pending]))
    else:
        out.append(_mailbox(pending))
    return "".join(out)


def _mailbox(some: Sequence[Token]) -> str:
    """One mailbox; where it has no address in ASCII, an empty group that tells of it (§3.1.8)."""
    mailbox = _in_ascii(some)
    if mailbox is not None:
        return mailbox
    name, address, behind = _divided(some)
    if not name:
        behind = [token for token in address if token.kind == COMMENT] + behind
        address = [token for token in address if token.kind != COMMENT]
    after = phrase(behind).strip(" \t")
    told = _told(name, raw(address))
    return f"{_indent(some)}{told} :;{' ' if after else ''}{after}"


def _group(name: list[Token], members: list[list[Token]]) -> str:
    """A group without its end; where an address has no form in ASCII, they are told (§3.1.7)."""
    mailboxes = list(map(_in_ascii, members))
    written = [mailbox for mailbox in mailboxes if mailbox is not None]
    if len(written) < len(members):
        return f"{_indent(name)}{_told(name, ','.join(map(raw, members)))} :"
    display = phrase(name)
    space = " " if display.endswith("?=") else ""
    return f"{display}{space}:{','.join(written)}"


def _told(name: Sequence[Token], address: str) -> str:
    """The name, and behind it the address as an encoded word."""
    display, address = phrase(name).strip(" \t"), address.strip(" \t")
    if not display:
        return encoded(address)
    space = " " if display.endswith("?=") else ""  # between encoded words, a space does not show
    return f"{display} {encoded(space + address)}"


def _indent(some: Sequence[Token]) -> str:
    """The spaces before it."""
    return some[0].raw if some and some[0].kind == SPACE else ""


def _divided(some: Sequence[Token]) -> tuple[list[Token], list[Token], list[Token]]:
    """A mailbox's name, its address, and what stands behind that."""
    marks = [token.raw if token.kind == SPECIAL else "" for token in some]
    if "<" not in marks:
        return [], list(some), []
    begin = marks.index("<")
    end = marks.index(">", begin) if ">" in marks[begin:] else len(some)
    return list(some[:begin]), list(some[begin + 1 : end]), list(some[end + 1 :])


def _in_ascii(some: Sequence[Token]) -> str | None:
    """A mailbox in ASCII; None where its address has no such form."""
    if raw(some).isascii():
        return raw(some)
    name, address, behind = _divided(some)
    spec = _addr_spec(address)
    if spec is None:
        return None
    if not name and not behind and len(address) == len(some):
        return spec
    display = phrase(name)
    if display and not display.endswith((" ", "\t")):
        display += " "
    return f"{display}<{spec}>{phrase(behind)}"


def _addr_spec(some: Sequence[Token]) -> str | None:
    """Comments and the domain in ASCII (§3.1.6); None where that is not enough."""
    some = comments(some)
    if raw(some).isascii():
        return raw(some)
    ats = [place for place, token in enumerate(some) if token == Token(SPECIAL, "@")]
    if not ats or not raw(some[: ats[-1]]).isascii():
        return None
    parts = [place for place in range(ats[-1] + 1, len(some)) if some[place] in core(some)]
    if len(parts) != 1 or some[parts[0]].kind == LITERAL:
        return None
    domain = _a_labels(some[parts[0]].raw)
    if domain is None:
        return None
    return raw(some[: parts[0]]) + domain + raw(some[parts[0] + 1 :])


def _a_labels(domain: str) -> str | None:
    """A domain in A-labels; None for what is no domain."""
    if len(domain) > DOMAIN_MAXIMUM:
        return None
    try:
        return normal_domain(domain)
    except NotAnAddress:
        return None


def received(text: str) -> str:
    """A Received field: without whom it was for, or its id, where they have no form (§3.2.4)."""
    out: list[str] = []
    keyword = ""
    some = comments(tokens(text))
    at = 0
    while at < len(some):
        end = at + 1
        while end < len(some) and not _apart(some[at]) and not _apart(some[end]):
            end += 1
        word = some[at:end]
        if raw(word).isascii():
            if word[0].kind not in (SPACE, COMMENT):
                keyword = raw(word).lower()
            out.append(raw(word))
        else:
            out.append(_clause(keyword, word, out))
            keyword = ""
        at = end
    return "".join(out)


def _apart(token: Token) -> bool:
    """Whether it stands for itself between the words of a Received field."""
    return token.kind in (SPACE, COMMENT) or token == Token(SPECIAL, ";")


def _clause(keyword: str, word: list[Token], out: list[str]) -> str:
    """The value of a clause; what goes takes its keyword with it, which is the end of ``out``."""
    angles = word[0].raw == "<" and word[-1].raw == ">"
    value = _addr_spec(word[1:-1] if angles else word) if raw(word).count("@") else None
    if value is not None:
        return f"<{value}>" if angles else value
    if keyword in ("for", "id"):
        while out:
            if out.pop().lower() == keyword:
                break
        while out and out[-1].isspace():
            out.pop()
        return ""
    domain = _a_labels(raw(word))
    return unstructured(raw(word)) if domain is None else domain


def typed_address(text: str) -> str | None:
    """An address with its type, in the ASCII of RFC 6533 §3; None for other types (§3.1.9)."""
    found = _TYPED.match(text)
    if found is None or charset_of(text) != "utf-8":
        return None
    return found[1] + "".join(
        token.raw if token.kind in (SPACE, COMMENT) else "".join(map(_xtext, token.raw))
        for token in comments(tokens(found[2]))
    )


def _xtext(letter: str) -> str:
    """A letter of utf-8-addr-xtext (RFC 6533 §3)."""
    if "!" <= letter <= "~" and letter not in "+=\\":
        return letter
    return f"\\x{{{ord(letter):02X}}}"
