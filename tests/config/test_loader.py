"""Configurations, right and wrong: the words they die with are in tests/configs."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from postoffice.config import loader
from postoffice.config.outbound import QueueSettings
from postoffice.config.outbound_checks import warnings
from postoffice.config.settings import Limits, Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon.build import find_maker, try_endpoint
from postoffice.model.address import Address, Quota
from postoffice.model.mail_policy import MailPolicy
from postoffice.model.route import Direct, Host, Refuse, Smarthost
from postoffice.outbound.mail_hosts import HostRules
from postoffice.outbound.routes import NO_ROUTE
from postoffice.outbound.sending_rate import Rates, SendingRate, SendingRules

BROKEN = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
LEAST = "hostname: Mail.Example.net\npostmaster: Postmaster@example.net\n"


def read(text: str, file: str = "/etc/postoffice/postoffice.yaml") -> Settings:
    return loader.read(text, file, find_maker, try_endpoint(reactor))


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(text, "FILE")
    return str(caught.value).split("\n")


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_configuration_dies_with_its_words(path):
    with pytest.raises(ConfigurationError) as caught:
        loader.load(str(path), find_maker, try_endpoint(reactor))
    said = str(caught.value).split("\n")
    expected = path.with_suffix(".txt").read_text().replace("FILE", str(path)).splitlines()
    assert len(said) == len(expected)
    for line, words in zip(said, expected, strict=True):
        pattern = ".*".join(map(re.escape, words.split("...")))
        assert re.fullmatch(pattern, line), f"{line!r} is not {words!r}"


def test_there_are_words_for_every_broken_configuration():
    assert len(BROKEN) > 25


def test_the_least_that_a_configuration_says():
    settings = read(LEAST)
    assert settings.hostname == "mail.example.net"
    assert settings.postmaster == Address("Postmaster", "example.net")
    assert settings.state == "/var/lib/postoffice"
    assert settings.user is None
    assert {
        service: [one.endpoint for one in ones] for service, ones in settings.listeners.items()
    } == {
        "smtp": ["tcp:2525:interface=127.0.0.1"],
        "submission": ["tcp:2587:interface=127.0.0.1"],
        "submissions": [],
        "lmtp": ["tcp:2424:interface=127.0.0.1"],
        "pop3": ["tcp:2110:interface=127.0.0.1"],
        "pop3s": [],
    }
    assert settings.listeners.submission[0].mechanisms == ("PLAIN", "LOGIN")
    assert settings.listeners.pop3[0].mechanisms == ("PLAIN", "LOGIN")
    assert settings.listeners.smtp[0].mechanisms == ()
    assert settings.tls.certificates == settings.policies == settings.checkers == ()
    assert settings.submission.senders == "own"
    assert settings.tls.plaintext_login == "loopback"
    assert settings.limits == Limits(
        message_size=50 << 20,
        recipients=1000,
        text_line=64 << 10,
        errors=20,
        tarpit=1,
        commands=200,
        logins=5,
        wrong_passwords=(10, 60),
        wrong_passwords_per_account=(100, 3600),
        unknown_recipients=100,
        greeting_delay=0,
        handshake=30,
        text_pace=100,
        connections=10_000,
        connections_per_client=100,
    )
    assert [one.maker.kind for one in settings.accounts] == ["sqlite"]
    assert settings.accounts[0].options == {
        "path": "/var/lib/postoffice/accounts.db",
        "key_file": "/var/lib/postoffice/accounts.key",
    }
    assert settings.store.maker.kind == "maildir"
    assert settings.store.options == {
        "path": "/var/lib/postoffice/maildrops",
        "durability": None,
        "undelete": 7 * 86400,
        "undelete_size": None,
        "free_space": 100 << 20,
        "incoming": 1 << 30,
    }
    assert settings.default_quota == Quota(1 << 30, 0, "reject")
    assert settings.mail_policy == MailPolicy(0, 0, False, "any", 0, "refuse", 30)
    assert settings.warnings == (80, 95)
    assert settings.warning_text == ""
    assert not settings.first_run


def test_state_is_relative_to_the_file_and_rooms_to_the_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = LEAST + "store: {path: mail, kind: maildir}\naccounts: [{kind: sqlite, path: /x/y}]\n"
    found = read(text + "state: kept\n", "folder/postoffice.yaml")
    assert found.state == f"{tmp_path}/folder/kept"
    assert found.store.options["path"] == f"{tmp_path}/folder/kept/mail"
    assert found.accounts[0].options["path"] == "/x/y"


def test_a_section_without_keys_has_its_defaults():
    assert read(LEAST + "limits:\n  # errors: 3\nuser:\n") == read(LEAST + "limits: {}\n")


def test_sizes_are_numbers_or_have_units():
    found = read(LEAST + "limits: {message_size: 1.5 GiB, text_line: 2000}\n").limits
    assert (found.message_size, found.text_line) == (3 << 29, 2000)


def test_a_quota_is_whole_whatever_is_said():
    found = read(LEAST + "quota: {bytes: 0, over: make-room}\n")
    assert found.default_quota == Quota(0, 0, "make-room")
    assert read(LEAST + "quota: {bytes: 1.5 MiB, messages: 9}\n").default_quota == Quota(
        3 << 19, 9, "reject"
    )


def test_retention_and_pop3_are_how_mail_is_served():
    said = "retention: {keep: 90 days, keep_collected: 1 week, delete_on_collect: true}\n"
    assert read(
        f"{LEAST}{said}pop3: {{in_use: wait, login_delay: 5 min}}\n"
    ).mail_policy == MailPolicy(90 * 86400, 7 * 86400, True, "any", 300, "wait", 30)


@pytest.mark.parametrize(
    ("said", "warnings"), [("[]", ()), ("[95, 50, 95]", (50, 95)), ("[100]", (100,))]
)
def test_warnings_come_in_their_order_each_once(said, warnings):
    assert read(f"{LEAST}quota: {{warnings: {said}}}\n").warnings == warnings


LETTER = "Full: ${percent} %\n\nHello $address, $used of $limit.\n"


def with_letter(tmp_path, octets: bytes) -> Settings:
    (tmp_path / "warning.txt").write_bytes(octets)
    return read(LEAST + "quota:\n  warning_text: warning.txt\n", str(tmp_path / "postoffice.yaml"))


def test_the_text_of_warnings_lies_beside_the_file(tmp_path):
    assert with_letter(tmp_path, LETTER.encode()).warning_text == LETTER


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"", "has no subject in its first line, or no text below it"),
        (b"Only a subject\n\n", "has no subject in its first line, or no text below it"),
        (
            LETTER.replace("$used", "${usage}").encode(),
            "has ${usage}, which is none of ${address}, ${limit}, ${percent}, ${used}",
        ),
        (b"\xff\n\nx\n", "not UTF-8: the octet 0xFF; save the file as UTF-8"),
        (b"x\n\n" + b"x" * loader.SIZE_MAXIMUM, "over 1 MiB; a configuration is smaller"),
    ],
    ids=["empty", "subject", "word", "octets", "long"],
)
def test_a_text_that_is_no_letter_is_an_error_of_the_configuration(tmp_path, octets, problem):
    with pytest.raises(ConfigurationError) as caught:
        with_letter(tmp_path, octets)
    (found,) = caught.value.problems
    assert (found.line, found.key) == (4, "quota.warning_text")
    assert found.text in (
        f"{tmp_path}/warning.txt {problem}",
        f"{tmp_path}/warning.txt: {problem}",
    )


def test_an_empty_list_closes_a_service():
    assert read(LEAST + "listeners: {pop3: []}\n").listeners.pop3 == ()


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        read(LEAST).hostname = "other"


def test_a_key_that_is_not_built_yet_is_an_error():
    finished = ["policies: []", "checkers: []", "workers: 1", "log: {}"]
    said = complaints(LEAST + "\n".join(finished))
    assert [line.split(":")[2].strip() for line in said] == ["workers"]


def test_a_file_that_is_not_there_or_not_to_be_read(tmp_path):
    for path, why in ((tmp_path / "no.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError, match=why):
            loader.load(str(path), find_maker)


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(LEAST.encode() + b"#" * loader.SIZE_MAXIMUM)
    with pytest.raises(ConfigurationError, match="over 1 MiB"):
        loader.load(str(path), find_maker)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.encode())
    assert loader.load(str(path), find_maker).hostname == "mail.example.net"


def test_where_a_configuration_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "etc" / "postoffice.yaml"
    monkeypatch.delenv(loader.OTHER_PLACES)
    monkeypatch.setattr(loader, "PLACES", ("postoffice.yaml", str(system)))
    assert loader.find(None) is None
    system.parent.mkdir()
    system.write_text(LEAST)
    assert loader.find(None) == str(system)
    (tmp_path / "postoffice.yaml").write_text(LEAST)
    assert loader.find(None) == "postoffice.yaml"
    assert loader.find("given.yaml") == "given.yaml"


def test_the_places_are_those_of_the_manual():
    assert loader.PLACES == ("postoffice.yaml", "/etc/postoffice/postoffice.yaml")


def test_a_configuration_that_cannot_be_reached_is_not_overlooked(tmp_path, monkeypatch):
    def stat(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loader.os, "stat", stat)
    assert loader.find(None) == "postoffice.yaml"


def test_first_light_is_a_configuration_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = loader.first_run(find_maker)
    assert found.first_run
    assert found.state == os.path.join(tmp_path, loader.FIRST_RUN_STATE)
    assert found.listeners == read(LEAST).listeners
    assert str(found.postmaster) == "demo@localhost"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "path", "smtp", "errors"]), inner, max_size=3)
    ),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "hostname",
        "state",
        "postmaster",
        "listeners",
        "tls",
        "accounts",
        "checkers",
        "store",
        "quota",
        "retention",
        "pop3",
        "policies",
        "limits",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, trees, max_size=5))
def test_whatever_stands_there_is_read_or_complained_of(tree):
    text = yaml.safe_dump(tree, allow_unicode=True)
    with suppress(ConfigurationError):
        assert loader.read(text, "FILE", find_maker).hostname


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=":-[]{}&*!|>'\"%@` \n#,?abc\t\x85\u2028", max_size=40))
def test_whatever_the_text_is_it_is_read_or_complained_of(text):
    with pytest.raises(ConfigurationError):
        loader.read(text, "FILE", find_maker)


def test_without_outbound_nothing_leaves():
    assert read(LEAST).outbound is read(LEAST + "outbound:\n").outbound is None


def test_the_least_that_outbound_says():
    found = read(LEAST + "outbound: {}\n").outbound
    assert found == read(LEAST + "outbound:\n  queue:\n  routes: [{via: direct}]\n").outbound
    assert found.router().route("ann@example.net", "x@example.com") == Direct()
    assert found.smarthosts == {}
    assert found.queue == QueueSettings(
        lifetime=4 * 86400,
        warn=4 * 3600,
        bounce_lifetime=86400,
        messages=100_000,
        bytes=20 << 30,
        account_share=25,
    )
    assert found.limits.recipients == ((200, 3600), (1000, 86400))
    assert found.limits.rules == SendingRules(
        Rates((SendingRate(200, 3600), SendingRate(1000, 86400)), (), hold=True)
    )
    assert (found.limits.over, found.ip, found.private) == ("hold", "v4-first", False)
    assert (found.connections.destination, found.connections.all) == (10, 100)
    assert (found.tls.mta_sts, found.tls.domains, found.tls.ca) == (True, (), None)
    assert (found.dns.servers, found.dns.trust_ad) == ((), False)
    assert (found.source.v4, found.source.v6, found.addresses) == (None, None, ())
    assert found.srs.domain is None
    assert list(warnings(found)) == []


def test_rules_of_tls_are_for_a_domain_or_for_all_below_one():
    rules = "[{domain: Bank.example, level: verify}, {domain: .example, level: encrypt}]"
    found = read(f"{LEAST}outbound: {{tls: {{domains: {rules}}}}}\n").outbound.tls.rules()
    assert [found.level(name) for name in ("bank.example", "x.example", "x.test")] == [
        "verify", "encrypt", None,
    ]  # fmt: skip


@pytest.mark.parametrize(("ip", "families"), [("v4-first", (4, 6)), ("v6", (6,))])
def test_rules_for_hosts(ip, families):
    said = f"{{ip: {ip}, private: true, addresses: [192.0.2.7], source: {{v4: 192.0.2.8}}}}"
    found = read(f"{LEAST}outbound: {said}\n").outbound.host_rules("Mail.example.net", ["8.8.8.8"])
    assert found == HostRules(
        own_names={"mail.example.net"},
        own_addresses={"192.0.2.7", "192.0.2.8", "8.8.8.8"},
        families=families,
        private=True,
    )


@pytest.mark.parametrize(
    ("via", "route"),
    [
        ("direct", Direct()),
        ("refuse", NO_ROUTE),
        ("smtp:Mail.Example.NET", Host("mail.example.net", 25)),
        ("smtp:10.0.0.5:2525", Host("10.0.0.5", 2525)),
        ("smtp:[2001:DB8::1]", Host("2001:db8::1", 25)),
        ("lmtp:[::1]:24", Host("::1", 24, lmtp=True)),
        ("lmtp:unix:/run/lmtp", Host("/run/lmtp", 0, lmtp=True)),
    ],
)
def test_a_route_leads_to(via, route):
    found = read(f'{LEAST}outbound: {{routes: [{{via: "{via}"}}]}}\n').outbound
    assert found.router().route("", "x@example.com") == route


def test_a_smarthost_is_a_route_with_its_password(tmp_path):
    (tmp_path / "secret").write_text("pass word\r\nsomething else\n")
    said = """outbound:
  routes: [{from: [ann@example.net], via: provider}, {to: [x.example], via: refuse, words: Never}]
  smarthosts:
    provider: {host: smtp.example.org, port: 465, login: u, password_file: secret, sign: false}
    25: {host: smtp.example.org, implicit: true}
