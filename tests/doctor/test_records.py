"""The DNS records that a domain needs, as they are shown to be copied."""

from __future__ import annotations

import dns.zone
import pytest

from postoffice.config import loader
from postoffice.daemon.build import find_maker
from postoffice.doctor.public_site import DIRECT, NOTHING, SMARTHOST, PublicSite, site_of
from postoffice.doctor.records import CLIENTS, MX, SPF, domain_records, host_records, sts_policy
from postoffice.outbound.dkim import new_key, read_key
from postoffice.outbound.mta_sts import read_policy, read_records

DOMAIN, HOSTNAME = "example.net", "mail.example.net"
CONFIG = "hostname: mail.example.net\npostmaster: postmaster@example.net\n"
SITE = PublicSite(
    hostname=HOSTNAME,
    addresses=("192.0.2.1", "2001:db8::1"),
    ports={"smtp": 25, "pop3s": 995, "submission": 587, "submissions": 465},
    sends=DIRECT,
)


def site(more: str, *local: str) -> PublicSite:
    return site_of(loader.read(CONFIG + more, "postoffice.yaml", find_maker), local)


def value(records, purpose):
    [found] = [one for one in records if one.purpose == purpose]
    return found.value


def test_the_lines_are_a_zone_that_a_name_server_reads():
    key = read_key(DOMAIN, "s1", new_key("rsa"))
    records = domain_records(SITE, DOMAIN, [key]) + host_records(SITE)
    lines = ["@ IN SOA ns. admin. 1 2 3 4 5", "@ IN NS ns."]
    lines += [one.line for one in records if one.type != "PTR"]
    zone = dns.zone.from_text("\n".join(lines), origin=f"{DOMAIN}.", relativize=False)
    for one in records:
        if one.type == "PTR":
            continue
        [found] = zone.find_rdataset(f"{one.name}.", one.type)
        text = b"".join(found.strings).decode() if one.type == "TXT" else found.to_text()
        assert text == one.value
    assert {one.type for one in records} == {"MX", "TXT", "SRV", "CNAME", "A", "AAAA", "PTR"}


def test_the_spf_record_depends_on_who_sends():
    spf = {
        sends: value(domain_records(PublicSite(hostname=HOSTNAME, sends=sends), DOMAIN), SPF)
        for sends in (DIRECT, SMARTHOST, NOTHING)
    }
    assert spf == {
        DIRECT: "v=spf1 mx -all",
        SMARTHOST: "v=spf1 mx ~all",
        NOTHING: "v=spf1 mx ~all",
    }
    assert value(domain_records(SITE, DOMAIN), SPF) == (
        "v=spf1 mx ip4:192.0.2.1 ip6:2001:db8::1 -all"
    )


def test_mail_comes_to_our_name_and_dmarc_waits_for_signatures():
    assert value(domain_records(SITE, DOMAIN), MX) == f"10 {HOSTNAME}."
    unsigned, signed = (
        value(domain_records(SITE, DOMAIN, keys), "dmarc")
        for keys in ((), [read_key(DOMAIN, "s1", new_key("ed25519"))])
    )
    assert "p=none" in unsigned
    assert "p=quarantine" in signed


def test_mail_programs_find_what_listens_and_that_there_is_no_imap():
    found = {
        one.name.removesuffix(f".{DOMAIN}"): one.value
        for one in domain_records(SITE, DOMAIN)
        if one.purpose == CLIENTS
    }
    assert found["_pop3s._tcp"] == f"0 1 995 {HOSTNAME}."
    assert found["_imaps._tcp"] == "0 0 0 ."
    assert "_pop3._tcp" not in found


def test_the_record_and_the_policy_of_mta_sts_are_those_that_we_read_ourselves():
    [record] = [one for one in domain_records(SITE, DOMAIN) if one.purpose == "mta-sts"]
    assert read_records([record.value.encode()])
    policy = read_policy(sts_policy(SITE, "enforce").encode())
    assert policy.mode == "enforce"
    assert policy.fits(HOSTNAME)


def test_without_a_public_address_the_record_says_what_belongs_there():
    [record] = host_records(PublicSite(hostname=HOSTNAME))
    assert not record.complete
    assert record.line.startswith("; ")


@pytest.mark.parametrize(
    ("more", "sends"),
    [
        ("", NOTHING),
        ("outbound: {}\n", DIRECT),
        (
            "outbound: {routes: [{via: far}], smarthosts: {far: {host: smtp.far.example}}}\n",
            SMARTHOST,
        ),
    ],
)
def test_the_settings_say_who_sends(more, sends):
    assert site(more).sends == sends


def test_the_settings_say_which_addresses_and_ports_others_see():
    more = (
        'outbound: {source: {v4: 1.1.1.1}, addresses: ["10.0.0.1", "9.9.9.9"]}\n'
        'listeners: {pop3: ["tcp:2110", "tcp6:110"], submission: ["tcp6:10587"], smtp: []}\n'
    )
    found = site(more, "192.168.1.1", "8.8.8.8")
    assert found.addresses == ("1.1.1.1", "9.9.9.9", "8.8.8.8")
    assert found.ports == {"pop3": 110, "submission": 10587}
    assert site("").ports["smtp"] == 25  # only this machine reaches it: something is before it
