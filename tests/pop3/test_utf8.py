"""UTF8 and LANG: how a client is spoken to, and what it gets of international mail (RFC 6856)."""

from __future__ import annotations

from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.errors import LoginRefused, MaildropLocked, PermanentFailure, TemporaryFailure
from postoffice.model.listing import Entry, Listing
from postoffice.model.reply import Reply
from postoffice.pop3.languages import LANGUAGES
from postoffice.pop3.options import POP3Options
from postoffice.pop3.questions import Enough, Enter, Entered, Fetch, More, Update
from postoffice.pop3.session import POP3Session
from postoffice.protocol.downgrade import size_of_text
from postoffice.protocol.sasl import APOPClaim, PasswordClaim, Prove
from postoffice.store.text import normal

CLEAR = POP3Options(passwords=True, mechanisms=("PLAIN", "LOGIN"))
PLAIN = b"Subject: plain\r\n\r\nbody\r\n"
INTERNATIONAL = "Subject: Grüße\r\n\r\nüne\r\ntwo\r\n".encode()
DOWNGRADED = "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nüne\r\ntwo\r\n".encode()
ODD = "Content-Type: multipart/mixed; boundary=ü\r\n\r\n".encode()
MAIL = (PLAIN, INTERNATIONAL, ODD)


def entries(texts) -> list[Entry]:
    return [Entry(str(n), len(text), "", size_of_text(text)) for n, text in enumerate(texts)]


class Talk:
    """A client that talks to a session; a maildrop that is a list answers its questions."""

    def __init__(self, texts=MAIL, listed=None, piece=1000, options=CLEAR):
        self.session = POP3Session(options)
        self.texts = texts
        self.listed = entries(texts) if listed is None else listed
        self.piece = piece
        self.refused = None
        self.asked = []
        self.session.take_output()

    def say(self, *lines: bytes) -> bytes:
        self.session.receive(b"".join(line + b"\r\n" for line in lines))
        while (question := self.session.next_question()) is not None:
            self.asked.append(question)
            self.session.answer(self._answer(question))
        return self.session.take_output()

    def _answer(self, question):
        match question:
            case Prove():
                return self.refused
            case Enter():
                return Entered(Listing(self.listed), CLEAR)
            case Fetch(entry):
                self.rest = self.texts[int(entry.uidl)]
                return [self._more()]
            case More():
                return self._more()
            case Update(entries):
                return len(entries) if self.refused is None else self.refused
        return None

    def _more(self):
        more, self.rest = self.rest[: self.piece], self.rest[self.piece :]
        return more


def inside(*before: bytes, **named) -> Talk:
    talk = Talk(**named)
    assert b"-ERR" not in talk.say(*before, b"USER joe", b"PASS secret")
    return talk


def text_in(reply: bytes) -> bytes:
    status, _, rest = reply.partition(b"\r\n")
    assert status.startswith(b"+OK")
    assert rest.endswith(b".\r\n")
    return rest.removesuffix(b".\r\n")


# -- UTF8 ------------------------------------------------------------------------


def test_with_utf8_messages_come_as_they_are():
    talk = inside(b"UTF8")
    sizes = list(map(len, MAIL))
    assert talk.say(b"STAT") == b"+OK 3 %d\r\n" % sum(sizes)
    assert text_in(talk.say(b"LIST")) == b"1 %d\r\n2 %d\r\n3 %d\r\n" % tuple(sizes)
    for number, text in enumerate(MAIL, 1):
        assert talk.say(b"LIST %d" % number) == b"+OK %d %d\r\n" % (number, len(text))
        assert text_in(talk.say(b"RETR %d" % number)) == text
        assert text_in(talk.say(b"TOP %d 9" % number)) == text


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_without_it_they_come_in_ascii_with_the_sizes_of_that(piece):
    talk = inside(piece=piece)
    assert talk.say(b"LIST 2") == b"+OK 2 %d\r\n" % len(DOWNGRADED)
    assert talk.say(b"RETR 2").startswith(b"+OK %d octets\r\n" % len(DOWNGRADED))
    assert text_in(talk.say(b"RETR 2")) == DOWNGRADED
    assert text_in(talk.say(b"TOP 2 1")) == DOWNGRADED.removesuffix(b"two\r\n")
    assert text_in(talk.say(b"RETR 1")) == PLAIN
    total = len(PLAIN) + len(DOWNGRADED) + len(ODD)
    assert talk.say(b"STAT") == b"+OK 3 %d\r\n" % total
    assert b"2 %d\r\n" % len(DOWNGRADED) in text_in(talk.say(b"LIST"))
    talk.say(b"DELE 2")
    assert talk.say(b"STAT") == b"+OK 2 %d\r\n" % (total - len(DOWNGRADED))
    talk.say(b"RSET")
    assert talk.say(b"STAT") == b"+OK 3 %d\r\n" % total


