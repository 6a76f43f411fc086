"""As many clients as the daemon lets in, who say nothing, and one who works among them."""

from __future__ import annotations

import re
import resource
import smtplib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import pytest

#: What is wanted, where the limit of open files allows it.
CLIENTS = 10_000
#: How many of them come from one address; the daemon allows a hundred.
FROM_ONE = 90
#: Open files of the test that are no client's, and clients that come besides.
OURS, OTHERS = 200, 20


@pytest.fixture
def allowed() -> Iterator[int]:
    """How many clients this process can be; the daemon inherits its limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = max(hard, 4 * CLIENTS)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    except ValueError:  # only the administrator may raise the hard limit
        files = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    yield files - OURS
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sources() -> Iterator[str]:
    """Addresses of this machine, each some times."""
    for third in range(1, 250):
        for fourth in range(1, 250):
            yield from [f"127.1.{third}.{fourth}"] * FROM_ONE


def test_thousands_who_say_nothing_do_not_harm_one_who_works(start, written, allowed, capsys):
    written(f"limits: {{connections: {2 * (CLIENTS + OTHERS)}}}\n")
    office = start().open()
    enough = re.search(r"is enough for (\d+) only", office.said)
    # up to half of the places are kept for services that nobody uses here
    lets_in = int(enough[1]) // 2 - OTHERS if enough else CLIENTS
    count = min(CLIENTS, lets_in, allowed)
    account = office.new_account()
    before = office.held
    with ExitStack() as crowd:
        idle = []
        for number, source in enumerate(islice(sources(), count)):
            port = office.pop3 if number % 2 else office.smtp
            client = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
            idle.append(crowd.enter_context(client))
            assert client.recv(100).startswith((b"220 ", b"+OK "))
        each = (office.held - before) / count
        with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
            client.sendmail("a@example.org", [account.address], b"Subject: x\r\n\r\nx\r\n")
        assert len(office.collect(account)) == 1
        idle[0].sendall(b"NOOP\r\n")
        idle[-1].sendall(b"QUIT\r\n")
        assert idle[0].recv(100).startswith(b"250 ")
        assert idle[-1].recv(100).startswith((b"221 ", b"+OK"))
    with capsys.disabled():
        why = "" if count == CLIENTS else ", as the limit of open files allows no more"
        print(f"\n{count} idle clients{why}; {each:.0f} octets for each")
    assert each < 32 << 10
    for _ in range(count):
        office.wait_for(r"session-ended .* client=127\.1\.")
    office.check()
