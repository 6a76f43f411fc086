"""SCRAM-SHA-256: keys, SASLprep, and the exchange with all that a client may say wrong in it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.protocol.sasl import Challenge, Malformed, Refused, SaltOf, ScramClaim, exchange
from postoffice.protocol.scram import ITERATIONS, SALT, Keys, Salt, derive, prepared, saslprep
from postoffice.testing import ScramClient

#: RFC 7677 §3.
CLIENT_NONCE, SERVER_NONCE = b"rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
NONCE = CLIENT_NONCE + SERVER_NONCE.encode()
KEYS = derive(b"pencil", b64decode(b"W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
SALT_OF_USER = Salt(KEYS.salt, KEYS.iterations)
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
UNSIGNED = b"c=biws,r=" + NONCE
PROOF = b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

BINDINGS = {"tls-exporter": b"e" * 32, "tls-server-end-point": b"s" * 32}


class Server:
    """An exchange, and how far it has come."""

    def __init__(self, *, bound=False, plus=False):
        mechanism = "SCRAM-SHA-256-PLUS" if bound else "SCRAM-SHA-256"
        self.exchange = exchange(
            mechanism,
            hostname="mail.example.net",
            bindings=BINDINGS,
            plus=plus,
            nonce=lambda: SERVER_NONCE,
        )
        assert next(self.exchange) == Challenge(b"", first=True)

    def salt_for(self, first):
        """Whose salt is asked for when the client begins with this."""
        asked = self.exchange.send(first)
        assert isinstance(asked, SaltOf)
        return asked.user

    def first(self, first, salt=SALT_OF_USER):
        """What the server says to it."""
        self.salt_for(first)
        challenge = self.exchange.send(salt)
        assert not challenge.first
        return challenge.octets

    def claim(self, first, final):
        self.first(first)
        return self.exchange.send(final)


def test_the_dialogue_of_the_rfc():
    server = Server()
    assert server.salt_for(FIRST) == b"user"
    assert server.exchange.send(SALT_OF_USER) == Challenge(SERVER_FIRST)
    claim = server.exchange.send(UNSIGNED + PROOF)
    assert isinstance(claim, ScramClaim)
    assert (claim.user, claim.salt, claim.signature) == (b"user", SALT_OF_USER, b"")
    assert claim.verify(KEYS)
    assert server.exchange.send(None) == Challenge(SERVER_FINAL)
    with pytest.raises(StopIteration):
        server.exchange.send(b"")


def test_our_client_says_what_the_rfcs_does():
    client = ScramClient(b"user", b"pencil", CLIENT_NONCE)
    assert client.first == FIRST
    assert client.final(SERVER_FIRST) == UNSIGNED + PROOF
    assert client.verdict == SERVER_FINAL


def test_after_the_verdict_nothing_more_is_to_be_said():
    server = Server()
    server.claim(FIRST, UNSIGNED + PROOF).verify(KEYS)
    server.exchange.send(None)
    with pytest.raises(Malformed):
        server.exchange.send(b"more")


def test_the_nonce_is_drawn_by_lot():
    def said():
        running = exchange("SCRAM-SHA-256", hostname="x", bindings={}, plus=False)
        next(running)
        running.send(FIRST)
        return running.send(SALT_OF_USER).octets

    one, other = said(), said()
    assert one != other
    assert len(one.split(b",")) == 3


# -- proofs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        derive(b"Pencil", KEYS.salt, 4096),
        derive(b"", KEYS.salt, 4096),
        derive(b"pencil", KEYS.salt, 4097),
        replace(KEYS, stored_key=bytes(32)),
        replace(KEYS, salt=b"another"),  # changed while the client was calculating
        replace(KEYS, iterations=4095),
    ],
)
def test_a_proof_fits_its_own_keys_only_and_else_there_is_no_signature(keys):
    claim = Server().claim(FIRST, UNSIGNED + PROOF)
    assert not claim.verify(keys)
    assert claim.signature == b""


@pytest.mark.parametrize("place", [0, 15, 31])
def test_a_proof_with_a_wrong_bit_is_none(place):
    octets = bytearray(b64decode(PROOF[3:]))
    octets[place] ^= 1
    assert not Server().claim(FIRST, UNSIGNED + b",p=" + b64encode(octets)).verify(KEYS)


def test_the_proof_covers_every_word_of_the_dialogue():
    for first, final in [
        (FIRST.replace(b"user", b"resu"), UNSIGNED + PROOF),
        (FIRST + b",x=y", UNSIGNED + PROOF),
        (FIRST, UNSIGNED + b",x=y" + PROOF),
        (FIRST, UNSIGNED + PROOF + PROOF),
    ]:
        assert not Server().claim(first, final).verify(KEYS)


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.binary(max_size=40), st.booleans())
def test_only_the_right_password_logs_in(user, password, right):
    user, password = user.replace(b"\0", b"0"), prepared(password)
    keys = derive(password, b"salt", 2)
    client = ScramClient(user, password if right else password + b"!", b"nonce")
    server = Server()
    challenge = server.first(client.first, Salt(b"salt", 2))
    claim = server.exchange.send(client.final(challenge))
    assert claim.user == prepared(user)
    assert claim.verify(keys) is right
    if right:
        assert server.exchange.send(None) == Challenge(client.verdict)


# -- first messages ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "user"),
    [
        (b"y,,n=user,r=abc", b"user"),  # it could bind; we did not offer it
        (b"n,a=user,n=user,r=abc", b"user"),
        (b"n,a=USER,n=user,r=abc", b"user"),
        (b"n,a=us=3Der,n=us=3Der,r=abc", b"us=er"),
        (b"n,,n=joe@example.net,r=abc", b"joe@example.net"),
        (b"n,,n==2C=3D=3D2C,r=abc", b",==2C"),
        (b"n,,n=I\xc2\xadX,r=abc", b"IX"),  # as SASLprep has it
        (b"n,,n=\xff,r=abc", b"\xff"),  # nobody's
        (b"n,,n=user,r=abc,x=more,Y=and more", b"user"),
        (b"n,,n=user,r=" + b"x" * 512, b"user"),
        (b"n,,n=user,r=a=b!~+-", b"user"),
    ],
)
def test_a_first_message_names_the_user(first, user):
    assert Server().salt_for(first) == user


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x7fb",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=\xc3\xa4",
        b"n,,n=user,r=abc\n",
        b"n,,n=user,r=abc,",
        b"n,,n=user,r=abc,more",
        b"n,,n=user,r=abc,x=",
        b"n,,n=user,r=" + b"x" * 513,
        b"n,,n=us\0er,r=abc",
        b"n,,n=\xc2\xad,r=abc",  # nothing, when it is prepared
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,,n=user=,r=abc",
        b"n,a=us=er,n=us=er,r=abc",
        b"n,a=,n=user,r=abc",
        b"n,b=user,n=user,r=abc",
        b"n,n=user,r=abc",
        b"N,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"p,,n=user,r=abc",
        b"p=,,n=user,r=abc",
        b"p=tls_exporter,,n=user,r=abc",
        b"n=tls-exporter,,n=user,r=abc",
        b" n,,n=user,r=abc",
        b"n,,n=" + b"x" * 10_000 + b",r=abc",
    ],
)
def test_what_is_no_first_message_is_malformed(first):
    with pytest.raises(Malformed):
        Server().exchange.send(first)


@pytest.mark.parametrize(
    "first", [b"n,,m=must,n=user,r=abc", b"n,,n=user,r=abc,m=must", b"n,,n=user,r=abc,x=y,m=must"]
)
def test_an_extension_that_must_be_understood_ends_it(first):
    """RFC 5802 §5.1: "m" is reserved; its presence must make the login fail."""
    with pytest.raises(Malformed):
        Server().exchange.send(first)


@pytest.mark.parametrize("authzid", [b"admin", b"use", b"user@example.net", b"us=2Cer"])
def test_nobody_acts_for_another(authzid):
    with pytest.raises(Refused):
        Server().exchange.send(b"n,a=" + authzid + b",n=user,r=abc")


# -- final messages ----------------------------------------------------------------


@pytest.mark.parametrize(
    "final",
    [
        b"",
        UNSIGNED,
        PROOF[1:],
        b"c=biws" + PROOF,
        b"r=" + NONCE + PROOF,
        b"r=" + NONCE + b",c=biws" + PROOF,
        b"c=,r=" + NONCE + PROOF,
        b"c=bi!s,r=" + NONCE + PROOF,
        b"c=biw,r=" + NONCE + PROOF,
        b"c====,r=" + NONCE + PROOF,
        UNSIGNED + b",m=must" + PROOF,
        UNSIGNED + PROOF + b",x=y",
        UNSIGNED + PROOF + b"\n",
        UNSIGNED + b",p=",
        UNSIGNED + b",p====",
        UNSIGNED + b",p=" + b64encode(bytes(31)),
        UNSIGNED + b",p=" + b64encode(bytes(33)),
        UNSIGNED + b",x=" + b"y" * 10_000 + PROOF,
        b"c=biws,r=" + CLIENT_NONCE + PROOF,
        b"c=biws,r=" + SERVER_NONCE.encode() + PROOF,
        b"c=biws,r=" + NONCE + b"x" + PROOF,
        b"c=biws,r=" + NONCE.swapcase() + PROOF,
    ],
)
def test_another_nonce_or_no_final_message_is_malformed(final):
    with pytest.raises(Malformed):
        Server().claim(FIRST, final)


def test_extensions_that_need_not_be_understood_are_not():
    client = ScramClient(b"user", b"pencil", CLIENT_NONCE + b",x=y")
    server = Server()
    assert server.first(client.first) == SERVER_FIRST
    final = client.final(SERVER_FIRST)
    assert server.exchange.send(final).verify(KEYS)


# -- channel binding ----------------------------------------------------------------


@pytest.mark.parametrize("name", BINDINGS)
def test_a_bound_client_comes_in(name):
    gs2 = b"p=" + name.encode() + b",,"
    client = ScramClient(b"user", b"pencil", CLIENT_NONCE, gs2, BINDINGS[name])
    server = Server(bound=True, plus=True)
    claim = server.exchange.send(client.final(server.first(client.first)))
    assert claim.verify(KEYS)
    assert server.exchange.send(None) == Challenge(client.verdict)


@pytest.mark.parametrize("binding", [b"", b"e" * 31, b"E" * 32, b"s" * 32])
def test_a_client_that_is_bound_to_another_channel_is_refused(binding):
    """Somebody in the middle, with a channel to each side."""
    client = ScramClient(b"user", b"pencil", CLIENT_NONCE, b"p=tls-exporter,,", binding)
    server = Server(bound=True, plus=True)
    final = client.final(server.first(client.first))
    with pytest.raises(Refused):
        server.exchange.send(final)


@pytest.mark.parametrize(
    "header", [b"y,,", b"p=tls-exporter,,", b"n,a=user,", b"n,,x", b"N,,", b"n,"]
)
def test_the_header_must_be_repeated_as_it_was(header):
    with pytest.raises(Refused):
        Server().claim(FIRST, b"c=" + b64encode(header) + b",r=" + NONCE + PROOF)


def test_a_client_that_did_not_see_our_offer_of_plus_is_refused():
    """RFC 5802 §6: somebody in the middle has taken -PLUS out of our offer."""
    with pytest.raises(Refused):
        Server(plus=True).exchange.send(b"y,,n=user,r=abc")
    assert Server(plus=True).salt_for(b"n,,n=user,r=abc") == b"user"


@pytest.mark.parametrize("flag", [b"n", b"y"])
def test_plus_without_a_binding_is_malformed(flag):
    with pytest.raises(Malformed):
        Server(bound=True, plus=True).exchange.send(flag + b",,n=user,r=abc")


@pytest.mark.parametrize(
    ("bound", "name"), [(True, b"tls-unique"), (True, b"TLS-Exporter"), (False, b"tls-exporter")]
)
def test_a_binding_that_there_is_not_is_refused(bound, name):
    with pytest.raises(Refused):
        Server(bound=bound, plus=True).exchange.send(b"p=" + name + b",,n=user,r=abc")


# -- keys ---------------------------------------------------------------------------


def test_new_keys_have_a_salt_of_their_own():
    one, other = derive(b"pencil"), derive(b"pencil")
    assert one.salt != other.salt
    assert (len(one.salt), one.iterations) == (SALT, ITERATIONS)
    assert ITERATIONS >= 4096, "RFC 7677 §4"


def test_keys_have_a_text_from_which_they_can_be_read():
    assert str(KEYS) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert Keys.parse(str(KEYS)) == KEYS


BASE64 = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$argon2id$v=19$m=19456,t=2,p=1$x$y",
        f"SCRAM-SHA-1$4096:QQ==${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$0:QQ==${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$-1:QQ==${BASE64}:{BASE64}",
        f"SCRAM-SHA-256${'9' * 10}:QQ==${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$4096:${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$4096:=${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$4096:QQ=${BASE64}:{BASE64}",
        f"SCRAM-SHA-256$4096:QQ==${BASE64[4:]}:{BASE64}",
        f"SCRAM-SHA-256$4096:QQ==${BASE64}:{BASE64[4:]}",
        f"SCRAM-SHA-256$4096:QQ==${BASE64}",
        f"SCRAM-SHA-256$4096:QQ==${BASE64}:{BASE64}\n",
        f" SCRAM-SHA-256$4096:QQ==${BASE64}:{BASE64}",
    ],
)
def test_what_are_no_keys_is_refused(text):
    with pytest.raises(ValueError, match="no SCRAM-SHA-256 keys"):
        Keys.parse(text)


def test_neither_keys_nor_proofs_are_shown():
    claim = Server().claim(FIRST, UNSIGNED + PROOF)
    assert claim.verify(KEYS)
    shown = f"{KEYS!r} {claim!r} {[claim]}"
    assert "user" in shown
    for secret in (KEYS.stored_key, KEYS.server_key, claim.proof, claim.signature):
        assert repr(secret)[2:-1] not in shown


# -- SASLprep -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u00a0x\u3000", " x "),  # and what follows is not the RFC's
        ("u\u0308", "\u00fc"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("", ""),
        ("\u00ad", ""),
    ],
)
def test_the_examples_of_saslprep(text, is_):
    """RFC 4013 §3."""
    assert saslprep(text) == is_
    assert prepared(text.encode()) == is_.encode()


@pytest.mark.parametrize(
    "text",
    [
        "\u0007",
        "\u0627\u0031",
        "\u0627a\u0628",
        "a\u0627",
        "\u0080",
        "\u200e",
        "\ue000",
        "\ufdd0",
        "\ufffd",
        "\u2ff0",
        "\U000e0001",
        "\u0221",  # not in Unicode 3.2
    ],
)
def test_what_saslprep_prohibits_stays_as_it_is(text):
    with pytest.raises(ValueError, match=r"character|direction"):
        saslprep(text)
    assert prepared(text.encode()) == text.encode()


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_any_octets_have_a_form_in_which_they_are_compared(octets):
    assert prepared(prepared(octets)) == prepared(octets)
