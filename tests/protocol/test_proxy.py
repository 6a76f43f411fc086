"""The PROXY protocol's header, versions 1 and 2: whole, in pieces, and what is none."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.protocol.proxy import V1_MAXIMUM, V2_MAXIMUM, NotProxied, ProxiedClient, ProxyReader
from postoffice.testing import cut
from tests.fuzz.playing import proxied

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX, DATAGRAMS = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32


def v2(command: int, family: int, octets: bytes, length: int | None = None) -> bytes:
    """A header of version 2; ``length`` is what it says of the octets' number."""
    size = len(octets) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + octets


def pair(source: str, destination: str, ports: tuple[int, int] = (51234, 25)) -> bytes:
    """The addresses and ports of version 2."""
    addresses = b"".join(ip_address(one).packed for one in (source, destination))
    return addresses + b"".join(port.to_bytes(2, "big") for port in ports)


FOUR = pair("192.0.2.1", "198.51.100.9")
SIX = pair("2001:db8::1", "2001:db8::9")
#: PP2_TYPE_AUTHORITY and PP2_TYPE_NOOP, after the addresses.
TLVS = b"\x02\x00\x10mail.example.net\x04\x00\x03\x00\x00\x00"

HEADERS = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.9 51234 25\r\n", ProxiedClient("192.0.2.1", 51234)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
     ProxiedClient("255.255.255.255", 65535)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ProxiedClient("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::9 51234 25\r\n", ProxiedClient("2001:db8::1", 51234)),
    (b"PROXY TCP6 2001:DB8:0:0::0:1 ::9 1 25\r\n", ProxiedClient("2001:db8::1", 1)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::9 1 25\r\n", ProxiedClient("192.0.2.1", 1)),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
     ProxiedClient("ffff:" * 7 + "ffff", 65535)),
    (b"PROXY UNKNOWN\r\n", ProxiedClient()),
    (b"PROXY UNKNOWN whatever 1 2 3 ?\r\n", ProxiedClient()),
    (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
     ProxiedClient()),  # the longest, 107 octets
    (v2(PROXY, TCP4, FOUR), ProxiedClient("192.0.2.1", 51234)),
    (v2(PROXY, TCP4, FOUR + TLVS), ProxiedClient("192.0.2.1", 51234)),
    (v2(PROXY, TCP4, FOUR.ljust(V2_MAXIMUM, b"\0")), ProxiedClient("192.0.2.1", 51234)),
    (v2(PROXY, TCP6, SIX), ProxiedClient("2001:db8::1", 51234)),
    (v2(PROXY, TCP6, SIX + TLVS), ProxiedClient("2001:db8::1", 51234)),
    (v2(PROXY, TCP6, pair("::ffff:192.0.2.1", "::9")), ProxiedClient("192.0.2.1", 51234)),
    (v2(PROXY, UNIX, b"/run/balancer".ljust(216, b"\0")), ProxiedClient("", 0)),
    (v2(PROXY, UNIX, bytes(216) + TLVS), ProxiedClient("", 0)),
    (v2(PROXY, UNSPEC, b""), ProxiedClient()),
    (v2(PROXY, UNSPEC, TLVS), ProxiedClient()),
    *((v2(PROXY, family, FOUR), ProxiedClient()) for family in (UDP4, UDP6, DATAGRAMS)),
    (v2(LOCAL, UNSPEC, b""), ProxiedClient()),
    (v2(LOCAL, TCP4, FOUR), ProxiedClient()),  # a health check of the balancer's own
    (v2(LOCAL, 0xFF, b"any"), ProxiedClient()),
]  # fmt: skip

