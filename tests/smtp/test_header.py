"""The header of what our own users send is completed (RFC 6409 §8)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.errors import PermanentFailure
from postoffice.reply import HEADER_TOO_LARGE
from postoffice.smtp.header import HEADER_MAXIMUM, Completion
from postoffice.testing import cut

DATE = b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
ID = b"Message-ID: <x@mail.example.net>\r\n"
BOTH = b"Date: now\r\nMessage-ID: <y@pc>\r\n"


def complete(*pieces: bytes) -> bytes:
    """What becomes of a text that comes in these pieces."""
    completion = Completion(DATE, ID)
    return b"".join(map(completion.feed, pieces)) + completion.end()


TEXTS = {
    "nothing is missing": (BOTH + b"Subject: x\r\n\r\nhi\r\n", BOTH + b"Subject: x\r\n\r\nhi\r\n"),
    "in any letters": (
        b"DATE: now\r\nmessage-id : <y@pc>\r\n\r\nhi\r\n",
        b"DATE: now\r\nmessage-id : <y@pc>\r\n\r\nhi\r\n",
    ),
    "both are missing": (
        b"Subject: x\r\n\r\nhi\r\n",
        b"Subject: x\r\n" + DATE + ID + b"\r\nhi\r\n",
    ),
    "the date is missing": (
        b"Message-ID: <y@pc>\r\n\r\nhi\r\n",
        b"Message-ID: <y@pc>\r\n" + DATE + b"\r\nhi\r\n",
    ),
    "the id is missing": (b"Date: now\r\n\r\nhi\r\n", b"Date: now\r\n" + ID + b"\r\nhi\r\n"),
    "names that begin alike": (
        b"Dated: x\r\nMessage-IDs: y\r\nResent-Date: z\r\n\r\n",
        b"Dated: x\r\nMessage-IDs: y\r\nResent-Date: z\r\n" + DATE + ID + b"\r\n",
    ),
    "fields of the body are none": (
        b"Subject: x\r\n\r\n" + BOTH + b"Bcc: z\r\n",
        b"Subject: x\r\n" + DATE + ID + b"\r\n" + BOTH + b"Bcc: z\r\n",
    ),
    "a folded line is no field": (
        b"Subject: x\r\n Date: now\r\n\tMessage-ID: <y@pc>\r\n\r\n",
        b"Subject: x\r\n Date: now\r\n\tMessage-ID: <y@pc>\r\n" + DATE + ID + b"\r\n",
    ),
    "blind copies": (
        BOTH + b"Bcc: a@example.org,\r\n b@example.org\r\n\tc@example.org\r\nTo: d\r\n\r\nhi\r\n",
        BOTH + b"To: d\r\n\r\nhi\r\n",
    ),
    "blind copies everywhere": (
        b"BCC: a\r\n" + BOTH + b"Resent-Bcc: c\r\nbcc : b\r\nSubject: x\r\n y\r\nBcc:\r\n\r\n",
        BOTH + b"Subject: x\r\n y\r\n\r\n",
    ),
    "nothing but blind copies": (b"Bcc: a\r\n b\r\n\r\nhi\r\n", DATE + ID + b"\r\nhi\r\n"),
    "a header without a body": (b"Subject: x\r\n", b"Subject: x\r\n" + DATE + ID + b"\r\n"),
    "an empty body": (b"Subject: x\r\n\r\n", b"Subject: x\r\n" + DATE + ID + b"\r\n"),
    "a body without a header": (
        b"\r\nDate: now\r\n\r\nhi\r\n",
        DATE + ID + b"\r\nDate: now\r\n\r\nhi\r\n",
    ),
    "a text without a header": (b"hi there\r\n", DATE + ID + b"\r\nhi there\r\n"),
    "a text of paragraphs": (
        b"hi there\r\nBcc: x\r\n\r\nDate: now\r\n",
        DATE + ID + b"\r\nhi there\r\nBcc: x\r\n\r\nDate: now\r\n",
    ),
    "a text that begins with a space": (b" Date: x\r\n", DATE + ID + b"\r\n Date: x\r\n"),
    "a header that breaks off": (
        b"Date: now\r\nhi there\r\nMessage-ID: <y@pc>\r\n\r\nbye\r\n",
        b"Date: now\r\n" + ID + b"\r\nhi there\r\nMessage-ID: <y@pc>\r\n\r\nbye\r\n",
    ),
    "a field without a name": (b": x\r\n\r\n", DATE + ID + b"\r\n: x\r\n\r\n"),
    "nothing at all": (b"", DATE + ID + b"\r\n"),
    "any octets": (
        b"Subject: \xff\0\xe4\r\n" + BOTH + b"\r\n\xff\0",
        b"Subject: \xff\0\xe4\r\n" + BOTH + b"\r\n\xff\0",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_is_completed(what):
    text, completed = TEXTS[what]
    assert complete(text) == completed
    assert complete(*(bytes([octet]) for octet in text)) == completed, "octet by octet"


def test_what_is_complete_stays_as_it_is():
    for text, completed in TEXTS.values():
        if text:
            assert complete(completed) == completed


WORDS = st.lists(
    st.sampled_from(
        [b"Date: now", b"Bcc: a", b"message-id: b", b"Subject: x", b" folded", b"\t", b"a line"]
        + [b"\r\n"] * 8
        + [b"\r", b"\n", b":", b"\xff"]
    ),
    max_size=30,
).map(b"".join)


@given(WORDS, st.lists(st.integers(0, 300), max_size=8))
@example(b"Subject: x\r\n\r\nhi", [10, 11, 12, 13, 14])
@example(b"\r\n", [1])
def test_it_reads_the_same_in_pieces_as_whole(text, cuts):
    assert complete(*cut(text, cuts)) == complete(text)


@given(WORDS.map(lambda text: text + b"\r\n"))
def test_afterwards_there_is_one_header_with_all_that_it_needs(text):
    header, _, body = complete(text).partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].strip().lower() for line in header.split(b"\r\n")]
    assert b"date" in names
    assert b"message-id" in names
    assert b"bcc" not in names
    assert text.endswith(body) or body == b""


def test_the_body_goes_on_as_it_comes():
    completion = Completion(DATE, ID)
    assert completion.feed(b"Subject: x\r\n\r") == b""
    assert completion.feed(b"\nhi") == b"Subject: x\r\n" + DATE + ID + b"\r\nhi"
    assert completion.feed(b"Bcc: a\r\n") == b"Bcc: a\r\n"
    assert completion.end() == b""


def test_the_end_comes_once():
    completion = Completion(DATE, ID)
    completion.feed(b"Subject: x\r\n")
    assert completion.end() == b"Subject: x\r\n" + DATE + ID + b"\r\n"
    assert completion.end() == b""


def test_a_header_without_end_is_not_kept():
    completion = Completion(DATE, ID)
    line = b"X: " + b"x" * 1019 + b"\r\n"
    for _ in range(HEADER_MAXIMUM // len(line)):
        assert completion.feed(line) == b""
    with pytest.raises(PermanentFailure) as refused:
        completion.feed(b"X")
    assert refused.value.reply == HEADER_TOO_LARGE
