"""AUTH and submission as the rules see them (RFC 4954, 6409)."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

import pytest

from postoffice.model.errors import LoginRefused, TemporaryFailure
from postoffice.protocol.sasl import PasswordClaim
from postoffice.smtp.questions import Enter, Mail, Prove
from postoffice.testing import ScramClient

MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
OPEN = {"mechanisms": MECHANISMS, "passwords": True}
BINDINGS = {"tls-exporter": b"e" * 32}
BOUND = {**OPEN, "encrypted": True, "bindings": BINDINGS}
MAIL = b"MAIL FROM:<joe@example.net>\r\n"
JOE, WORD = b64encode(b"joe"), b64encode(b"secret word")


@pytest.fixture
def client(office):
    return office.greeted(**OPEN)


def challenge(said: bytes) -> bytes:
    """What the server says in an exchange, base64 undone."""
    assert said.startswith(b"334 ")
    assert said.endswith(b"\r\n")
    return b64decode(said[4:-2], validate=True)


def line(octets: bytes) -> bytes:
    """What a client says in an exchange."""
    return b64encode(octets) + b"\r\n"


# -- mechanisms -----------------------------------------------------------------


def test_plain(client, plain):
    assert challenge(client.hear(b"AUTH PLAIN\r\n")) == b""
    assert client.told(plain() + b"\r\n") == ["235 2.7.0"]
    assert client.asked == [Prove(PasswordClaim(b"joe", b"secret word"), "PLAIN"), Enter()]


def test_plain_with_an_initial_response(client, plain):
    assert client.told(b"auth plain " + plain() + b"\r\n") == ["235 2.7.0"]


def test_login(client):
    assert challenge(client.hear(b"AUTH LOGIN\r\n")) == b"Username:"
    assert challenge(client.hear(line(b"joe"))) == b"Password:"
    assert client.told(line(b"secret word")) == ["235 2.7.0"]


def test_login_with_an_initial_response(client):
    assert challenge(client.hear(b"AUTH LOGIN " + JOE + b"\r\n")) == b"Password:"
    assert client.told(WORD + b"\r\n") == ["235 2.7.0"]


@pytest.mark.parametrize(("word", "said"), [(b"secret word", "235 2.7.0"), (b"x", "535 5.7.8")])
def test_cram_md5(client, word, said):
    octets = challenge(client.hear(b"AUTH CRAM-MD5\r\n"))
    assert octets.startswith(b"<")
    assert octets.endswith(b"@mail.example.net>")
    digest = hmac.new(word, octets, "md5").hexdigest().encode()
    assert client.told(line(b"joe " + digest)) == [said]


@pytest.mark.parametrize("early", [True, False], ids=["initial response", "challenge"])
def test_scram(client, early):
    joe = ScramClient(b"joe", b"secret word", b"nonce")
    if early:
        said = client.hear(b"AUTH SCRAM-SHA-256 " + line(joe.first))
    else:
        assert challenge(client.hear(b"AUTH SCRAM-SHA-256\r\n")) == b""
        said = client.hear(line(joe.first))
    assert challenge(client.hear(line(joe.final(challenge(said))))) == joe.verdict
    assert client.told(b"\r\n") == ["235 2.7.0"]
    assert client.session.in_text is False


def test_a_wrong_password_in_scram_has_no_verdict(client):
    joe = ScramClient(b"joe", b"wrong", b"nonce")
    first = challenge(client.hear(b"AUTH SCRAM-SHA-256 " + line(joe.first)))
    assert client.told(line(joe.final(first))) == ["535 5.7.8"]


@pytest.mark.parametrize("binding", [b"e" * 32, b"x" * 32], ids=["right", "wrong"])
def test_scram_plus_is_bound_to_the_link(office, binding):
    client = office.greeted(**BOUND)
    gs2 = b"p=tls-exporter,,"
    joe = ScramClient(b"joe", b"secret word", b"nonce", gs2, binding)
    first = challenge(client.hear(b"AUTH SCRAM-SHA-256-PLUS " + line(joe.first)))
    said = client.hear(line(joe.final(first)))
    if binding == BINDINGS["tls-exporter"]:
        assert challenge(said) == joe.verdict
        assert client.told(b"\r\n") == ["235 2.7.0"]
    else:
        assert said.startswith(b"535 5.7.8 ")
        assert Prove not in client.kinds


def test_scram_where_somebody_has_hidden_plus_is_refused(office):
    joe = ScramClient(b"joe", b"secret word", b"nonce", b"y,,")
    said = office.greeted(**BOUND).told(b"AUTH SCRAM-SHA-256 " + line(joe.first))
    assert said == ["535 5.7.8"]


def test_a_login_is_complete_only_after_the_last_question(office, plain):
    client = office.greeted(**OPEN, answers={"Enter": TemporaryFailure("no room")})
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["454 4.7.0"]
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["454 4.7.0"], "and not 503"


@pytest.mark.parametrize("dummy", [line(b"\1"), b"\r\n", b"*\r\n"])
@pytest.mark.parametrize(
    ("mechanism", "message"),
    [(b"OAUTHBEARER", b"n,,\1auth=Bearer x\1\1"), (b"XOAUTH2", b"user=joe\1auth=Bearer x\1\1")],
)
def test_a_token_that_is_refused_is_told_why_before(office, mechanism, message, dummy):
    client = office.greeted(
        mechanisms=("OAUTHBEARER", "XOAUTH2"),
        passwords=True,
        answers={"Prove": lambda question: LoginRefused()},
    )
    said = client.hear(b"AUTH %b %b" % (mechanism, line(message)))
    assert b'"status"' in challenge(said)
    assert client.told(dummy) == ["535 5.7.8"]
    client.answers["Prove"] = None
    assert client.told(b"AUTH %b %b" % (mechanism, line(message))) == ["235 2.7.0"]


# -- what goes wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"AUTH", "501 5.5.4"),
        (b"AUTH KERBEROS_V4", "504 5.5.4"),
        (b"AUTH SCRAM-SHA-256-PLUS", "504 5.5.4"),  # there is nothing to bind it to
        (b"AUTH PLAIN =", "501 5.5.2"),  # an empty initial response
        (b"AUTH PLAIN *", "501 5.5.2"),  # no cancelling here, and no base64
        (b"AUTH PLAIN am9", "501 5.5.2"),
        (b"AUTH PLAIN am9lCg== x", "501 5.5.2"),
        (b"AUTH PLAIN am9l", "501 5.5.2"),
        (b"AUTH CRAM-MD5 am9l", "501 5.5.2"),  # the server begins
        (b"AUTH CRAM-MD5 =", "501 5.5.2"),
        (b"AUTH LOGIN =", "334"),  # who nobody is, is asked for his password all the same
        (b"AUTH SCRAM-SHA-256 am9l", "501 5.5.2"),
        (b"AUTH PLAIN \xc3\xa4", "501 5.5.2"),
    ],
)
def test_beginnings_that_are_none(client, said, told):
    assert client.told(said + b"\r\n") == [told]
    assert client.asked == []


@pytest.mark.parametrize("mechanism", [name.encode() for name in MECHANISMS])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"*", "501 5.7.0"),
        (b"am9", "501 5.5.2"),
        (b"am 9l", "501 5.5.2"),
        (b"=", "501 5.5.2"),
        (b"MAIL FROM:<a@example.org>", "501 5.5.2"),
        (b"\0", "501 5.5.2"),
        (b"\xff", "501 5.5.2"),
        (b"am9l\n", "500 5.5.2"),
        (b"x" * 12_287, "500 5.5.6"),
        (b"x" * 100_000, "500 5.5.6"),
    ],
)
def test_lines_that_end_an_exchange(client, mechanism, said, told):
    client.hear(b"AUTH " + mechanism + b"\r\n")
    assert client.told(said + b"\r\n")[0] == told
    assert client.told(b"NOOP\r\n") == ["250 2.0.0"], "commands are heard again"
    assert client.asked == []


def test_an_exchange_that_went_wrong_may_be_begun_again(client, plain):
    client.hear(b"AUTH PLAIN\r\n*\r\n")
    assert client.told(b"AUTH PLAIN\r\n" + plain() + b"\r\n") == ["334", "235 2.7.0"]


def test_a_line_of_an_exchange_is_no_command(client):
    client.hear(b"AUTH LOGIN\r\n")
    assert client.told(b"QUIT\r\n") == ["334"], "it is base64, and a user's name"
    assert not client.session.closed


def test_the_longest_message_is_taken(client):
    octets = line(b"\0joe\0" + b"x" * 9_208)
    assert len(octets) == 12_286
    assert client.told(b"AUTH PLAIN\r\n" + octets) == ["334", "535 5.7.8"]


def test_auth_may_be_longer_than_other_commands(client):
    word = b64encode(b"\0joe\0" + b"x" * 5000)
    assert client.told(b"AUTH PLAIN " + word + b"\r\n") == ["535 5.7.8"]
    assert client.told(b"NOOP " + word + b"\r\n") == ["500 5.5.2"]


def test_nobody_logs_in_for_another(client, plain):
    assert client.told(b"AUTH PLAIN " + plain(other=b"ann") + b"\r\n") == ["535 5.7.8"]
    assert client.told(b"AUTH PLAIN " + plain(other=b"joe") + b"\r\n") == ["235 2.7.0"]


def test_passwords_are_not_taken_in_clear(office, plain):
    client = office.greeted(mechanisms=MECHANISMS)
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["538 5.7.11"]
    assert client.asked == []
    assert b"AUTH" not in client.hear(b"EHLO pc\r\n"), "and not asked for"


def test_where_nobody_logs_in_there_is_no_auth(office):
    assert office.greeted().told(b"AUTH PLAIN\r\n") == ["502 5.5.1"]


@pytest.mark.parametrize("before", [b"", b"HELO pc\r\n"])
def test_it_needs_ehlo(office, before):
    client = office(**OPEN)
    assert client.told(before + b"AUTH PLAIN\r\n")[-1] == "503 5.5.1"


def test_once_is_enough(client, plain):
    client.hear(b"AUTH PLAIN " + plain() + b"\r\nEHLO pc\r\nRSET\r\n")
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["503 5.5.1"]


def test_it_has_no_place_in_a_transaction(client):
    assert client.told(MAIL + b"AUTH PLAIN\r\n") == ["250 2.1.0", "503 5.5.1"]


@pytest.mark.parametrize("question", ["Prove", "SaltOf"])
def test_a_directory_that_cannot_say_is_for_later(office, question):
    client = office.greeted(**OPEN, answers={question: TemporaryFailure("no directory")})
    joe = ScramClient(b"joe", b"secret word", b"nonce")
    for _ in range(10):  # which is no fault of the client
        said = client.hear(b"AUTH SCRAM-SHA-256 " + line(joe.first))
        if question == "Prove":
            said = client.hear(line(joe.final(challenge(said))))
        assert said.startswith(b"454 4.7.0 ")


# -- limits ---------------------------------------------------------------------


@pytest.mark.parametrize("other", [b"", b"ann"], ids=["wrong password", "another identity"])
def test_the_last_wrong_login_is_told_so_and_shown_out(client, plain, other):
    wrong = b"AUTH PLAIN " + plain(password=b"wrong", other=other) + b"\r\n"
    assert client.told(wrong * 2) == ["535 5.7.8"] * 2
    assert client.told(wrong + b"AUTH PLAIN " + plain() + b"\r\n") == ["535 5.7.8", "421 4.7.0"]
    assert client.session.closed
    assert Enter not in client.kinds


def test_tries_that_are_no_login_count_as_errors_only(client, plain):
    assert client.told(b"AUTH PLAIN\r\n*\r\n" * 5) == ["334", "501 5.7.0"] * 5
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["235 2.7.0"]


def test_no_more_may_be_said_than_there_is_room_for_errors(client):
    assert client.told(b"AUTH PLAIN *\r\n" * 12) == ["501 5.5.2"] * 10 + ["421 4.7.0"]


# -- submission -----------------------------------------------------------------


@pytest.fixture
def submission(office):
    return office.greeted(submission=True, **OPEN)


def test_submission_needs_a_login(submission, plain):
    assert submission.told(MAIL) == ["530 5.7.0"]
    assert submission.told(b"RCPT TO:<b@example.net>\r\nDATA\r\n") == ["503 5.5.1"] * 2
    assert submission.asked == []
    submission.hear(b"AUTH PLAIN " + plain() + b"\r\n")
    assert submission.told(MAIL) == ["250 2.1.0"]
    assert submission.asked[-1].protocol == "ESMTPA"


def test_a_login_that_failed_is_none(submission, plain):
    submission.hear(b"AUTH PLAIN " + plain(password=b"wrong") + b"\r\n")
    assert submission.told(MAIL) == ["530 5.7.0"]
    submission.hear(b"AUTH LOGIN\r\n" + JOE + b"\r\n*\r\n")
    assert submission.told(MAIL) == ["530 5.7.0"]


def test_where_passwords_are_not_taken_in_clear_it_is_told_what_to_do(office):
    client = office.greeted(submission=True, starttls=True, mechanisms=MECHANISMS)
    assert client.hear(MAIL) == b"530 5.7.0 Say STARTTLS first\r\n"


def test_hello_comes_first_all_the_same(office):
    assert office(submission=True, **OPEN).told(MAIL) == ["503 5.5.1"]


@pytest.mark.parametrize("again", [b"HELO pc\r\n", b"EHLO pc\r\n", b"RSET\r\n"])
def test_the_login_lasts(submission, plain, again):
    submission.hear(b"AUTH PLAIN " + plain() + b"\r\n" + again)
    assert submission.told(MAIL) == ["250 2.1.0"]


# -- MAIL … AUTH= ---------------------------------------------------------------


@pytest.mark.parametrize("value", [b"<>", b"joe@example.net", b"a+3Db+2Bc@example.org"])
def test_mail_may_tell_who_has_sent_it_first(client, value):
    assert client.told(b"MAIL FROM:<joe@example.net> AUTH=" + value + b"\r\n") == ["250 2.1.0"]
    assert client.kinds == [Mail]


@pytest.mark.parametrize("value", [b"", b"=", b"=a=b", b"=a+zz", b"=a+3", b"=a+3d", b"=\xc3\xa4"])
def test_what_is_no_xtext_is_refused(client, value):
    assert client.told(b"MAIL FROM:<joe@example.net> AUTH" + value + b"\r\n") == ["501 5.5.4"]


def test_where_auth_is_not_offered_neither_is_its_parameter(office):
    for options in ({}, {"mechanisms": MECHANISMS}):
        client = office.greeted(**options)
        assert client.told(b"MAIL FROM:<joe@example.net> AUTH=<>\r\n") == ["555 5.5.4"]
