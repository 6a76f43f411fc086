"""
SMTP smuggling, as the rules see it: one message that another server would take for two.

Whatever looks like the end of a text and is none is refused with the text, or
is part of it; what stands behind it is never obeyed.
"""

from __future__ import annotations

import pytest

from postoffice.smtp.questions import Abort, Begin, End
from tests.smtp.conftest import Office

#: Each holds a CR or LF that stands alone, so that some server somewhere ends a text with it.
BARE = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\n\n.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\n\r.\n\r",
    b"\r\n.\n\r\n",
    b"\r\n..\n",
    b"\r\0\n.\r\0\n",
    b"\r\n\0.\n",
    b"\r\n.\r\0\n",
    b"\0\n.\n",
    b"\n\0.\0\n",
]
#: These have none, and are as good a text as any other.
STRANGE = [
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\0.\r\n",
    b"\r\n .\r\n",
    b"\r\n. \r\n",
    b"\r\n.\x0b\r\n",
    b"\x0b.\x0b",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\r\n\xe2\x80\xa4\r\n",
    b"\r\n\xae\r\n",
    b"\r\n\\.\r\n",
    b"\r\n=2E\r\n",
]
#: A message of its own, to whoever takes it for one.
SMUGGLED = (
    b"MAIL FROM:<postmaster@example.net>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nx\r\n"
)
OUTER = b"Subject: outer\r\n\r\nouter"
REFUSED, TAKEN = "550 5.6.11", "250 2.0.0"


@pytest.fixture(params=[False, True], ids=["smtp", "lmtp"])
def office(request):
    """Somebody says what a server that sent him would have taken for one message, to one."""
    office = Office.greeted(lmtp=request.param)
    envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
    assert office.told(envelope) == ["250 2.1.0", "250 2.1.5"]
    office.asked.clear()
    return office


def told(text: bytes) -> bytes:
    """A text as it is taken: its dots undone."""
    return text.replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize("octet_by_octet", [False, True])
@pytest.mark.parametrize("outer", [OUTER, b""], ids=["inside", "at once"])
@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_text_with_a_false_end_is_refused_whole(office, end, outer, octet_by_octet):
    assert office.told(b"DATA\r\n") == ["354"]
    said = office.hear(outer)
    for piece in [bytes([octet]) for octet in end] if octet_by_octet else [end]:
        said += office.hear(piece)
    assert said == b""
    assert office.told(SMUGGLED + b".\r\n") == [REFUSED]
    assert office.kinds == [Begin, Abort], "nothing is committed, and nobody else is asked for"


def test_a_true_end_behind_a_bare_cr_is_one_and_the_text_is_refused(office):
    """CR CRLF . CRLF: to read on would be as wrong as to take the CR away."""
    assert office.told(b"DATA\r\n") == ["354"]
    assert office.told(OUTER + b"\r\r\n.\r\nNOOP\r\n") == [REFUSED, TAKEN]
    assert office.kinds == [Begin, Abort]


@pytest.mark.parametrize("end", STRANGE, ids=repr)
def test_what_only_looks_like_an_end_is_part_of_the_text(office, end):
    assert office.told(b"DATA\r\n") == ["354"]
    assert office.told(OUTER + end + SMUGGLED + b".\r\n") == [TAKEN]
    assert office.text == told(OUTER + end + SMUGGLED)
    assert office.kinds == [Begin, End]


@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_chunk_with_a_false_end_is_refused_whole(office, end):
    text = OUTER + end + SMUGGLED + b".\r\n"
    assert office.told(b"BDAT %d LAST\r\n" % len(text) + text) == [REFUSED]
    assert office.kinds == [Begin, Abort]


@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_false_end_across_chunks_is_refused(office, end):
    """One chunk ends with each octet of it."""
    chunks = [OUTER, *(bytes([octet]) for octet in end)]
    before = office.told(b"".join(b"BDAT %d\r\n%s" % (len(chunk), chunk) for chunk in chunks))
    [last] = office.told(b"BDAT %d LAST\r\n" % len(SMUGGLED) + SMUGGLED)
    assert len(before) == len(chunks)
    assert last.startswith("5")
    assert REFUSED in (*before, last)
    assert office.kinds == [Begin, Abort]


@pytest.mark.parametrize("end", [b"\r\n.\r\n", *STRANGE], ids=repr)
def test_a_chunk_ends_where_it_said(office, end):
    """The end of DATA among them, which is taken as it came."""
    text = OUTER + end + SMUGGLED
    assert office.told(b"BDAT %d LAST\r\n" % len(text) + text) == [TAKEN]
    assert office.text == text
    assert office.kinds == [Begin, End]
