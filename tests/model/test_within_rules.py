"""What a test of the rules must not do, fails there (``tests/conftest.py``)."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


def bind():
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))


def connect():
    with socket.socket() as link:
        link.connect(("127.0.0.1", 9))


BEYOND = {
    "a socket that listens": bind,
    "a socket that connects": connect,
    "a file": lambda: Path("written").write_text("x"),
    "a database": lambda: sqlite3.connect(":memory:"),
    "a program": lambda: subprocess.run([sys.executable, "-c", ""]),
    "a fork": os.fork,
}


@pytest.mark.parametrize("kind", BEYOND)
def test_what_no_rule_needs_fails(kind):
    with pytest.raises(AssertionError, match="a test of the rules"):
        BEYOND[kind]()
    assert not Path("written").exists()


def test_its_folder_makes_it_a_test_of_the_rules(request):
    assert request.node.get_closest_marker("rules")
    assert Path(__file__).read_text()
