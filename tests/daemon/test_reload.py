"""A new configuration beside the old one: what is shared, what ends, and when."""

from __future__ import annotations

import contextlib
import select
import socket

import pytest
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.config import loader
from postoffice.config.source import ConfigurationError
from postoffice.daemon import plugins
from postoffice.daemon.build import build, find_maker
from postoffice.interfaces import IPolicy, IPolicyMaker
from postoffice.model.config_values import TEXT, Key
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.policy.common import PolicyBase

OFFICE = """\
hostname: mail.example.net
postmaster: joe@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  pop3: []
  submission: []
  lmtp: []
store: {kind: memory}
"""


@implementer(IPolicy)
class Recorded(PolicyBase):
    """A policy that records when it starts and stops."""

    stages = ("recipient",)

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events
        self.waiting: Deferred[None] | None = Deferred() if name == "slow" else None

    async def start(self) -> None:
        self.events.append(f"{self.name} starts")
        if self.name == "broken":
            raise StartupError("broken as it is")
        if self.waiting is not None:
            await self.waiting

    async def stop(self) -> None:
        self.events.append(f"{self.name} stops")


async def deaf(_self) -> None:
    """Wait for ever, also when it is cancelled."""
    while True:
        with contextlib.suppress(CancelledError):
            await Deferred()


@implementer(IPolicyMaker)
class Maker:
    kind = "recorded"
    keys = (Key("name", TEXT, "x", "Its name."),)

    def __init__(self):
        self.events: list[str] = []
        self.made: list[Recorded] = []

    def make(self, options, context):
        self.made.append(Recorded(options["name"], self.events))
        return self.made[-1]


@pytest.fixture
def maker():
    return Maker()


@pytest.fixture
def write(tmp_path):
    """Writes the configuration, with policies of these names, and more."""

    def write(*names: str, more: str = "") -> None:
        policies = ", ".join(f"{{kind: recorded, name: {name}}}" for name in names)
        (tmp_path / "postoffice.yaml").write_text(f"{OFFICE}policies: [{policies}]\n{more}")

    return write


def turn_until(deferred: Deferred) -> object:
    outcome: list[object] = []
    deferred.addBoth(outcome.append)
    while not outcome:
        reactor.iterate(0.05)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


@pytest.fixture
def office(tmp_path, monkeypatch, maker, write):
    """Opens a post office; it is closed in the end."""
    offices = []

    def found(interface, kind):
        return maker if kind == maker.kind else find_maker(interface, kind)

    monkeypatch.setattr("postoffice.daemon.build.find_maker", found)

    def office(*names: str, more: str = ""):
        write(*names, more=more)
        settings = loader.load(str(tmp_path / "postoffice.yaml"), found)
        offices.append(build(settings, reactor))
        offices[-1].privilegedStartService()
        offices[-1].startService()
        return offices[-1]

    yield office
    for one in offices:
        turn_until(one.stopService())


class Transport(StringTransport):
    """A transport of TCP."""

    def setTcpNoDelay(self, enabled):
        pass

    def setTcpKeepAlive(self, enabled):
        pass

    def loseWriteConnection(self):
        pass

    def abortConnection(self):
        self.disconnecting = True


def connected(office):
    """A client of the only listener."""
    client = office._generations.listeners[0].buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
    client.makeConnection(Transport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1)))
    return client


def disconnect(client) -> None:
    client.connectionLost(Failure(ConnectionResetError()))


def test_a_policy_is_stopped_when_its_last_session_has_ended(office, write, maker):
    running = office("a", "b")
    old = connected(running)
    write("b", "c")
    turn_until(running.reload())
    assert maker.events == ["a starts", "b starts", "c starts"]
    middle = connected(running)
    write("c")
    turn_until(running.reload())
    assert len(maker.made) == 3
    disconnect(old)
    assert maker.events[3:] == ["a stops"]
    disconnect(middle)
    assert maker.events[3:] == ["a stops", "b stops"]
    assert len(running._generations.servers) == 1  # nothing is left of those before
    turn_until(running.stopService())
    assert maker.events[3:] == ["a stops", "b stops", "c stops"]


def readiness(office) -> int:
    """The status of the page that tells whether clients are served."""
    host, _, port = office._monitoring.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        while not select.select([client], [], [], 0)[0]:
            reactor.iterate(0.05)
        return int(client.recv(1000).split()[1])


def test_it_is_ready_when_it_is_open_and_no_sooner(office, maker):
    running = office("slow", more='metrics: {listen: "tcp:0:interface=127.0.0.1"}\n')
    assert readiness(running) == 503
    maker.made[0].waiting.callback(None)
    turn_until(running.whenOpen())
    assert readiness(running) == 200


def test_two_policies_of_the_same_words_are_two(office, write, maker):
    running = office("a", "a")
    write("a", "a", "a")
    turn_until(running.reload())
    assert maker.events == ["a starts"] * 3
    write("a")
    turn_until(running.reload())
    assert maker.events[3:] == ["a stops"] * 2


def test_a_policy_that_does_not_start_leaves_the_old_ones(office, write, maker, logged):
    running = office("a")
    write("a", "b", "broken")
    before = running.settings
    with pytest.raises(StartupError, match="broken as it is"):
        turn_until(running.reload())
    assert running.settings is before
    assert sorted(maker.events[1:]) == ["b starts", "b stops", "broken starts", "broken stops"]
    assert any(line.startswith("reload-failed why=") for line in logged)


