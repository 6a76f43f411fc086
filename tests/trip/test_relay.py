"""A relay of ours says for whom it speaks (XCLIENT), in clear and over TLS."""

from __future__ import annotations


def test_for_whom_a_relay_speaks_is_forgotten_when_tls_begins(whole_office, raw, trusted):
    """An attacker on the line could have said it in clear (RFC 3207 §6)."""
    joe = whole_office.new_account()

    def post():
        assert relay.ask(b"EHLO relay.example.org").startswith(b"250")
        assert relay.ask(b"MAIL FROM:<a@example.org>").startswith(b"250")
        assert relay.ask(b"RCPT TO:<%s>" % joe.address.encode()).startswith(b"250")
        assert relay.ask(b"BDAT 4 LAST\r\nhi").startswith(b"250")

    with raw(whole_office.smtp, "127.0.0.3") as relay:
        relay.reply()
        assert relay.ask(b"XCLIENT ADDR=192.0.2.7").startswith(b"220")
        assert relay.ask(b"STARTTLS").startswith(b"220")
        relay.begin_tls(trusted, "mail.example.net")
        post()
        assert relay.ask(b"XCLIENT ADDR=192.0.2.8").startswith(b"220")
        post()
    first, second = whole_office.collect(joe)
    assert b"([127.0.0.3])" in first
    assert b"([192.0.2.8])" in second
    assert b"with ESMTPS id" in first
    assert b"with ESMTPS id" in second
