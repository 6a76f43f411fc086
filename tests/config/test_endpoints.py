"""Mistakes in endpoints are told with what was meant, and two at one place are found."""

from __future__ import annotations

import re

import pytest
from twisted.internet import reactor

from postoffice.config.endpoints import find_clashes
from postoffice.daemon.build import try_endpoint

MISTAKES = {
    "25": "did you mean tcp6:25?",
    "tpc:25": "did you mean tcp:25?",
    "tcp4:25": "did you mean tcp:25?",
    "TCP:25": "did you mean tcp:25?",
    "tcp6=25": "did you mean tcp6:25?",
    "ssl:995": "did you mean tcp6:995?",
    "unx:/run/lmtp": "did you mean unix:/run/lmtp?",
    "0.0.0.0:25": "did you mean tcp:25:interface=0.0.0.0?",
    "[::1]:25": r"did you mean tcp6:25:interface=\:\:1?",
    "tcp:127.0.0.1:25": "did you mean tcp:25:interface=127.0.0.1?",
    "tcp6:25:interface=10.0.0.1": "did you mean tcp:25:interface=10.0.0.1?",
    r"tcp:25:interface=\:\:1": r"did you mean tcp6:25:interface=\:\:1?",
    "tcp:25:interface=::1": r"are written \:",
    "tcp:25:interfce=10.0.0.1": "did you mean interface=?",
    "tcp:smtp": "'smtp' is no port",
    "tcp:70000": "at most 65535",
    "udp:25": "'udp' is no kind of endpoint",
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.items())
def test_what_was_meant_is_told(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        try_endpoint(reactor)(text)


@pytest.mark.parametrize(
    "text",
    ["tcp:0", "tcp6:995", "tcp:25:interface=127.0.0.1:backlog=9", "unix:/run/lmtp:mode=600",
     r"tcp6:25:interface=2001\:db8\:\:1", "tcp:port=25", "systemd:domain=INET:index=0"],
)  # fmt: skip
def test_what_is_right_is_taken(text):
    try_endpoint(reactor)(text)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("tcp:25", "tcp:25", True),
        ("tcp6:25", "tcp:25", True),
        ("tcp:25", "tcp:port=25", True),
        ("tcp:25", "tcp:25:interface=127.0.0.1", True),
        ("tcp6:25", "tcp:25:interface=127.0.0.1", True),
        ("tcp:25:interface=127.0.0.1", "tcp:25:interface=127.0.0.2", False),
        ("tcp:25", r"tcp6:25:interface=\:\:1", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:25", "tcp:26", False),
        ("unix:/a", "unix:/a:mode=600", True),
        ("unix:/a", "unix:/b", False),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", False),
    ],
)
def test_two_at_one_place(one, other, meet):
    for pair in ((one, other), (other, one)):
        assert bool(find_clashes(zip("ab", pair, strict=True))) is meet
