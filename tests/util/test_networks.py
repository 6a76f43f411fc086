"""The addresses of this machine."""

from __future__ import annotations

from postoffice.util.networks import local_addresses

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 198.41.0.0/24 2 0 2
        |-- 198.41.0.0
           /24 link UNICAST
        |-- 198.41.0.4
           /32 host LOCAL
        |-- 198.41.0.255
           /32 link BROADCAST
"""
INTERFACES = """\
26000000000000000000000000000001 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


def test_those_that_others_can_reach(tmp_path):
    (tmp_path / "4").write_text(TRIE)
    (tmp_path / "6").write_text(INTERFACES)
    found = local_addresses(str(tmp_path / "4"), str(tmp_path / "6"))
    assert found == {"198.41.0.4", "2600::1"}


def test_where_nobody_lists_them(tmp_path):
    assert local_addresses(str(tmp_path / "4"), str(tmp_path / "6")) == frozenset()


def test_this_machine():
    assert not {"127.0.0.1", "::1"} & local_addresses()