def test_it_is_not_reloaded_before_it_is_open(tmp_path, write):
    write()
    running = build(loader.load(str(tmp_path / "postoffice.yaml"), find_maker), reactor)
    with pytest.raises(StartupError, match="is not open"):
        turn_until(running.reload())


@pytest.mark.parametrize("cancelled", ["ends", "goes on"])
def test_a_policy_that_never_starts_leaves_the_old_ones(
    office, write, maker, monkeypatch, logged, cancelled
):
    running = office("a")
    write("a", "b", "slow")
    before = running.settings
    with monkeypatch.context() as patch:
        patch.setattr(plugins, "START", 0.01)
        if cancelled == "goes on":
            patch.setattr(Recorded, "start", deaf)
            patch.setattr(Recorded, "stop", deaf)
        with pytest.raises(StartupError, match=r"policies\[\d\].* timed out"):
            turn_until(running.reload())
    assert running.settings is before
    assert any(line.startswith("reload-failed why=") for line in logged)
    write("a", "c")
    turn_until(running.reload())
    assert maker.events[-1] == "c starts"


def test_two_reloads_come_one_after_the_other(office, write, maker):
    running = office()
    write("slow")
    first, second = running.reload(), running.reload()
    while not maker.made:
        reactor.iterate(0.05)
    write("slow", "b")
    assert not first.called
    maker.made[0].waiting.callback(None)
    turn_until(second)
    assert first.called
    assert maker.events == ["slow starts", "b starts"]


def test_the_end_comes_while_it_is_reloaded(office, write, maker, logged):
    running = office("a")
    write("slow")
    reloading = running.reload()
    while len(maker.made) < 2:
        reactor.iterate(0.05)
    stopping = running.stopService()
    with pytest.raises(StartupError, match="is closing"):
        turn_until(reloading)
    turn_until(stopping)
    assert sorted(maker.events) == ["a starts", "a stops", "slow starts", "slow stops"]


def test_sessions_of_all_generations_end_when_it_closes(office, write):
    running = office("a")
    clients = [connected(running)]
    write("b")
    turn_until(running.reload())
    clients.append(connected(running))
    stopping = running.stopService()
    for client in clients:
        while b"\r\n421 " not in client.transport.value():
            reactor.iterate(0.05)
        disconnect(client)
    turn_until(stopping)


def test_connections_are_counted_over_a_reload(office, write):
    running = office()
    old = connected(running)
    write(more="limits: {connections_per_client: 1}\n")
    turn_until(running.reload())
    assert b"421" in connected(running).transport.value()
    disconnect(old)
    new = connected(running)
    assert new.transport.value().startswith(b"220 ")
    disconnect(new)


def test_the_limits_of_wrong_passwords_change_at_once(office, write):
    running = office()
    write(more="limits: {wrong_passwords: 7/day, wrong_passwords_per_account: 9/h}\n")
    turn_until(running.reload())
    account, network = running._core.logins.attempts._allowances.values()
    assert (account.count, network.count) == (9, 7)


def test_a_post_office_without_a_configuration_has_nothing_to_reload(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = loader.read(OFFICE, str(tmp_path / "postoffice.yaml"), find_maker, first_run=True)
    running = build(settings, reactor)
    running.privilegedStartService()
    running.startService()
    with pytest.raises(StartupError, match="there is no configuration file"):
        turn_until(running.reload())
    turn_until(running.stopService())


def test_a_file_that_has_gone_is_an_error(office, tmp_path):
    running = office()
    (tmp_path / "postoffice.yaml").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        turn_until(running.reload())


def test_a_directory_that_is_down_does_not_undo_a_reload(office, write, monkeypatch):
    running = office("a")

    async def fail(name):
        raise TemporaryFailure("the directory is down")

    for asked in ("find", "serves", "look_up"):
        monkeypatch.setattr(running.plugins.directories[0], asked, fail, raising=False)
    write("b")
    done = turn_until(running.reload())
    assert done.warnings == ("looking for the postmaster's account failed: the directory is down",)


def test_the_end_comes_while_old_ports_are_closed(office, write, maker, tmp_path):
    running = office("a")
    (old,) = running._generations.listeners
    closed = Deferred()
    port, old.port = old.port, SlowPort(closed)
    write("b")
    file = tmp_path / "postoffice.yaml"
    file.write_text(file.read_text().replace('smtp: ["tcp:0:interface=127.0.0.1"]', "smtp: []"))
    reloading = running.reload()
    while old.port is not None:
        reactor.iterate(0.05)
    stopping = running.stopService()
    with pytest.raises(StartupError, match="is closing"):
        turn_until(reloading)
    turn_until(stopping)
    assert sorted(maker.events) == ["a starts", "a stops", "b starts", "b stops"]
    assert len(running._generations.servers) == 0
    turn_until(port.stopListening())


class SlowPort:
    """A port that takes as long to close as the test wants."""

    def __init__(self, closed):
        self._closed = closed

    def getHost(self):
        return UNIXAddress("/somewhere")

    def stopListening(self):
        return self._closed