"""
    found = read(LEAST + said, f"{tmp_path}/postoffice.yaml").outbound
    router = found.router()
    assert router.route("Ann@Example.NET", "x@example.com") == Smarthost(
        name="provider",
        host="smtp.example.org",
        port=465,
        login="u",
        password="pass word",
        level="verify",
        implicit=True,
        rate=(300, 3600),
        sign=False,
    )
    assert "pass word" not in repr(found)
    assert found.smarthosts["25"].route("25").implicit
    assert router.route("bob@example.net", "y@x.example") == Refuse("Never")
    assert router.route("bob@example.net", "y@y.example") == NO_ROUTE
    (tmp_path / "secret").chmod(0o644)
    assert [key for key, _ in warnings(found)] == [
        "outbound.routes",
        "outbound.smarthosts.provider.password_file",
    ]


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "has no password in its first line"),
        (b"\nsecret\n", "has no password in its first line"),
        (b"a\0b", "has no password in its first line"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 5000, "has over 4096 octets: it is no password file"),
    ],
)
def test_a_password_file_has_a_password(tmp_path, octets, why):
    (tmp_path / "secret").write_bytes(octets)
    said = "outbound: {smarthosts: {p: {host: h, login: u, password_file: secret}}}\n"
    with pytest.raises(ConfigurationError) as caught:
        read(LEAST + said, f"{tmp_path}/postoffice.yaml")
    assert str(caught.value).endswith(f"smarthosts.p.password_file: {tmp_path}/secret {why}")


def test_some_accounts_have_limits_of_their_own():
    said = """outbound:
  limits:
    device_recipients: [50/h]
    over: refuse
    exceptions:
      - {accounts: [News@Example.NET, .lists.example], recipients: []}
      - {accounts: [example.org], recipients: [9/min], device_recipients: [3/min]}
"""
    rules = read(LEAST + said).outbound.limits.rules
    assert rules.of("joe@example.net").device == (SendingRate(50, 3600),)
    assert rules.of("news@example.net") == rules.of("x@a.lists.example") == Rates(hold=False)
    assert rules.of("x@example.org") == Rates(
        (SendingRate(9, 60),), (SendingRate(3, 60),), hold=False
    )


def test_metrics_without_their_package_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert complaints(LEAST + "metrics: {}") == [
        "FILE:3: metrics: needs the package prometheus-client: pip install 'postoffice[metrics]'"
    ]
    assert read(LEAST).metrics is None
