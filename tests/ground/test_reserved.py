"""What standards keep for later is refused: nobody can know yet what it means."""

from __future__ import annotations

import pytest

from postoffice.proxy import NotProxied, ProxyReader, Source
from postoffice.sasl import Malformed, SaltOf, exchange
from postoffice.scram import Salt

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = b"\x21"
LOCAL = b"\x20"


@pytest.mark.parametrize("family", [0x41, 0x51, 0xF1, 0x13, 0x2F, 0x03])
def test_families_that_the_proxy_protocol_has_not_are_refused(family):
    block = bytes([family]) + b"\0\x0c" + bytes(12)
    with pytest.raises(NotProxied):
        ProxyReader().feed(SIGNATURE + PROXY + block)
    assert ProxyReader().feed(SIGNATURE + LOCAL + block) == Source()


@pytest.mark.parametrize("family", [0x00, 0x10, 0x12, 0x22, 0x32])
def test_of_families_that_are_no_streams_the_balancer_itself_is_the_client(family):
    header = SIGNATURE + PROXY + bytes([family]) + b"\0\x0c" + bytes(12)
    assert ProxyReader().feed(header) == Source()


def scram():
    """An exchange that waits for the client's first message."""
    begun = exchange("SCRAM-SHA-256", hostname="mx", bindings={}, plus=False, nonce=lambda: "n")
    next(begun)
    return begun


FIRST = [b"n,,m=x,n=joe,r=c", b"n,,n=joe,m=x,r=c", b"n,,n=joe,r=c,m=x", b"n,,n=joe,r=c,a=1,m=x"]


@pytest.mark.parametrize("message", FIRST)
def test_an_extension_of_scram_that_must_be_understood_ends_the_login(message):
    with pytest.raises(Malformed):
        scram().send(message)


def test_it_does_so_in_the_last_message_too():
    begun = scram()
    assert begun.send(b"n,,n=joe,r=c,x=1") == SaltOf(b"joe")
    begun.send(Salt(b"salt", 4096))
    with pytest.raises(Malformed):
        begun.send(b"c=biws,r=cn,m=x,p=" + 43 * b"A" + b"=")
