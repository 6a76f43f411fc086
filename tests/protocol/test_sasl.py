"""The mechanisms of a login: whole exchanges, and what is wrong at each step of them."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Account
from postoffice.protocol.sasl import (
    BEARER,
    MECHANISMS,
    MESSAGE_MAXIMUM,
    NEEDS,
    APOPClaim,
    BearerClaim,
    Challenge,
    Claim,
    Malformed,
    PasswordClaim,
    Refused,
    SaltOf,
    ScramClaim,
    SharedClaim,
    exchange,
)
from postoffice.protocol.scram import Salt, derive
from postoffice.testing import ScramClient

#: RFC 2195 §2.
HOSTNAME, NONCE = "postoffice.reston.mci.net", "1896.697170952"
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
DIGEST = b"b913a602c7eda7a495b4e6e7334d3890"

ALL = (*MECHANISMS, "SCRAM-SHA-256-PLUS")
BINDINGS = {"tls-exporter": b"e" * 32}
SALT = Salt(b"salt", 2)


def begun(mechanism):
    return exchange(
        mechanism, hostname=HOSTNAME, bindings=BINDINGS, plus=False, nonce=lambda: NONCE
    )


def after(mechanism, *messages):
    """What an exchange asks when its client has said all this."""
    running = begun(mechanism)
    step = next(running)
    for message in messages:
        assert isinstance(step, Challenge)
        step = running.send(message)
        if isinstance(step, SaltOf):
            step = running.send(SALT)
    return step


def whole(mechanism):
    """What a client says that knows its mechanism."""
    if mechanism == "PLAIN":
        return [b"\0tim\0secret"]
    if mechanism == "LOGIN":
        return [b"tim", b"secret"]
    if mechanism == "CRAM-MD5":
        return [b"tim " + DIGEST]
    if mechanism == "OAUTHBEARER":
        return [b"n,a=tim,\1host=mail.example.net\1port=995\1auth=Bearer dG9r.ZW4=\1\1"]
    if mechanism == "XOAUTH2":
        return [b"user=tim\1auth=Bearer dG9r.ZW4=\1\1"]
    gs2, binding = (b"p=tls-exporter,,", b"e" * 32) if "PLUS" in mechanism else (b"n,,", b"")
    client = ScramClient(b"tim", b"secret", b"nonce", gs2, binding)
    return [client.first, client.final(after(mechanism, client.first).octets)]


# -- what all have in common -----------------------------------------------------


@pytest.mark.parametrize("mechanism", ALL)
def test_an_exchange_yields_one_claim_and_ends_when_it_is_believed(mechanism):
    running = begun(mechanism)
    step, messages, claims = next(running), iter(whole(mechanism)), []
    while step is not None:
        if isinstance(step, Claim):
            claims.append(step)
            assert not isinstance(step, ScramClaim) or step.verify(derive(b"secret", b"salt", 2))
            step = next(running, None)
        elif isinstance(step, SaltOf):
            step = running.send(SALT)
        elif (message := next(messages, None)) is not None:
            step = running.send(message)
        else:  # the last word is ours; a client has no answer to it
            assert "SCRAM" in mechanism
            with pytest.raises(StopIteration):
                running.send(b"")
            step = None
    assert [claim.user for claim in claims] == [b"tim"]
    assert next(messages, None) is None


@pytest.mark.parametrize("mechanism", ALL)
def test_an_initial_response_may_come_where_the_client_speaks_first(mechanism):
    first = after(mechanism)
    assert first.first == (mechanism != "CRAM-MD5")
    assert first.octets == {"LOGIN": b"Username:", "CRAM-MD5": CHALLENGE}.get(mechanism, b"")


@pytest.mark.parametrize("mechanism", ALL)
def test_a_client_may_leave_at_any_step(mechanism):
    messages = whole(mechanism)
    for said in range(len(messages)):
        running = begun(mechanism)
        next(running)
        for message in messages[:said]:
            if isinstance(running.send(message), SaltOf):
                running.send(SALT)
        running.close()
        with pytest.raises(StopIteration):
            running.send(messages[said])


@pytest.mark.parametrize("mechanism", ALL)
def test_a_message_that_is_too_long_is_malformed_at_every_step(mechanism):
    messages = whole(mechanism)
    for number, message in enumerate(messages):
        long = message.ljust(MESSAGE_MAXIMUM + 1, b"x")
        with pytest.raises(Malformed, match="too long"):
            after(mechanism, *messages[:number], long)


@pytest.mark.parametrize("mechanism", ALL)
def test_a_message_of_nothing_is_malformed_at_every_step(mechanism):
    messages = [*whole(mechanism)[:-1], b""]
    with pytest.raises(Malformed):
        after(mechanism, *messages)
    with pytest.raises(Malformed):
        after(mechanism, *(b"" for _ in messages))


@pytest.mark.parametrize("mechanism", ["plain", "EXTERNAL", "SCRAM-SHA-1", "ANONYMOUS"])
def test_there_are_no_other_mechanisms(mechanism):
    with pytest.raises(ValueError, match=mechanism):
        begun(mechanism)


def test_every_mechanism_needs_something_of_an_account_or_a_checker_of_tokens():
    assert set(NEEDS) == {*MECHANISMS, "APOP"} - BEARER
    assert set(NEEDS.values()) <= {field.name for field in fields(Account)}


@pytest.mark.parametrize("mechanism", ALL)
def test_no_secret_is_in_what_is_shown(mechanism):
    messages = whole(mechanism)
    shown = repr(after(mechanism, *messages))
    assert "tim" in shown
    for secret in (b"secret", DIGEST, b"dG9r", messages[-1].rpartition(b",")[2]):
        assert secret.decode("ascii", "replace") not in shown


PIECES = st.sampled_from(
    [b"\0", b"tim", b"secret", b" ", DIGEST, b"n,,", b"y,,", b"p=tls-exporter,,", b"n=tim", b",",
     b",r=nonce", b"a=tim", b"c=biws", NONCE.encode(), b",p=", b"A" * 43 + b"=", b"m=x", b"=",
     b"x=", b"n,,\1", b"n,a=tim,\1", b"auth=Bearer x", b"\1", b"user=tim\1"]
)  # fmt: skip
MESSAGES = st.one_of(
    st.binary(max_size=60), st.lists(st.one_of(PIECES, st.binary(max_size=3))).map(b"".join)
)


@given(st.sampled_from(ALL), st.lists(MESSAGES, max_size=4), st.integers(0, 2))
def test_any_octets_are_a_claim_malformed_or_refused_and_nothing_else(mechanism, messages, well):
    """After none, one or two messages as they should be."""
    running = begun(mechanism)
    said = iter(whole(mechanism)[:well] + messages)
    step = next(running)
    try:
        while not isinstance(step, Claim):
            if isinstance(step, SaltOf):
                step = running.send(SALT)
            else:
                assert isinstance(step, Challenge)
                if (message := next(said, None)) is None:
                    return
                step = running.send(message)
    except (Malformed, Refused):
        return
    assert isinstance(step.user, bytes)
    assert step.user or mechanism == "OAUTHBEARER"


# -- PLAIN ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "user", "password"),
    [
        (b"\0tim\0tanstaaftanstaaf", b"tim", b"tanstaaftanstaaf"),  # RFC 4616 §4
        (b"tim\0tim\0secret", b"tim", b"secret"),
        (b"TIM\0tim\0secret", b"tim", b"secret"),
        (b"\0joe@example.net\0 s\xc3\xa9cret ", b"joe@example.net", b" s\xc3\xa9cret "),
        (b"\0\xff\0\xfe", b"\xff", b"\xfe"),
        (b"\0t\0" + b"x" * (MESSAGE_MAXIMUM - 3), b"t", b"x" * (MESSAGE_MAXIMUM - 3)),
    ],
    ids=["rfc", "himself", "in-capitals", "utf-8", "octets", "longest"],
)
def test_plain_has_a_user_and_a_password(message, user, password):
    assert after("PLAIN", message) == PasswordClaim(user, password)


@pytest.mark.parametrize(
    "message",
    [b"\0", b"\0\0", b"tim", b"\0tim", b"tim\0secret", b"\0tim\0", b"\0\0secret", b"tim\0\0secret",
     b"\0tim\0sec\0ret", b"\0tim\0secret\0"],
)  # fmt: skip
def test_plain_without_three_words_is_malformed(message):
    with pytest.raises(Malformed):
        after("PLAIN", message)


@pytest.mark.parametrize("authzid", [b"Ursel", b"ti", b"tim ", b"\xff"])
def test_nobody_acts_for_another(authzid):
    with pytest.raises(Refused):
        after("PLAIN", authzid + b"\0tim\0secret")


# -- LOGIN ----------------------------------------------------------------------


def test_login_asks_for_the_user_and_then_for_the_password():
    assert after("LOGIN") == Challenge(b"Username:", first=True)
    assert after("LOGIN", b"tim") == Challenge(b"Password:")
    assert after("LOGIN", b"tim", b"secret") == PasswordClaim(b"tim", b"secret")
    assert after("LOGIN", b"t\xc3\xaem", b"\0 \xff") == PasswordClaim(b"t\xc3\xaem", b"\0 \xff")


@pytest.mark.parametrize("messages", [(b"", b"secret"), (b"tim", b"")])
def test_login_without_a_user_or_a_password_is_malformed(messages):
    with pytest.raises(Malformed):
        after("LOGIN", *messages)


# -- OAUTHBEARER, XOAUTH2 -----------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "message", "user", "token"),
    [
        # RFC 7628 §4.1
        ("OAUTHBEARER", b"n,a=user@example.com,\1host=server.example.com\1port=143\1"
         b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1",
         b"user@example.com", b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="),
        ("OAUTHBEARER", b"n,,\1auth=bearer a.b-c_d~e+f/g\1\1", b"", b"a.b-c_d~e+f/g"),
        ("OAUTHBEARER", b"y,a=a=2Cb=3Dc,\1auth=Bearer x\1qs=a b\r\n\tc\1\1", b"a,b=c", b"x"),
        ("XOAUTH2", b"user=someuser@example.com\1auth=Bearer ya29.vF9dft4\1\1",
         b"someuser@example.com", b"ya29.vF9dft4"),
    ],
)  # fmt: skip
def test_a_token_and_whose_it_is(mechanism, message, user, token):
    assert after(mechanism, message) == BearerClaim(user, token)


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        *(("OAUTHBEARER", message) for message in (
            b"\1", b"n,,", b"n,,\1", b"p=tls-exporter,,\1auth=Bearer x\1\1",
            b"n,a=,\1auth=Bearer x\1\1", b"n,a=a=2X,\1auth=Bearer x\1\1",
            b"n,,\1auth=Bearer x\1", b"n,,\1auth=Bearer \0\1\1", b"user=tim\1auth=Bearer x\1\1",
            b"n,,\1auth=Bearer x\1\1more")),
        *(("XOAUTH2", message) for message in (
            b"user=\1auth=Bearer x\1\1", b"auth=Bearer x\1\1", b"user=tim\1auth=Bearer x\1",
            b"n,a=tim,\1auth=Bearer x\1\1")),
    ],
)  # fmt: skip
def test_what_is_no_message_of_a_token(mechanism, message):
    with pytest.raises(Malformed):
        after(mechanism, message)


@pytest.mark.parametrize(
    ("mechanism", "complaint"),
    [("OAUTHBEARER", {"status": "invalid_token"}), ("XOAUTH2", {"status": "401"})],
)
def test_why_a_token_is_refused_is_said_in_json(mechanism, complaint):
    running = begun(mechanism)
    next(running)
    running.send(*whole(mechanism))
    challenge = running.throw(Refused())
    assert json.loads(challenge.octets).items() >= complaint.items()
    with pytest.raises(Refused):
        running.send(b"\1")


@pytest.mark.parametrize("keys", [b"", b"auth=\1", b"auth=Basic eDp5\1", b"host=x\1auth=Bearer \1"])
def test_a_client_without_a_token_is_told_why_it_is_refused(keys):
    for mechanism, head in (("OAUTHBEARER", b"n,,\1"), ("XOAUTH2", b"user=tim\1")):
        assert b"status" in after(mechanism, head + keys + b"\1").octets
        with pytest.raises(Refused):
            after(mechanism, head + keys + b"\1", b"")


# -- APOP -----------------------------------------------------------------------------


def test_the_example_of_apop():
    """RFC 1939 §7."""
    stamp = b"<1896.697170952@dbc.mtview.ca.us>"
    claim = APOPClaim(b"mrose", stamp, b"c4c9334bac560ecc979e58001b3e22fb")
    assert claim.verify(b"tanstaaf")
    assert not claim.verify(b"tanstaaf ")
    assert "c4c9" not in repr(claim)


# -- CRAM-MD5 ---------------------------------------------------------------------


def test_the_example_of_cram_md5():
    """RFC 2195 §2."""
    assert after("CRAM-MD5") == Challenge(CHALLENGE)
    claim = after("CRAM-MD5", b"tim " + DIGEST)
    assert claim == SharedClaim(b"tim", CHALLENGE, DIGEST)
    assert claim.verify(b"tanstaaftanstaaf")
    for other in (b"", b"tanstaaf", b"tanstaaftanstaaf ", b"x" * 1000):
        assert not claim.verify(other)


def test_a_digest_may_be_in_capitals_and_a_user_have_spaces():
    claim = after("CRAM-MD5", b'"tim smith"@example.net ' + DIGEST.upper())
    assert claim.user == b'"tim smith"@example.net'
    assert claim.verify(b"tanstaaftanstaaf")


@pytest.mark.parametrize(
    "message",
    [b"tim", b"tim ", DIGEST, b" " + DIGEST, b"tim" + DIGEST, b"tim " + DIGEST[:-1],
     b"tim " + DIGEST + b"0", b"tim " + DIGEST + b" ", b"tim " + DIGEST + b"\n",
     b"tim " + DIGEST[:-1] + b"g", b"tim\t" + DIGEST],
)  # fmt: skip
def test_what_is_no_digest_is_malformed(message):
    with pytest.raises(Malformed):
        after("CRAM-MD5", message)


def test_the_challenge_is_another_each_time_so_that_no_answer_fits_twice():
    def challenge():
        return next(exchange("CRAM-MD5", hostname="h", bindings={}, plus=False)).octets

    one, other = challenge(), challenge()
    assert one != other
    assert one.startswith(b"<")
    assert one.endswith(b"@h>")
    assert not SharedClaim(b"tim", other, DIGEST).verify(b"tanstaaftanstaaf")
