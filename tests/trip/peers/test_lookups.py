"""What the DNS says of a domain, and what becomes of its mail: the whole office, and Postfix."""

from __future__ import annotations

import smtplib

import pytest

from tests.nameserver import fails
from tests.trip.peers.conftest import OFFICE, address
from tests.trip.peers.test_postfix import TEXT, status_of, text_of

#: Nobody listens there.
DEAD = "11.0.9.1"
#: What the name server says: (name below "example", type) to records.
ZONE = {
    ("two", "MX"): ["10 dead.two.example.", "20 mx.plain.example."],
    ("dead.two", "A"): [DEAD],
    ("alias", "MX"): ["10 name.alias.example."],
    ("name.alias", "CNAME"): ["mx.plain.example."],
    ("canonical", "CNAME"): ["plain.example."],
    ("bare", "A"): [address("plain")],
    ("families", "MX"): ["10 mx.families.example."],
    ("mx.families", "A"): [address("plain")],
    ("mx.families", "AAAA"): ["2a00:1450::1"],
    ("backup", "MX"): ["10 mx.plain.example.", "20 mail.example.net."],
    ("null", "MX"): ["0 ."],
    ("text", "TXT"): ['"no address"'],
    ("gone", "MX"): ["10 mx.gone.example."],
    ("inside", "MX"): ["10 mx.inside.example."],
    ("mx.inside", "A"): ["127.0.0.1", "10.0.0.1", "169.254.0.1"],
    ("ours", "MX"): ["10 mail.example.net."],
    ("own-address", "MX"): ["10 mx.own-address.example."],
    ("mx.own-address", "A"): [OFFICE],
    ("broken", "MX"): fails("SERVFAIL"),
    ("broken-host", "MX"): ["10 mx.broken-host.example."],
    ("mx.broken-host", "A"): fails("SERVFAIL"),
    ("mx.broken-host", "AAAA"): fails("SERVFAIL"),
    ("dead", "MX"): ["10 dead.two.example."],
    ("six", "MX"): ["10 mx.six.example."],
    ("mx.six", "AAAA"): ["2a00:1450::1"],
}


@pytest.fixture(scope="module", autouse=True)
def _known(zone):
    zone.update({(f"{name}.example", kind): said for (name, kind), said in ZONE.items()})
    zone["mail.example.net", "A"] = [OFFICE]


@pytest.mark.parametrize("domain", ["two", "alias", "canonical", "bare", "families", "backup"])
def test_mail_is_sent(office, postfix, submit, domain):
    submit(TEXT, f"found@{domain}.example")
    office.wait_for(rf" sent .*to=<found@{domain}.example> .*\[{address('plain')}\]")
    assert text_of(*postfix.received(f"found@{domain}.example")) == TEXT


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("nowhere", "5.1.2"),
        ("text", "5.4.4"),
        ("gone", "5.4.4"),
        ("inside", "5.4.4"),
    ],
)
def test_mail_is_returned(office, submit, ann, domain, status):
    message = submit(TEXT, f"joe@{domain}.example")
    office.wait_for(f" left-queue id={message} ")
    assert f"Status: {status}\n" in status_of(office, ann)


def test_mail_for_a_domain_that_takes_none_is_refused(submit):
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="556"):
        submit(TEXT, "joe@null.example")


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("ours", "451 4.4.6 .* loops back"),
        ("own-address", "451 4.4.6 .* loops back"),
        ("broken", "451 4.4.3 .* SERVFAIL"),
        ("broken-host", "451 4.4.3 .* SERVFAIL"),
        ("dead", "refused"),
        ("six", "unreachable"),
    ],
)
def test_mail_waits(office, submit, ann, domain, why):
    submit(TEXT, f"joe@{domain}.example")
    office.wait_for(rf" deferred .*to=<joe@{domain}.example> .*{why}")
    assert office.collect(ann) == []
