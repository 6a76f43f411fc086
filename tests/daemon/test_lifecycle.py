"""The whole post office, built and opened without the command line."""

from __future__ import annotations

import os
import poplib
import re
import smtplib
from datetime import UTC, datetime

import pytest
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.accounts.passwords import hash_password
from postoffice.config import loader
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon import privileges
from postoffice.daemon.build import build, find_maker, makers, try_endpoint
from postoffice.daemon.first_run import FirstRun, Terminal
from postoffice.daemon.lifecycle import PostOffice
from postoffice.daemon.twistd_plugin import Options, makeService
from postoffice.daemon.twistd_service import TwistdService
from postoffice.model.address import Address
from postoffice.model.errors import StartupError, TemporaryFailure

OFFICE = """\
hostname: mail.example.net
postmaster: joe@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
  submission: []
  lmtp: []
store: {kind: memory}
"""


def settings_of(folder, text: str = OFFICE) -> Settings:
    return loader.read(text, f"{folder}/postoffice.yaml", find_maker)


def turn_until(deferred: Deferred) -> None:
    while not deferred.called:
        reactor.iterate(0.05)
    outcome = []
    deferred.addBoth(outcome.append)  # it has been seen to: nothing of it is logged later
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()


@pytest.fixture
def opened(tmp_path):
    """Opens a post office, as twistd does it; it is closed in the end."""
    offices = []

    def opened(text: str = OFFICE, **more) -> PostOffice:
        office = build(settings_of(tmp_path, text), reactor, **more)
        offices.append(office)
        office.privilegedStartService()
        office.startService()
        return office

    yield opened
    for office in offices:
        turn_until(office.stopService())


def add_joe(office: PostOffice) -> None:
    async def add() -> None:
        await office.plugins.register.add_domain("example.net")
        await office.plugins.register.add("joe@example.net", hash_password(b"secret"))

    turn_until(Deferred.fromCoroutine(add()))


def test_it_is_open_when_it_has_started(opened, tmp_path, logged):
    office = opened()
    opening = office.whenOpen()
    assert opening.called
    assert os.path.isdir(tmp_path / "state")
    (smtp,), (pop3,) = office.addresses["smtp"], office.addresses["pop3"]
    assert f"the post office is open: smtp {smtp}, pop3 {pop3}" in logged


def test_mail_that_is_posted_is_collected(opened, in_a_thread):
    office = opened(now=lambda: datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    add_joe(office)
    ports = {name: int(found[0].split(":")[1]) for name, found in office.addresses.items()}

    def trip() -> None:
        with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=30) as client:
            client.sendmail("a@example.org", ["joe@example.net"], b"Subject: x\r\n\r\nx\r\n")
        client = poplib.POP3("127.0.0.1", ports["pop3"], timeout=30)
        client.user("joe@example.net")
        client.pass_("secret")
        lines = client.retr(1)[1]
        assert lines[-1] == b"x"
        assert b"\tTue, 03 Feb 2026 04:05:06 +0000" in lines
        client.quit()

    in_a_thread(trip)


def test_it_may_be_a_part_of_something_larger(tmp_path):
    whole = MultiService()
    office = build(settings_of(tmp_path), reactor)
    office.setServiceParent(whole)
    whole.privilegedStartService()
    whole.startService()
    assert office.whenOpen().called
    turn_until(whole.stopService())
    assert not office.running


def test_where_the_reactor_runs_already_opening_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(reactor, "running", True)
    office = build(settings_of(tmp_path), reactor)
    office.startService()
    opening = office.whenOpen()
    assert not opening.called
    turn_until(opening)
    turn_until(office.stopService())


def test_where_the_reactor_runs_already_failing_is_told_too(tmp_path, monkeypatch, logged):
    monkeypatch.setattr(reactor, "running", True)
    (tmp_path / "state").write_text("a file")
    office = build(settings_of(tmp_path), reactor)
    office.startService()
    with pytest.raises(StartupError, match="cannot be made"):
        turn_until(office.whenOpen())
    assert any("the post office cannot open: state: the folder" in line for line in logged)
    turn_until(office.stopService())


