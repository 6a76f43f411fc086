"""The whole office sends to Debian's Postfix."""

from __future__ import annotations

import json
import socket
from email import message_from_bytes, policy
from threading import Thread

import pytest

HEADER = (
    b"From: ann@example.net\r\nTo: you\r\nSubject: hello\r\n"
    b"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"
)
TEXT = HEADER + b"\r\n.\r\n..dots\r\n\r\nFrom here\r\n" + b"x" * 990 + b"\r\n.\r\n"


def text_of(message: bytes) -> bytes:
    return message[message.index(b"\r\nFrom: ") + 2 :]


def status_of(office, account) -> str:
    """The status in the only letter that an account has."""
    [letter] = office.collect(account)
    report = message_from_bytes(letter, policy=policy.default)
    assert report.get_content_type() == "multipart/report"
    return report.get_payload(1).as_string()


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        ("plain", False),
        ("tls", True),
        ("right", True),
        ("old-tls", False),
        ("no-dsn", False),
        ("no-utf8", False),
        ("no-pipelining", False),
        ("no-extensions", False),
    ],
)
def test_the_text_comes_octet_for_octet(office, postfix, submit, name, tls):
    """Over TLS where Postfix offers it; in clear where TLS fails, as nothing demands it."""
    to = f"whole@{name}.example"
    submit(TEXT, to)
    assert ('tls="TLSv1.3' in office.wait_for(rf" sent .*to=<{to}> .*").string) is tls
    [message] = postfix.received(to)
    assert text_of(message) == TEXT
    assert message.count(b"Return-Path:") == 1


@pytest.mark.parametrize("name", ["plain", "no-extensions"])
def test_octets_beyond_ascii(office, postfix, submit, name):
    text = TEXT + "grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n"
    submit(text, f"eight@{name}.example", mail=["BODY=8BITMIME"])
    assert text_of(*postfix.received(f"eight@{name}.example")) == text


def test_a_long_message(postfix, submit):
    text = TEXT + b"".join(b"%d\r\n.\r\n" % n for n in range(500_000))
    submit(text, "long@tls.example")
    assert text_of(*postfix.received("long@tls.example")) == text


@pytest.mark.parametrize(
    ("name", "why"), [("wrong", "certificate is not for"), ("clear", "does not offer TLS")]
)
def test_what_tls_does_not_allow_waits(office, postfix, submit, ann, name, why):
    submit(TEXT, f"joe@{name}.example")
    office.wait_for(rf" deferred .*to=<joe@{name}.example> .*{why}")
    assert postfix.kept(f"joe@{name}.example") == []
    assert office.collect(ann) == []


def test_an_unknown_recipient(office, postfix, submit, ann):
    message = submit(TEXT, "nobody@plain.example", "known@plain.example")
    office.wait_for(f" left-queue id={message} ")
    status = status_of(office, ann)
    assert "Final-Recipient: rfc822; nobody@plain.example" in status
    assert "; known@" not in status
    assert "Remote-MTA: dns; mx.plain.example" in status
    assert "User unknown" in status
    postfix.received("known@plain.example")


def test_success_is_told_by_postfix_if_it_can(office, postfix, submit, ann):
    mail = ["RET=HDRS", "ENVID=an-id"]
    rcpt = ["NOTIFY=SUCCESS", "ORCPT=rfc822;first@plain.example"]
    submit(TEXT, "told@plain.example", mail=mail, rcpt=rcpt)
    postfix.received("told@plain.example")
    office.wait_for(f" message-taken .*service=smtp.* to=<{ann.address}>")
    status = status_of(office, ann)
    for line in (
        "Reporting-MTA: dns; mx.postfix.example",
        "Original-Envelope-Id: an-id",
        "Original-Recipient: rfc822;first@plain.example",
        "Action: delivered",
    ):
        assert line in status


