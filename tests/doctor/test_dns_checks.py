"""What the doctor says of the DNS: all is well, and each mistake with what mends it."""

from __future__ import annotations

import pytest

from postoffice.config import loader
from postoffice.daemon.build import find_maker
from postoffice.dns.resolver import Resolver
from postoffice.doctor.dns_checks import DNSExaminer, DomainKey
from postoffice.doctor.dns_findings import check_dns
from postoffice.doctor.findings import ERROR, NOTE, OK, WARNING
from postoffice.doctor.public_site import DIRECT, NOTHING, SMARTHOST, PublicSite
from postoffice.doctor.records import domain_records, host_records
from postoffice.outbound.dkim import new_key, read_key
from postoffice.outbound.mta_sts import Policy
from tests.nameserver import fails

DOMAIN, HOST, ADDRESS = "example.net", "mail.example.net", "11.22.33.44"
NAME = "44.33.22.11.in-addr.arpa"
KEY = read_key(DOMAIN, "s1", new_key("ed25519"))
PORTS = {"smtp": 25, "pop3s": 995, "submissions": 465}
SIGNS = (DomainKey(KEY, active=True),)
SITE = PublicSite(hostname=HOST, addresses=(ADDRESS,), ports=PORTS, sends=DIRECT)


def quoted(record):
    """The value of a record as the name server takes it."""
    return f'"{record.value}"' if record.type == "TXT" else record.value


@pytest.fixture
def zone(nameserver):
    """The zone with all that we tell people to put there."""
    for record in [*domain_records(SITE, DOMAIN, [KEY]), *host_records(SITE)]:
        nameserver.zone.setdefault((record.name, record.type), []).append(quoted(record))
    return nameserver.zone


@pytest.fixture
def examine(loop, nameserver, zone):
    """The findings on the host and the domain."""
    resolver = Resolver(loop.reactor, [nameserver.server])

    async def policy(domain, name):
        return Policy("enforce", (HOST,), 86400, name)

    def examine(site=SITE, keys=SIGNS, receives=True, fetch=policy):
        examiner = DNSExaminer(resolver.ask, site, receives, fetch)
        return [*loop.wait(examiner.host()), *loop.wait(examiner.domain(DOMAIN, keys))]

    yield examine
    resolver.stop()


def bad(findings):
    return [one for one in findings if one.level != OK]


def test_with_the_records_that_we_tell_all_is_well(examine):
    found = examine()
    assert bad(found) == []
    assert {one.kind for one in found} == {"dns"}
    assert len(found) == 9


