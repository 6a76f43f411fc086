"""STARTTLS as the rules see it (RFC 3207)."""

from __future__ import annotations

import pytest

from postoffice.model import reply
from postoffice.smtp.questions import Abort, Mail, Recipient, Secure

LOGIN = {"mechanisms": ("PLAIN",), "passwords": True}


@pytest.fixture
def secured(office):
    """Makes offices in which a session has come to TLS."""

    def secured(first=b"", bindings=None, **options):
        made = office.greeted(starttls=True, **options)
        made.hear(first)
        assert made.told(b"STARTTLS\r\n") == ["220 2.0.0"]
        assert made.session.upgrading
        made.session.secured(bindings or {})
        assert made.hear(b"") == b"", "TLS has no greeting"
        assert not made.session.injected
        return made

    return secured


def test_it_is_offered_until_it_is_used(office, secured):
    ehlo = b"EHLO pc\r\n"
    assert b"STARTTLS\r\n" in office(starttls=True).hear(ehlo)
    assert b"STARTTLS" not in office().hear(ehlo)
    assert b"STARTTLS" not in secured().hear(ehlo)


@pytest.mark.parametrize("options", [{}, {"encrypted": True}])
def test_where_it_is_not_offered_it_is_not_to_be_had(office, options):
    client = office.greeted(**options)
    assert client.told(b"STARTTLS\r\n") == ["502 5.5.1"]
    assert client.asked == []


def test_it_has_no_argument(office):
    client = office.greeted(starttls=True)
    assert client.told(b"STARTTLS now\r\n") == ["501 5.5.4"]
    assert not client.session.upgrading


def test_where_there_is_no_certificate_it_is_for_later(office):
    client = office.greeted(starttls=True, answers={"Secure": reply.NO_TLS_NOW})
    assert client.told(b"STARTTLS\r\n") == ["454 4.7.0"]
    assert not client.session.upgrading
    assert client.told(b"MAIL FROM:<a@example.org>\r\n") == ["250 2.1.0"], "it goes on in clear"


@pytest.mark.parametrize(
    "behind", [b"MAIL FROM:<evil@example.org>\r\n", b"\r\n", b"x", b"\x16\x03"]
)
def test_octets_behind_it_end_the_session_and_are_not_looked_at(office, behind):
    client = office.greeted(starttls=True)
    assert client.told(b"STARTTLS\r\n" + behind) == ["554 5.5.1"]
    assert client.session.closed
    assert client.session.injected
    assert not client.session.upgrading
    assert client.asked == []


@pytest.mark.parametrize("behind", [b"MAIL FROM:<evil@example.org>\r\n", b"x"])
def test_so_do_octets_that_come_in_clear_before_tls_has_begun(office, behind):
    client = office.greeted(starttls=True)
    client.hear(b"STARTTLS\r\n")
    assert client.told(behind) == ["554 5.5.1"]
    assert client.session.closed
    assert client.session.injected
    assert client.asked == [Secure()]


def test_what_nobody_has_looked_at_is_not_obeyed_behind_the_handshake(office):
    client = office.greeted(starttls=True)
    client.hear(b"STARTTLS\r\n")
    client.session.receive(b"MAIL FROM:<evil@example.org>\r\n")
    client.session.secured({})
    assert client.hear(b"") == b""
    assert client.asked == [Secure()]


def test_hello_is_forgotten(secured):
    client = secured()
    assert client.told(b"MAIL FROM:<a@example.org> SIZE=1\r\n") == ["555 5.5.4"], "nor EHLO"


def test_the_transaction_is_forgotten(secured):
    client = secured(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n")
    assert client.kinds == [Mail, Recipient, Secure, Abort]
    assert client.told(b"EHLO pc\r\nDATA\r\nBDAT 2 LAST\r\nhi") == ["250", "503 5.5.1", "503 5.5.1"]


def test_chunks_that_have_come_are_forgotten(secured):
    envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
    client = secured(envelope + b"BDAT 4\r\nhi\r\n")
    assert client.kinds[-1] is Abort
    assert not client.session.in_text
    assert client.told(b"EHLO pc\r\n" + envelope) == ["250", "250 2.1.0", "250 2.1.5"]


def test_the_login_is_forgotten(secured, plain):
    client = secured(b"AUTH PLAIN " + plain() + b"\r\n", submission=True, **LOGIN)
    client.hear(b"EHLO pc\r\n")
    assert client.told(b"MAIL FROM:<joe@example.net>\r\n") == ["530 5.7.0"]
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["235 2.7.0"], "and can be said again"


def test_errors_are_not_forgotten(secured):
    client = secured(b"FROBNICATE\r\n" * 10)
    assert client.told(b"FROBNICATE\r\n") == ["421 4.7.0"]


def test_passwords_may_be_said_behind_it(secured, plain):
    client = secured(mechanisms=("SCRAM-SHA-256", "PLAIN"), bindings={"tls-exporter": b"x" * 32})
    said = client.hear(b"EHLO pc\r\n")
    assert b"250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN\r\n" in said
    assert b"250-REQUIRETLS\r\n" in said
    assert client.told(b"AUTH PLAIN " + plain() + b"\r\n") == ["235 2.7.0"]


def test_the_trace_says_that_the_link_was_private(secured):
    client = secured()
    client.hear(b"EHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    assert client.asked[-1].protocol == "ESMTPS"


def test_it_is_there_over_lmtp(secured):
    client = secured(lmtp=True)
    client.hear(b"LHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    assert client.asked[-1].protocol == "LMTPS"
