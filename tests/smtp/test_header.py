"""The header of what our own users send is completed (RFC 6409 §8)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.model import reply
from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import HEADER_TOO_LARGE
from postoffice.smtp.header import HEADER_MAXIMUM, Completion, LoopReader, MessageIDReader, Opening
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
        DATE + ID + b"\r\nhi there\r\n\r\nDate: now\r\n",
    ),
    "blind copies behind a line that is no field": (
        BOTH + b"no field\r\nBcc: a,\r\n\tb\r\nTo: c\r\nresent-bcc : d\r\n\r\nBcc: e\r\n",
        BOTH + b"\r\nno field\r\nTo: c\r\n\r\nBcc: e\r\n",
    ),
    "blind copies behind a separator in the middle": (
        BOTH + b"From a@example.org  Sun Nov 29 02:00:00 2026\r\nBcc: a\r\n\r\nhi\r\n",
        BOTH + b"\r\nFrom a@example.org  Sun Nov 29 02:00:00 2026\r\n\r\nhi\r\n",
    ),
    "blind copies behind an empty line, or a blank": (
        b"\r\nBcc: a\r\nTo: b\r\n\r\nBcc: hi\r\n",
        DATE + ID + b"\r\nTo: b\r\n\r\nBcc: hi\r\n",
    ),
    "blind copies behind a blank": (
        b" x\r\nBcc: a\r\n b\r\nTo: b\r\n\r\nhi\r\n",
        DATE + ID + b"\r\n x\r\nTo: b\r\n\r\nhi\r\n",
    ),
    "blind copies behind a mark of UTF-8": (
        b"\xef\xbb\xbfBcc: a\r\nTo: b\r\n\r\nhi\r\n",
        b"To: b\r\n" + DATE + ID + b"\r\nhi\r\n",
    ),
    "From with a blank": (b"From : a\r\n" + BOTH + b"\r\n", b"From : a\r\n" + BOTH + b"\r\n"),
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
@example(b"Date: now\r\n\tBcc: a\r\n")
def test_afterwards_there_is_one_header_with_all_that_it_needs(text):
    header, _, body = complete(text).partition(b"\r\n\r\n")
    lines = [line for line in header.split(b"\r\n") if line[:1] not in b" \t"]  # none continues
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    assert b"date" in names
    assert b"message-id" in names
    assert b"bcc" not in names
    lines = iter([b"", *text.split(b"\r\n")])
    assert all(line in lines for line in body.split(b"\r\n")), "lines of it, in their order"


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


def test_a_body_without_a_header_may_be_of_any_size():
    text = b"one,two\r\nBcc: a\r\n" + b"1,2\r\n" * (HEADER_MAXIMUM // 4)
    for pieces in ([text], [text[at : at + 4099] for at in range(0, len(text), 4099)]):
        assert complete(*pieces) == DATE + ID + b"\r\n" + text.replace(b"Bcc: a\r\n", b"")


SEPARATOR = b"From a@example.org  Sun Nov 29 02:00:00 2026\r\n"
OPENINGS = {
    "a header": (b"Subject: x\r\n\r\nhi\r\n", b"Subject: x\r\n\r\nhi\r\n"),
    "a body behind an empty line": (b"\r\nhi\r\n", b"\r\nhi\r\n"),
    "no header": (b"The disk is full.\r\n", b"\r\nThe disk is full.\r\n"),
    "a blank": (b"  * 81 C\r\n", b"\r\n  * 81 C\r\n"),
    "a TAB, and a colon": (b"\tevil: by x\r\n", b"\r\n\tevil: by x\r\n"),
    "octets": (b"\xfc: x\r\n", b"\r\n\xfc: x\r\n"),
    "nothing": (b"", b""),
    "a separator": (SEPARATOR + b"Subject: x\r\n\r\n", b"Subject: x\r\n\r\n"),
    "one that is quoted": (b">" + SEPARATOR + b"A: x\r\n", b"A: x\r\n"),
    "several": (SEPARATOR + b">From b\r\nFrom c\r\nA: x\r\n", b"A: x\r\n"),
    "one that says nothing": (b"From x\r\nA: x\r\n", b"A: x\r\n"),
    "one before a folded line": (SEPARATOR + b" by x\r\n", b"\r\n by x\r\n"),
    "one before a body": (SEPARATOR + b"\r\nhi\r\n", b"\r\nhi\r\n"),
    "nothing but one": (SEPARATOR, b""),
    "a letter": (b"From here I see it.\r\nYou?\r\n", b"\r\nFrom here I see it.\r\nYou?\r\n"),
    "a field": (b"From: a\r\n\r\n", b"From: a\r\n\r\n"),
    "a field with a blank": (b"From : a\r\nTo: b\r\n\r\n", b"From : a\r\nTo: b\r\n\r\n"),
    "a long line": (b"x" * 5000 + b"\r\n", b"\r\n" + b"x" * 5000 + b"\r\n"),
}


@pytest.mark.parametrize("what", OPENINGS)
def test_a_text_does_not_go_on_with_our_fields(what):
    text, opened = OPENINGS[what]
    for pieces in ([text], [bytes([octet]) for octet in text]):
        opening = Opening()
        assert b"".join(map(opening.feed, pieces)) + opening.end() == opened


@pytest.mark.parametrize("separator", [SEPARATOR, b">" + SEPARATOR, b"From u1\r\n", SEPARATOR * 3])
def test_blind_copies_are_not_shown_behind_a_separator(separator):
    text = separator + b"Bcc: a\r\n b\r\n" + BOTH + b"Resent-Bcc: c\r\n\r\nhi\r\n"
    assert complete(text) == BOTH + b"\r\nhi\r\n"
    assert complete(*(bytes([octet]) for octet in text)) == BOTH + b"\r\nhi\r\n"


def test_no_more_separators_are_dropped_than_a_program_writes():
    opening = Opening()
    text = b"From a\r\n" * 8000 + b"A: x\r\n"
    assert opening.feed(text) == b"\r\n" + text[20 * len(b"From a\r\n") :]


# -- loops ------------------------------------------------------------------------------

RECEIVED = b"Received: from a by b;\r\n\tSun, 29 Nov 2026 12:00:00 +0000\r\n"


@pytest.mark.parametrize(
    ("header", "objection"),
    [
        (b"", None),
        (RECEIVED * 50, None),
        (RECEIVED * 51, reply.TOO_MANY_HOPS),
        (RECEIVED.upper() * 51, reply.TOO_MANY_HOPS),
        (RECEIVED * 40 + b"\r\n" + RECEIVED * 40, None),
        (b"Subject: x\r\n received: y\r\n" * 60, None),
        (b"Delivered-To: Ann@Example.NET\r\n", reply.FORWARDED_IN_A_LOOP),
        (b"Subject: x\r\nDELIVERED-TO:<ann@example.net>\r\n", reply.FORWARDED_IN_A_LOOP),
        (b"Delivered-To: bob@example.net\r\nDelivered-To: \xff\r\n", None),
        (b"X-Delivered-To: ann@example.net\r\n", None),
        (b"Subject: x\r\n\r\nDelivered-To: ann@example.net\r\n", None),
        (b"\r\nDelivered-To: ann@example.net\r\n", None),
    ],
)
def test_a_text_that_comes_round_is_in_a_loop(header, objection):
    for step in (1, 7, 1 << 20):
        reader = LoopReader(["ann@example.net"])
        text = header + b"\r\nbody\r\n"
        for at in range(0, len(text), step):
            reader.feed(text[at : at + step])
        assert reader.objection() == objection


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"Message-ID:\r\n <a@b>\r\n\r\nMessage-ID: <c@d>\r\n", "<a@b>"),
        (b"\r\nMessage-ID: <c@d>\r\n\r\n", ""),
    ],
)
def test_the_message_id_is_that_of_the_header(text, found, step):
    reader = MessageIDReader()
    for at in range(0, len(text), step):
        reader.feed(text[at : at + step])
    assert (reader.found(), reader.size) == (found, len(text))


def test_a_text_that_is_not_forwarded_was_delivered_to_anybody():
    reader = LoopReader([])
    reader.feed(b"Delivered-To: ann@example.net\r\n\r\n")
    assert reader.objection() is None
