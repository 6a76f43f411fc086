"""A device: where its password may be used, and until when."""

from __future__ import annotations

import pytest

from postoffice.model.app_password import AppPassword, allowed_from

NOW = 1_800_000_000.0


def device(**how):
    return AppPassword("phone", "acdefg", "digest", **how)


@pytest.mark.parametrize("service", ["pop3", "pop3s", "submission", "submissions", "smtp"])
@pytest.mark.parametrize("address", ["", "127.0.0.1", "192.0.2.1", "2001:db8::1"])
def test_one_without_limits_may_do_all(service, address):
    assert device().objection(service, address, NOW) == ""


@pytest.mark.parametrize(
    ("protocol", "service", "may"),
    [
        ("pop3", "pop3", True),
        ("pop3", "pop3s", True),
        ("pop3", "submission", False),
        ("smtp", "submissions", True),
        ("smtp", "smtp", True),
        ("smtp", "pop3s", False),
        ("smtp", "", False),
    ],
)
def test_one_protocol_is_one_whatever_the_port(protocol, service, may):
    why = "" if may else f"it is for {protocol} only"
    assert device(protocol=protocol).objection(service, "192.0.2.1", NOW) == why


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("192.0.2.1", True),
        ("192.0.3.1", False),
        ("198.51.100.7", True),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_networks_are_addresses_of_either_kind(address, may):
    limited = device(networks=("192.0.2.0/24", "198.51.100.7", "2001:db8::/32"))
    why = "" if may else "it is for 192.0.2.0/24, 198.51.100.7, 2001:db8::/32 only"
    assert limited.objection("pop3", address, NOW) == why


def test_it_ends_when_it_expires():
    assert device(expires=NOW + 1).objection("pop3", "", NOW) == ""
    assert device(expires=NOW).objection("pop3", "", NOW) == "it has expired"
    assert not device().expired(NOW)


def test_its_secrets_are_not_shown():
    shown = repr(AppPassword("phone", "acdefg", "the digest", "the keys"))
    assert "the digest" not in shown
    assert "the keys" not in shown


def test_a_client_on_a_unix_socket_is_in_no_network_but_local():
    assert not allowed_from("", ["0.0.0.0/0", "::/0"])
    assert allowed_from("", ["192.0.2.0/24", "local"])
    assert allowed_from("192.0.2.7", ["local", "192.0.2.0/24"])
    assert not allowed_from("127.0.0.1", ["local"])
