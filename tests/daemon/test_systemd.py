"""What systemd is told, on a socket of its kind."""

from __future__ import annotations

import os
import socket
import time

import pytest
from twisted.internet.task import Clock

from postoffice.daemon.systemd import Systemd


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request, tmp_path):
    """systemd's socket, and its name in the environment."""
    abstract = request.param == "an abstract name"
    name = f"\0postoffice-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.setblocking(False)
        yield manager, name.replace("\0", "@")


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_is_told_of_start_reload_and_end(manager):
    listening, name = manager
    environment = {"NOTIFY_SOCKET": name, "HOME": "/"}
    systemd = Systemd(environment, Clock())
    assert environment == {"HOME": "/"}
    systemd.ready("open")
    before = time.monotonic_ns() // 1000
    systemd.reloading()
    ready, reloading = heard(listening)
    assert ready == "READY=1\nSTATUS=open"
    first, _, told = reloading.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(told) <= time.monotonic_ns() // 1000
    systemd.stopping()
    systemd.stopped()
    assert heard(listening) == ["STOPPING=1"]


def test_signs_of_life_come_twice_as_often_as_expected(manager):
    listening, name = manager
    clock = Clock()
    environment = {
        "NOTIFY_SOCKET": name,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    systemd = Systemd(environment, clock)
    clock.advance(60)
    assert heard(listening) == []  # it has not started yet
    systemd.ready("open")
    clock.pump([15, 15])
    systemd.reloading()
    systemd.ready("open")
    clock.advance(15)
    assert heard(listening).count("WATCHDOG=1") == 4
    systemd.stopped()
    clock.advance(60)
    assert heard(listening) == []


@pytest.mark.parametrize(
    "more", [{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}]
)
def test_without_a_watchdog_no_sign_of_life_is_sent(manager, more):
    listening, name = manager
    clock = Clock()
    Systemd({"NOTIFY_SOCKET": name, **more}, clock).ready("open")
    clock.advance(60)
    assert heard(listening) == ["READY=1\nSTATUS=open"]


def test_without_systemd_nobody_is_told():
    clock = Clock()
    systemd = Systemd({"WATCHDOG_USEC": "1000"}, clock)
    systemd.ready("open")
    systemd.stopping()
    systemd.stopped()
    assert not clock.getDelayedCalls()


def test_a_manager_that_has_gone_is_no_reason_to_stop(tmp_path, logged):
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}, Clock()).ready("open")
    assert "telling systemd READY=1 failed: No such file or directory" in logged[-1]