def test_success_is_told_by_us_if_postfix_cannot(office, postfix, submit, ann):
    message = submit(TEXT, "told@no-dsn.example", rcpt=["NOTIFY=SUCCESS"])
    postfix.received("told@no-dsn.example")
    office.wait_for(f" left-queue id={message} ")
    status = status_of(office, ann)
    assert "Reporting-MTA: dns; mail.example.net" in status
    assert "Action: relayed" in status


def test_nothing_is_told_if_nobody_wants_to_know(office, postfix, submit, ann):
    message = submit(TEXT, "nobody@plain.example", rcpt=["NOTIFY=NEVER"])
    office.wait_for(f" left-queue id={message} ")
    assert office.collect(ann) == []


UTF8 = TEXT.replace(b"Subject: hello", "Subject: grüße".encode())


def test_utf_8_in_addresses_and_in_the_header(office, postfix, submit):
    submit(UTF8, "jörg@plain.example", mail=["SMTPUTF8", "BODY=8BITMIME"])
    assert text_of(*postfix.received("jörg@plain.example")) == UTF8


@pytest.mark.parametrize(("to", "text"), [("jörg", TEXT), ("joe", UTF8)])
def test_utf_8_that_postfix_does_not_take(office, postfix, submit, ann, to, text):
    message = submit(text, f"{to}@no-utf8.example", mail=["SMTPUTF8", "BODY=8BITMIME"])
    office.wait_for(f" left-queue id={message} ")
    assert "Status: 5.6.7" in status_of(office, ann)


@pytest.mark.parametrize("name", ["small", "no-size"])
def test_a_message_that_is_too_large(office, postfix, submit, ann, name):
    message = submit(TEXT + b"x\r\n" * 10_000, f"joe@{name}.example")
    office.wait_for(f" left-queue id={message} ")
    assert "Status: 5.3.4" in status_of(office, ann)


@pytest.mark.parametrize("name", ["ten", "plain"])
def test_more_recipients_than_one_transaction_takes(office, postfix, submit, ann, name):
    """Postfix refuses the eleventh with 452; we take no more than 50 into one transaction."""
    everyone = {f"n{n}@{name}.example" for n in range(70)}
    message = submit(TEXT, *sorted(everyone))
    office.wait_for(f" left-queue id={message} ")
    waited_for = {
        postfix.wait_for(rf"to=<(n\d+@{name}.example)>.* status=sent")[1] for _ in everyone
    }
    assert waited_for == everyone
    assert all(len(postfix.kept(one)) == 1 for one in everyone)
    assert office.collect(ann) == []


class Greylist:
    """A policy server for Postfix: each recipient is refused once."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 10023))
        self._seen: set[str] = set()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                asked = dict(
                    line.rstrip("\n").split("=", 1) for line in iter(stream.readline, "\n")
                )
                stream.write(f"action={self._answer(asked['recipient'])}\n\n")

    def _answer(self, recipient: str) -> str:
        known = recipient in self._seen
        self._seen.add(recipient)
        return "dunno" if known else "defer greylisted"

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()


def test_greylisting(office, postfix, submit, ann, queue):
    greylist = Greylist()
    submit(TEXT, "joe@greylist.example")
    office.wait_for(r" deferred .*to=<joe@greylist.example> .*450 4.7.1 .*greylisted")
    queue("retry", "--to", "greylist.example")
    office.wait_for(r" sent .*to=<joe@greylist.example> ")
    assert text_of(*postfix.received("joe@greylist.example")) == TEXT
    greylist.stop()
    assert office.collect(ann) == []


@pytest.mark.parametrize(("name", "code"), [("closed", 554), ("busy", 450)])
def test_a_greeting_that_refuses_us_returns_nothing(
    office, postfix, submit, ann, queue, name, code
):
    submit(TEXT, f"joe@{name}.example")
    office.wait_for(rf" deferred .*to=<joe@{name}.example> .*reply=\"{code} .*phase=greeting")
    [waiting] = json.loads(queue("list", "--to", f"{name}.example", "--json"))["messages"]
    assert waiting["state"] == "unreachable"
    assert office.collect(ann) == []