GARBAGE = [
    b"EHLO pc.example.org\r\n",
    b"\r\n\r\nEHLO",
    b" PROXY TCP4 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY\r\n",
    b"PROXY\tTCP4 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY tcp4 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.9 51234\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.9 51234 25 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.9 51234 25 \r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.9 51234 25\r\n",
    b"PROXY TCP4 192.0.2.1 mail.example.net 51234 25\r\n",
    b"PROXY TCP4 192.0.02.1 198.51.100.9 51234 25\r\n",
    b"PROXY TCP4 192.0.2.1\n 198.51.100.9 51234 25\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::9 51234 25\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.9 51234 25\r\n",
    b"PROXY TCP6 2001:db8:::1 2001:db8::9 51234 25\r\n",
    *(
        b"PROXY TCP4 192.0.2.1 198.51.100.9 %b 25\r\n" % port
        for port in (b"65536", b"-1", b"+1", b"025", b"1_0", b"0x19", b"", b"123456", b"\xb2")
    ),
    b"PROXY TCP4 192.0.2.1 198.51.100.9 51234 65536\r\n",
    b"PROXY UNKNOWN \xff\r\n",
    b"PROXY UNKNOWN ".ljust(V1_MAXIMUM - 1, b"x") + b"\r\n",  # 108 octets
    b"PROXY TCP4 192.0.2.1 198.51.100.9 51234 25\n".ljust(V1_MAXIMUM, b"x"),
    SIGNATURE.replace(b"QUIT", b"STOP"),
    v2(0x11, TCP4, FOUR),  # version 1
    v2(0x31, TCP4, FOUR),
    v2(0x22, TCP4, FOUR),  # a command that there is not
    v2(PROXY, 0x41, FOUR),
    v2(PROXY, 0x13, FOUR),
    v2(PROXY, TCP4, FOUR[:-1]),
    v2(PROXY, TCP6, SIX[:-1]),
    v2(PROXY, TCP6, FOUR),
    v2(PROXY, UNIX, bytes(215)),
    v2(PROXY, TCP4, b""),
    v2(PROXY, TCP4, FOUR, length=V2_MAXIMUM + 1),
    v2(LOCAL, UNSPEC, b"", length=0xFFFF),
]


def shortened(value):
    return repr(value)[:70]


@pytest.mark.parametrize(("header", "source"), HEADERS, ids=shortened)
def test_a_header_says_who_it_is_and_what_came_behind_it_is_kept(header, source):
    assert proxied([header]) == (source, b"")
    assert proxied([header + b"EHLO pc\r\nPROXY "]) == (source, b"EHLO pc\r\nPROXY ")


@pytest.mark.parametrize("header", [header for header, _ in HEADERS], ids=shortened)
def test_a_header_that_is_not_whole_is_waited_for(header):
    reader = ProxyReader()
    for number in range(len(header) - 1):
        assert reader.feed(header[number : number + 1]) is None
    assert reader.feed(b"") is None
    assert reader.rest == b""
    assert reader.feed(header[-1:]) is not None


@pytest.mark.parametrize("octets", GARBAGE, ids=shortened)
def test_garbage_is_refused_and_the_message_says_why(octets):
    with pytest.raises(NotProxied) as raised:
        ProxyReader().feed(octets)
    assert str(raised.value)
    assert proxied([octets[n : n + 1] for n in range(len(octets))]) == "refused"


def test_what_cannot_become_a_header_is_refused_at_once():
    for octets in (b"E", b"\n", b"PROXy", b"\r\n\r\n\x00\r\nR"):
        assert proxied([octets]) == "refused"
        assert proxied([octets[:-1]]) is None


def test_nobody_is_made_to_wait_for_a_length_that_is_refused():
    with pytest.raises(NotProxied, match="65535 octets"):
        ProxyReader().feed(v2(PROXY, TCP4, b"", length=65535))


@given(
    st.sampled_from([header for header, _ in HEADERS] + GARBAGE),
    st.binary(max_size=20),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_wherever_it_is_cut_it_says_the_same(header, behind, places):
    assert proxied(cut(header + behind, places)) == proxied([header + behind])


ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


@given(ADDRESSES, st.integers(0, 65535))
def test_both_versions_say_the_same_of_any_client(addresses, port):
    source, destination = map(str, addresses)
    version = addresses[0].version
    line = f"PROXY TCP{version} {source} {destination} {port} 25\r\n".encode()
    octets = v2(PROXY, TCP4 if version == 4 else TCP6, pair(source, destination, (port, 25)))
    mapped = getattr(addresses[0], "ipv4_mapped", None)
    expected = ProxiedClient(str(mapped or source), port), b""
    assert proxied([line]) == proxied([octets]) == expected


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]),
    st.binary(max_size=200),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_any_octets_are_read_or_refused_and_nothing_else(begins, octets, places):
    whole = proxied([begins + octets])
    assert proxied(cut(begins + octets, places)) == whole
    if whole not in (None, "refused"):
        assert (begins + octets).endswith(whole[1])