def test_what_is_listed_can_be_had_whatever_its_octets():
    talk = inside()
    assert talk.say(b"LIST 3") == b"+OK 3 %d\r\n" % len(ODD)
    assert text_in(talk.say(b"RETR 3")) == ODD
    assert text_in(talk.say(b"TOP 3 0")) == ODD
    assert talk.say(b"DELE 3").startswith(b"+OK")


@given(st.lists(st.binary(max_size=80), max_size=5), st.integers(1, 90))
def test_no_octets_are_too_strange_for_retr_and_top(texts, piece):
    texts = [b"Subject: \xc3\xbc" + normal(text) for text in texts]
    talk = inside(texts=texts, piece=piece)
    for number in range(1, len(texts) + 1):
        size = int(talk.say(b"LIST %d" % number).split()[2])
        reply = talk.say(b"RETR %d" % number)
        assert reply.startswith(b"+OK %d octets" % size)
        assert reply.endswith(b"\r\n.\r\n")
        assert talk.say(b"TOP %d 0" % number).startswith(b"+OK")
    assert not talk.session.broken


def test_a_text_that_cannot_be_had_is_no_error_of_the_client():
    """However often it asks."""
    talk = inside(listed=[Entry("1", len(INTERNATIONAL), "", len(DOWNGRADED) + 1)])
    for _ in range(50):
        assert talk.say(b"RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert talk.say(b"NOOP") == b"+OK\r\n"


def test_utf8_comes_before_the_login_and_has_no_argument():
    assert Talk().say(b"UTF8 now").startswith(b"-ERR")
    assert Talk().say(b"UTF8", b"utf8") == b"+OK UTF8 enabled\r\n" * 2
    assert inside().say(b"UTF8") == b"-ERR not in this state\r\n"


def test_a_text_that_is_not_what_was_listed_is_not_begun():
    wrong = [Entry("1", len(INTERNATIONAL), "", len(DOWNGRADED) + 1)]
    talk = inside(listed=wrong)
    assert talk.say(b"RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert talk.say(b"NOOP") == b"+OK\r\n"


def test_a_text_that_turns_out_to_be_another_breaks_off():
    talk = inside(listed=[Entry("1", len(INTERNATIONAL), "", len(DOWNGRADED) + 1)], piece=30)
    assert not talk.say(b"RETR 1").endswith(b"\r\n.\r\n")
    assert talk.session.broken


def test_a_text_that_is_given_up_is_closed():
    talk = inside(piece=30)
    talk.say(b"TOP 2 0")
    assert isinstance(talk.asked[-1], Enough)


@given(st.lists(st.sampled_from(MAIL + (DOWNGRADED, b"")), max_size=6), st.integers(1, 90))
def test_what_list_promises_is_what_retr_sends(texts, piece):
    for before in ((), (b"UTF8",)):
        talk = inside(*before, texts=texts, piece=piece)
        promised = 0
        for number in range(1, len(texts) + 1):
            size = int(talk.say(b"LIST %d" % number).split()[2])
            promised += size
            assert len(text_in(talk.say(b"RETR %d" % number))) == size
        assert talk.say(b"STAT") == b"+OK %d %d\r\n" % (len(texts), promised)


# -- names and passwords ---------------------------------------------------------


def test_names_and_passwords_may_be_in_utf8():
    talk = Talk()
    talk.say("USER jörg@müller.example".encode(), "PASS süß 😀".encode())
    [claim] = [question.claim for question in talk.asked if isinstance(question, Prove)]
    assert claim == PasswordClaim("jörg@müller.example".encode(), "süß 😀".encode())


@pytest.mark.parametrize("octets", [b"j\xf6rg", "a\u202eb".encode(), "\ue000".encode()])
def test_what_cannot_be_one_is_refused(octets):
    """RFC 6856 §2.2: no UTF-8, or what SASLprep prohibits."""
    talk = Talk()
    assert talk.say(b"USER " + octets).startswith(b"-ERR [AUTH] ")
    talk.say(b"USER joe")
    assert talk.say(b"PASS " + octets).startswith(b"-ERR [AUTH] ")
    assert not talk.asked


def test_the_secret_of_apop_is_prepared_or_as_it_was_typed():
    typed, stamp = "su\u0308\u00df".encode(), b"<1@x>"
    for octets in (typed, "s\u00fc\u00df".encode()):
        digest = md5(stamp + octets).hexdigest().encode()
        assert APOPClaim(b"joe", stamp, digest).verify(typed)
    assert not APOPClaim(b"joe", stamp, md5(stamp + b"x").hexdigest().encode()).verify(typed)


def test_stls_comes_before_utf8_and_forgets_the_language():
    """RFC 6856 §2.1; RFC 2595 §4: what was said before was said in clear."""
    talk = Talk(options=POP3Options(starttls=True))
    talk.say(b"LANG de")
    assert talk.say(b"UTF8", b"STLS").endswith(b"-ERR STLS kommt vor UTF8\r\n")
    talk = Talk(options=POP3Options(starttls=True))
    talk.say(b"LANG de")
    assert talk.say(b"STLS") == b"+OK TLS kann beginnen\r\n"
    talk.session.secured({})
    assert talk.say(b"RETR 1") == b"-ERR not in this state\r\n"


# -- LANG ------------------------------------------------------------------------


def test_lang_alone_lists_the_languages_in_themselves():
    for talk in (Talk(), inside()):
        listed = text_in(talk.say(b"LANG")).decode().splitlines()
        assert dict(line.split(" ", 1) for line in listed) == LANGUAGES


def test_replies_are_in_the_language_that_was_asked_for():
    talk = inside()
    assert talk.say(b"LANG de-CH") == b"+OK de Antworten kommen jetzt auf Deutsch\r\n"
    assert talk.say(b"DELE 1") == "+OK Nachricht 1 gelöscht\r\n".encode()
    assert talk.say(b"RETR 1") == b"-ERR diese Nachricht gibt es nicht\r\n"
    assert talk.say(b"LANG ja").decode().startswith("+OK ja これ")
    assert talk.say(b"LANG *") == b"+OK en replies are in English now\r\n"
    assert talk.say(b"RETR 1") == b"-ERR no such message\r\n"


def test_a_language_that_is_not_spoken_leaves_things_as_they_are():
    talk = Talk()
    talk.say(b"LANG fr")
    assert talk.say(b"LANG sv").decode().startswith("-ERR cette langue")
    assert talk.say(b"LANG d\xfc").decode().startswith("-ERR cette langue")
    assert talk.say(b"NOOP") == "-ERR pas dans cet état\r\n".encode()


def test_a_language_stays_when_the_client_logs_in():
    assert inside(b"LANG de").say(b"QUIT") == b"+OK gel\xc3\xb6scht: 0; auf Wiedersehen\r\n"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (LoginRefused(), "[AUTH] nombre o contraseña incorrectos"),
        (MaildropLocked(), "[IN-USE] otra sesión tiene ocupado este buzón"),
        (
            TemporaryFailure("", Reply(451, "4.3.0", "A fault of ours (a1.2)")),
            "[SYS/TEMP] un fallo nuestro; inténtelo de nuevo más tarde (a1.2)",
        ),
        (PermanentFailure("", Reply(550, "5.0.0", "Never")), "[SYS/PERM] no es posible"),
    ],
)
def test_response_codes_are_the_same_in_all_languages(failure, said):
    talk = Talk()
    talk.refused = failure
    talk.say(b"LANG es", b"USER joe")
    assert talk.say(b"PASS secret").decode() == f"-ERR {said}\r\n"


def test_everything_is_ascii_until_somebody_asks_for_more():
    talk = inside()
    for command in (b"STAT", b"LIST", b"UIDL", b"CAPA", b"NOOP", b"RETR 9", b"X", b"TOP 2 0"):
        assert talk.say(command).isascii()