MISTAKES = {
    "no address": ({(HOST, "A"): None}, ERROR, "has no address", "an A record"),
    "another address": ({(HOST, "A"): ["11.1.1.1"]}, NOTE, "none of this machine", "addresses:"),
    "a private address": ({(HOST, "A"): ["10.0.0.1"]}, WARNING, "not public", "public address"),
    "no PTR": ({(NAME, "PTR"): None}, ERROR, "has no name", f"{NAME}. IN PTR {HOST}."),
    "a PTR to nowhere": ({(NAME, "PTR"): ["h.isp.example."]}, WARNING, "lead back", NAME),
    "a PTR of the provider": (
        {(NAME, "PTR"): ["h.isp.example."], ("h.isp.example", "A"): [ADDRESS]},
        NOTE,
        "h.isp.example",
        NAME,
    ),
    "no MX": ({(DOMAIN, "MX"): None}, ERROR, "no MX record", f"IN MX 10 {HOST}."),
    "MX elsewhere": ({(DOMAIN, "MX"): ["5 mx.far.example."]}, ERROR, "not here", "IN MX"),
    "MX here too": ({(DOMAIN, "MX"): ["5 mx.far.example.", f"9 {HOST}."]}, NOTE, "and to", "pass"),
    "null MX": ({(DOMAIN, "MX"): ["0 ."]}, ERROR, "takes no mail", "IN MX"),
    "MX broken": ({(DOMAIN, "MX"): fails("SERVFAIL")}, WARNING, "does not answer", "try again"),
    "no SPF": ({(DOMAIN, "TXT"): None}, WARNING, "no SPF", f"ip4:{ADDRESS} -all"),
    "two SPF": ({(DOMAIN, "TXT"): ['"v=spf1 -all"', '"v=spf1 mx"']}, ERROR, "none counts", "keep"),
    "SPF without us": (
        {(DOMAIN, "TXT"): ['"v=spf1 ip4:1.2.3.4 ~all"']},
        ERROR,
        "(softfail)",
        f"ip4:{ADDRESS}",
    ),
    "SPF wrong": ({(DOMAIN, "TXT"): ['"v=spf1 ip4:x -all"']}, ERROR, "no network", "v=spf1"),
    "no DKIM": ({(KEY.name, "TXT"): None}, ERROR, "missing", KEY.record),
    "other DKIM": ({(KEY.name, "TXT"): ['"v=DKIM1; p=AAAA"']}, ERROR, "wrong", KEY.record),
    "no DMARC": ({(f"_dmarc.{DOMAIN}", "TXT"): None}, WARNING, "no DMARC", "p=quarantine"),
    "DMARC watches": (
        {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=none"']},
        NOTE,
        "only watches",
        "p=reject",
    ),
    "no MTA-STS": ({(f"_mta-sts.{DOMAIN}", "TXT"): None}, NOTE, "MTA-STS", "well-known"),
    "no TLS-RPT": ({(f"_smtp._tls.{DOMAIN}", "TXT"): None}, NOTE, "TLS-RPT", "v=TLSRPTv1"),
    "no SRV": ({(f"_pop3s._tcp.{DOMAIN}", "SRV"): None}, NOTE, "_pop3s", f"995 {HOST}."),
    "no autoconfig": (
        {(f"autoconfig.{DOMAIN}", "CNAME"): None},
        NOTE,
        f"by autoconfig.{DOMAIN}",
        f"autoconfig.{DOMAIN}. IN CNAME {HOST}.",
    ),
    "autodiscover broken": (
        {(f"autodiscover.{DOMAIN}", kind): fails("SERVFAIL") for kind in ("A", "AAAA")},
        WARNING,
        f"autodiscover.{DOMAIN}: the DNS does not answer",
        "try again",
    ),
    "SRV elsewhere": (
        {(f"_pop3s._tcp.{DOMAIN}", "SRV"): ["0 1 995 pop.far.example."]},
        WARNING,
        "pop.far.example",
        f"995 {HOST}.",
    ),
}


@pytest.mark.parametrize(("change", "level", "what", "mend"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_is_named_with_what_mends_it(examine, zone, change, level, what, mend):
    for name, values in change.items():
        if values is None:
            del zone[name]
        else:
            zone[name] = values
    [*_, found] = [one for one in bad(examine()) if what in one.what]
    assert (found.level, mend in found.mend) == (level, True), found


def test_names_are_no_strangers_when_they_have_our_address(examine, zone):
    zone[DOMAIN, "MX"] = ["10 mx.example.net."]
    zone["mx.example.net", "A"] = [ADDRESS]
    assert bad(examine()) == []


def test_behind_another_server_mail_comes_there(examine, zone):
    zone[DOMAIN, "MX"] = ["10 mx.far.example."]
    assert [one.level for one in bad(examine(receives=False)) if "MX" in one.what] == []
    assert "passes it on" in bad(examine(receives=False))[0].what


@pytest.mark.parametrize(
    ("sends", "said"), [(SMARTHOST, ["only its provider knows"]), (NOTHING, [])]
)
def test_others_who_send_for_us_are_not_judged(examine, sends, said):
    site = PublicSite(
        hostname=HOST, addresses=(ADDRESS,), ports=PORTS, sends=sends, smarthosts=("s.example",)
    )
    found = bad(examine(site))
    assert all(word in one.what for word, one in zip(said, found, strict=True))


def test_keys_that_wait_and_domains_without_keys_are_told_of(examine, zone):
    [waiting] = bad(examine(keys=[DomainKey(KEY, active=False)]))
    assert "postoffice dkim check" in waiting.mend
    [unsigned] = bad(examine(keys=()))
    assert unsigned.mend == f"postoffice dkim add {DOMAIN}"


@pytest.mark.parametrize(("mode", "level"), [("enforce", ERROR), ("testing", WARNING)])
def test_a_policy_must_name_our_host(examine, mode, level):
    async def another(domain, name):
        return Policy(mode, ("mx.far.example",), 86400, name)

    [found] = bad(examine(fetch=another))
    assert found.level == level
    assert f"mx: {HOST}" in found.mend


def test_a_policy_that_cannot_be_fetched_is_an_error(examine):
    async def none(domain, name):
        raise OSError("connection refused")

    [found] = bad(examine(fetch=none))
    assert "connection refused" in found.what


def test_a_hostname_without_a_dot_cannot_be_found(loop):
    [found] = loop.wait(DNSExaminer(None, PublicSite(hostname="localhost")).host())
    assert found.level == ERROR


def test_mail_programs_may_fetch_their_settings_from_another_server(examine, zone):
    zone[f"autoconfig.{DOMAIN}", "A"] = ["11.9.9.9"]
    assert bad(examine()) == []


class Down(dict):
    """A zone with failures for all names that it does not have."""

    def get(self, key, default=None):
        return self[key] if key in self else fails("SERVFAIL")


CONFIG = """
hostname: {host}
postmaster: p@example.net
state: state
outbound: {{dns: {{servers: ["127.0.0.1:{port}"]}}}}
"""


def checked(loop, nameserver, tmp_path):
    file = tmp_path / "postoffice.yaml"
    file.write_text(CONFIG.format(host=HOST, port=nameserver.server[1]))
    settings = loader.load(str(file), find_maker)
    return loop.wait(check_dns(loop.reactor, settings, [DOMAIN, "example.com"]))


def test_a_dns_that_is_down_is_one_finding(loop, nameserver, tmp_path):
    nameserver.zone = Down()
    down, *others = checked(loop, nameserver, tmp_path)
    assert down.level == ERROR
    assert "the DNS is down: none of" in down.what
    assert f"127.0.0.1:{nameserver.server[1]}" in down.mend
    assert [one.where for one in others if "is not signed" in one.what] == [DOMAIN, "example.com"]
    assert len(others) == 2, others


def test_a_dns_that_answers_for_some_names_is_not_down(loop, nameserver, tmp_path):
    nameserver.zone = Down({(DOMAIN, "MX"): [f"10 {HOST}."]})
    found = checked(loop, nameserver, tmp_path)
    assert not any("the DNS is down" in one.what for one in found)
    assert [one.level for one in found if one.what.startswith("the MX records of")] == [WARNING]
