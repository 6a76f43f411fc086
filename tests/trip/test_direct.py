"""Mail is sent directly: what the DNS says of a domain, the sender hears."""

from __future__ import annotations

import re
import smtplib
from email import message_from_bytes, policy

import pytest

from tests.nameserver import NameServer, fails
from tests.trip.conftest import CONFIGURATION, NEVER

TEXT = "From: {sender}\r\nTo: you\r\nSubject: hello\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def names():
    """The name server of the office."""
    server = NameServer()
    server.zone |= {
        ("null.example", "MX"): ["0 ."],
        ("inside.example", "MX"): ["10 mx.inside.example."],
        ("mx.inside.example", "A"): ["127.0.0.1", "10.0.0.1", "169.254.1.1"],
        ("mx.inside.example", "AAAA"): ["::1", "fe80::1"],
        ("text.example", "TXT"): ["x"],
        ("broken.example", "MX"): fails("SERVFAIL"),
        ("ours.example", "MX"): ["10 mail.example.net.", "20 mx.inside.example."],
    }
    yield server
    server.stop()


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened, names):
    outbound = f'outbound: {{dns: {{servers: ["127.0.0.1:{names.server[1]}"]}}}}\n'
    for office in opened(tmp_path_factory.mktemp("direct"), CONFIGURATION + outbound):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


@pytest.fixture
def submit(office):
    ann = office.new_account()

    def submit(*to):
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client.login(ann.address, ann.password)
            client.sendmail(ann.address, list(to), TEXT.format(sender=ann.address).encode())
        return ann

    return submit


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("nowhere.example", "5.1.2"),
        ("inside.example", "5.4.4"),
        ("text.example", "5.4.4"),
    ],
)
def test_what_the_dns_says_for_good_comes_back_as_a_letter(office, submit, domain, status):
    ann = submit(f"you@{domain}")
    office.wait_for(rf" bounced .*@{domain}> .*{re.escape(status)} ")
    office.wait_for(r" left-queue ")
    [found] = office.collect(ann)
    report = message_from_bytes(found, policy=policy.default)
    told = report.get_payload(1).as_string()
    assert f"Final-Recipient: rfc822; you@{domain}" in told
    assert f"Status: {status}" in told


def test_a_domain_that_takes_no_mail_is_refused_at_once(submit):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        submit("you@null.example")
    assert set(refused.value.recipients.values()) == {
        (556, b"5.1.10 This domain takes no mail (null MX)")
    }


@pytest.mark.parametrize(
    ("domain", "status", "why"),
    [("broken.example", "4.4.3", "SERVFAIL"), ("ours.example", "4.4.6", "loops")],
)
def test_what_it_cannot_say_now_waits(office, submit, domain, status, why):
    ann = submit(f"you@{domain}")
    office.wait_for(rf"@{domain}> .*{re.escape(status)} .*{why}")
    assert office.collect(ann) == []
    assert "Starting protocol" not in office.said, "a lookup is no news"