def test_nothing_is_touched_before_it_starts(tmp_path):
    build(settings_of(tmp_path), reactor)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_asked_keeps_it_closed(tmp_path):
    office = build(settings_of(tmp_path), reactor)

    def look_up(name):
        raise TemporaryFailure("the accounts are away")

    office.plugins.directories[0].look_up = look_up
    with pytest.raises(StartupError, match="the accounts are away"):
        office.startService()
    assert all(listener.server.starting for listener in office._generations.listeners)


def test_a_server_of_accounts_that_is_down_does_not_keep_it_closed(tmp_path, logged):
    """Mail waits until it is back, as when it goes down later (docs/directories.rst)."""
    office = build(settings_of(tmp_path), reactor)

    def look_up(name):
        raise Unavailable("PostgreSQL is down")

    office.plugins.directories[0].look_up = look_up
    office.startService()
    assert not any(listener.server.starting for listener in office._generations.listeners)
    assert any("postmaster's account failed: PostgreSQL is down" in line for line in logged)
    turn_until(office.stopService())


def test_what_does_not_open_leaves_no_port_open(tmp_path):
    (tmp_path / "state").write_text("a file")
    office = build(settings_of(tmp_path), reactor)
    office.privilegedStartService()
    assert all(listener.port is not None for listener in office._generations.listeners)
    with pytest.raises(StartupError, match="cannot be made: File exists"):
        office.startService()
    assert all(listener.port is None for listener in office._generations.listeners)


def test_an_endpoint_that_twisted_does_not_know(tmp_path):
    text = OFFICE.replace("tcp:0:interface=127.0.0.1", "nonsense:0")
    with pytest.raises(ConfigurationError) as caught:
        build(settings_of(tmp_path, text), reactor)
    assert [problem.key for problem in caught.value.problems] == [
        "listeners.smtp[0]",
        "listeners.pop3[0]",
    ]


def test_the_reactor_and_the_clock_are_arguments(tmp_path):
    """Ports of one reactor, time of another clock; no thread, no socket, no file."""
    memory, clock = MemoryReactorClock(), Clock()
    office = build(settings_of(tmp_path), memory, clock=clock)
    office.privilegedStartService()
    assert [server[0] for server in memory.tcpServers] == [0, 0]
    factory = memory.tcpServers[0][1]
    factory.server.open()
    client = factory.buildProtocol(None)
    transport = StringTransport(peerAddress=UNIXAddress("somewhere"))
    client.makeConnection(transport)
    assert transport.value().startswith(b"220 mail.example.net")
    assert clock.getDelayedCalls()
    assert not memory.getDelayedCalls()
    client.connectionLost(Failure(ConnectionResetError()))


def test_systemd_endpoints_are_looked_at_under_systemd(monkeypatch):
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    try_endpoint(reactor)("systemd:domain=INET:index=0")
    with pytest.raises(ValueError, match="is no kind of endpoint"):
        try_endpoint(reactor)("nonsense:0")


def test_our_own_rooms_are_found_as_any_others():
    from postoffice.interfaces import IDirectoryMaker, IStoreMaker

    assert {maker.kind for maker in makers(IStoreMaker)} >= {"maildir", "memory"}
    assert {maker.kind for maker in makers(IDirectoryMaker)} >= {"sqlite"}


# -- twistd -----------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "postoffice.yaml").write_text(OFFICE)


def test_makeService_without_twistd_gives_the_post_office(written):
    options = Options()
    options.parseOptions([])
    office = makeService(options)
    assert isinstance(office, PostOffice)
    assert office.settings.hostname == "mail.example.net"
    assert office.welcome is None


def test_makeService_under_twistd_has_a_front_door(written):
    options = Options()
    options.parent = {"nodaemon": True}
    options.parseOptions(["--config", "postoffice.yaml"])
    service = makeService(options)
    assert isinstance(service, TwistdService)
    os.close(service._stderr)


