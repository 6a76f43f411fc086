"""REQUIRETLS (RFC 8689) is kept from office to office, or the message comes back at once."""

from __future__ import annotations

import smtplib
import ssl
from email import message_from_bytes, policy

import pytest

from postoffice.model.address import Address
from postoffice.model.alias import FORWARD, Alias
from postoffice.testing import finish
from tests.authority import Authority
from tests.nameserver import NameServer
from tests.trip.conftest import CONFIGURATION, NEVER

TLS = """\
  submissions: ["tcp:0:interface=127.0.0.1"]
  pop3s: ["tcp:0:interface=127.0.0.1"]
tls: {certificates: [{certificate: %s, key: %s}]}
"""
TEXT = "From: {sender}\r\nTo: you\r\nSubject: hello\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def there(tmp_path_factory, opened, authority):
    """The office of another domain; no host of far.example is known to be the right one."""
    names = NameServer()
    names.zone |= {
        ("far.example", "MX"): ["10 mx.far.example."],
        ("mx.far.example", "A"): ["11.0.0.1"],
    }
    certificate = authority.certify("localhost")
    outbound = f'outbound: {{dns: {{servers: ["127.0.0.1:{names.server[1]}"]}}}}\n'
    configuration = CONFIGURATION.replace("example.net", "example.com")
    configuration += TLS % (certificate, certificate) + outbound
    for office in opened(tmp_path_factory.mktemp("there"), configuration):
        office.account("eve@example.com", office.PASSWORD)
        with office.directory() as directory:
            far = (Address.parse("x@far.example"),)
            finish(directory.add_alias(Alias("far@example.com", far, kind=FORWARD)))
        yield office
    names.stop()


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened, there, authority):
    """
    The office that sends, as its routes say: the certificate of the other one is for "localhost".
    """
    certificate = authority.certify("mail.example.net")
    port = there.ports["smtp"]
    outbound = f"""\
outbound:
  routes:
    - {{to: [wrong.example], via: "smtp:127.0.0.1:{port}"}}
    - {{via: "smtp:localhost:{port}"}}
  tls: {{ca: {authority.path}}}
"""
    configuration = CONFIGURATION + TLS % (certificate, certificate) + outbound
    for office in opened(tmp_path_factory.mktemp("here"), configuration):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


@pytest.fixture
def submit(office, authority):
    ann = office.new_account()
    context = ssl.create_default_context(cafile=str(authority.path))

    def submit(to):
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client._host = "mail.example.net"  # the name that the certificate is for
            client.starttls(context=context)
            client.login(ann.address, ann.password)
            text = TEXT.format(sender=ann.address).encode()
            client.sendmail(ann.address, [to], text, ["REQUIRETLS"])
        return ann

    return submit


def test_it_is_kept_where_the_certificate_is_valid(office, there, submit):
    ann = submit("eve@example.com")
    office.wait_for(r" sent .*tls=.*to=<eve@example.com>")
    [arrived] = there.collect(there.account("eve@example.com", there.PASSWORD))
    assert b"with ESMTPS id" in arrived
    assert office.collect(ann) == []


def test_it_is_passed_on(office, there, submit):
    """The other office cannot keep it on the next way, and so has heard of it."""
    submit("far@example.com")
    office.wait_for(r" sent .*to=<far@example.com>")
    there.wait_for(r" bounced .*to=<x@far.example> .*5\.7\.30 REQUIRETLS: neither DNSSEC nor")


def test_it_comes_back_at_once_where_it_cannot_be_kept(office, there, submit):
    to = "joe@wrong.example"
    ann = submit(to)
    office.wait_for(f" letter-written .*to=<{to}>")
    office.wait_for(r" left-queue ")
    [found] = office.collect(ann)
    report = message_from_bytes(found, policy=policy.default)
    told = report.get_payload(1).as_string()
    assert "Status: 5.7.30" in told
    assert "Diagnostic-Code: x-postoffice; 550 5.7.30 REQUIRETLS: " in told
    assert "its certificate is not for 127.0.0.1" in told.replace("\n ", " ")
    assert report.get_payload(2).get_content_type() == "text/rfc822-headers"
    assert to not in there.said, "the message was not sent"
