"""How durations, rates and networks are read; the rest is seen in tests/config/test_loader.py."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.config_values import DURATION, NETWORK, RATE, list_of

WITHOUT_A_WORD = r"\A\Z"  # Python's own words are not for people
#: What none of them is.
NOTHING = [None, True, False, "", " ", [], {}, ["1 h"], "x", "-1", -1, "1 h\0", "h", "/", "1 2"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("90s", 90),
        (" 1.5 min ", 90),
        ("2 sec", 2),
        ("2 seconds", 2),
        ("5 min", 300),
        ("5 mins", 300),
        ("5 Minutes", 300),
        ("1 H", 3600),
        ("2 hours", 7200),
        ("35d", 35 * 86400),
        ("2 days", 2 * 86400),
        ("1 week", 604800),
    ],
)
def test_durations_are_seconds_or_have_units(value, seconds):
    assert DURATION.read(value) == seconds
    assert isinstance(DURATION.read(value), float)


@pytest.mark.parametrize(
    "value",
    [
        *NOTHING,
        "5 m",  # minutes, months?
        "5 ms",
        "5 fortnights",
        "5 min 3 s",
        "1e3",
        "1,5 h",
        ".5 h",
        1e9,
        float("inf"),
        float("nan"),
        "inf",
        "999999999 weeks",
    ],
)
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match=WITHOUT_A_WORD + "|units are s, min, h"):
        DURATION.read(value)


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("100/h", (100, 3600)),
        ("100 / hour", (100, 3600)),
        (" 5/10 min ", (5, 600)),
        ("5 / 10min", (5, 600)),
        ("1000/day", (1000, 86400)),
        ("1/s", (1, 1)),
        ("10/30", (10, 30)),
    ],
)
def test_rates_are_so_many_in_so_long(value, rate):
    assert RATE.read(value) == rate


@pytest.mark.parametrize(
    "value",
    [
        *NOTHING,
        100,
        "100",
        "100/",
        "/h",
        "0/h",
        "-5/h",
        "1.5/h",
        "5/0 min",
        "5/h/h",
        "5/-1 h",
        "²/h",
        "9" * 400 + "/h",
        "9" * 5000 + "/h",
    ],
)
def test_what_is_no_rate_is_refused(value):
    with pytest.raises(ValueError, match=WITHOUT_A_WORD):
        RATE.read(value)


@pytest.mark.parametrize(
    ("value", "network"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        (" 192.0.2.0/24 ", "192.0.2.0/24"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),  # mapped: as such clients are seen
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_networks_are_addresses_or_have_a_length(value, network):
    assert NETWORK.read(value) == ip_network(network)


@pytest.mark.parametrize(
    "value",
    [*NOTHING, 3221225985, "192.0.2.256", "192.0.2", "192.0.2.0/33", "::1/129", "mail.example.net"],
)
def test_what_is_no_network_is_refused(value):
    with pytest.raises(ValueError, match=rf"{WITHOUT_A_WORD}|does not appear to be"):
        NETWORK.read(value)


def test_a_wrong_network_is_told_why():
    with pytest.raises(ValueError, match=r"192\.0\.2\.256"):
        list_of(NETWORK).read(["192.0.2.1", "192.0.2.256"])


@given(
    st.one_of(
        st.text(max_size=30),
        st.from_regex(r"\d{0,12}[./: ]{0,3}\d{0,12} ?(s|min|h|days?|weeks)?", fullmatch=True),
        st.integers(),
        st.floats(),
        st.none(),
    )
)
def test_whatever_stands_there_is_read_or_refused(value):
    for kind in (DURATION, RATE, NETWORK):
        try:
            found = kind.read(value)
        except ValueError:
            continue
        if kind is DURATION:
            assert 0 <= found < 1e9
        elif kind is RATE:
            assert found[0] / found[1] > 0