def test_a_wrong_configuration_ends_twistd_with_its_words(tmp_path):
    options = Options()
    options.parseOptions(["--config", f"{tmp_path}/nowhere"])
    with pytest.raises(SystemExit, match=r"cannot open:\n.*nowhere: cannot be read: No such file"):
        makeService(options)


# -- first light ------------------------------------------------------------------------


FIRST = """
hostname: localhost
postmaster: demo@localhost
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: ["tcp:0:interface=127.0.0.1"]
  lmtp: []
  pop3: ["tcp:0:interface=127.0.0.1"]
"""


def first_run(tmp_path, terminal: str) -> PostOffice:
    office = build(settings_of(tmp_path, FIRST), reactor)
    state = f"{tmp_path}/state"
    office.welcome = FirstRun(Address("demo", "localhost"), state, Terminal(terminal))
    return office


def open_and_close(office: PostOffice) -> None:
    office.startService()
    turn_until(office.stopService())


def test_the_first_light_makes_one_account_once(tmp_path):
    terminal = tmp_path / "terminal"
    terminal.touch()
    open_and_close(first_run(tmp_path, str(terminal)))
    assert "demo@localhost    password: " in terminal.read_text()
    terminal.write_text("")
    open_and_close(first_run(tmp_path, str(terminal)))
    assert "password:" not in terminal.read_text()
    assert "postoffice account passwd demo@localhost --generate" in terminal.read_text()
    assert len(re.findall(r"127\.0\.0\.1:\d+", terminal.read_text())) == 3


@pytest.mark.parametrize("on_the_path", [True, False])
def test_the_command_is_named_as_the_shell_finds_it(tmp_path, monkeypatch, on_the_path):
    for name in ("python3", "postoffice"):
        (tmp_path / name).touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path) if on_the_path else "/nowhere")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    terminal = tmp_path / "terminal"
    terminal.touch()
    open_and_close(first_run(tmp_path, str(terminal)))
    named = "postoffice" if on_the_path else f"{tmp_path}/postoffice"
    assert f"For an office of your own: {named} init --help" in terminal.read_text()


def test_an_old_file_of_that_name_is_not_written_through(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "state" / "first-light.txt").symlink_to(tmp_path / "precious")
    open_and_close(first_run(tmp_path, "/nowhere"))
    assert (tmp_path / "precious").read_text() == "precious"
    assert "curl" in (tmp_path / "state" / "first-light.txt").read_text()


# -- privileges -------------------------------------------------------------------------


def test_becoming_nobody_known_is_an_error(monkeypatch):
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 0)
    with pytest.raises(StartupError, match="cannot become nobody-of-this-name"):
        privileges.become("nobody-of-this-name", "/nowhere")


def test_without_root_the_user_stays_the_same(monkeypatch):
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(privileges.os, "setuid", lambda uid: pytest.fail("setuid"))
    privileges.become("nobody", "/nowhere")


@pytest.mark.parametrize(
    ("limits", "clients"),
    [((1000, 1000), 300), ((100, 1300), 400), ((10, 10), 1), ((-1, -1), 1 << 30)],
)
def test_how_many_clients_the_open_files_are_enough_for(limits, clients, monkeypatch):
    set_to = []
    monkeypatch.setattr(privileges.resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(privileges.resource, "setrlimit", lambda _, new: set_to.append(new))
    assert privileges.raise_open_files() == clients
    assert set_to == ([(limits[1], limits[1])] if limits[0] != limits[1] else [])


def test_a_system_that_does_not_let_us_raise_the_limit(monkeypatch, logged):
    def no(which, limits):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(privileges.resource, "getrlimit", lambda which: (400, 4000))
    monkeypatch.setattr(privileges.resource, "setrlimit", no)
    assert privileges.raise_open_files() == 100
    assert any("raising the limit of open files failed, it stays 400" in line for line in logged)
