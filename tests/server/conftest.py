"""What tests of several modules here begin with."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.address import Address, Quota
from postoffice.model.envelope import Client, Envelope, SessionInfo
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.submission import Receptions
from postoffice.store import names
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.memory import MemoryStore
from postoffice.testing import ImmediateExecutor, finish
from tests.conftest import MemoryOffice
from tests.server.echoes import BALANCER, Echoes, connected
from tests.server.receiving import POSTMASTER


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def factory(clock):
    return Echoes(Portal(None), clock)


@pytest.fixture
def client(factory):
    return connected(factory)


# -- a balancer in front ----------------------------------------------------------------


@pytest.fixture
def proxied(factory):
    """A new client of a factory that believes a balancer; what it says first, or nothing yet."""
    factory.listener_options = ListenerOptions(
        proxies=[ipaddress.ip_network(BALANCER)],
        handshake=30,
        implicit=factory.listener_options.implicit,
    )

    def proxied(first=b"", peer=BALANCER):
        connection = connected(factory, IPv4Address("TCP", peer, 4000))
        if first:
            connection.dataReceived(first)
        return connection

    return proxied


@pytest.fixture
def connection_limits(factory):
    """Three may come in, and one from each place."""
    factory._connection_limits = ConnectionLimits(3, 1)
    return factory._connection_limits


@pytest.fixture
def directory():
    directory = MemoryDirectory()
    for domain in ("example.net", "example.com", "xn--bcher-kva.example"):
        finish(directory.add_domain(domain))
    for name in ("joe@example.net", "postmaster@example.net", "joe@xn--bcher-kva.example"):
        finish(directory.add(name, None))
    return directory


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def reception_context(directory, store):
    return Receptions(
        directory,
        store,
        hostname="mail.example.net",
        postmaster=POSTMASTER,
        now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
    )


@pytest.fixture
def reception(reception_context):
    return reception_context.reception(SessionInfo("id", "smtp", Client("192.0.2.1"), "pc"))


@pytest.fixture
def envelope():
    return Envelope("id.1", Client("192.0.2.1"), "pc", "ESMTP", Address("a", "example.org"))


@pytest.fixture
def crowded(reception_context):
    """A house where maildrops hold 1000 octets and three messages, if nothing else is said."""
    return replace(reception_context, quota=Quota(1000, 3, "reject"))


@pytest.fixture
def asked(store):
    """What the store was asked to admit."""
    asked, admit = [], store.admit

    async def note(account, size):
        asked.append((account, size))
        await admit(account, size)

    store.admit = note
    return asked


@pytest.fixture
def office_on_disk(secrets, tmp_path):
    """An office whose mail is on the disk; ``folder`` is joe's maildrop."""
    store = MaildirStore(
        str(tmp_path / "store"),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability="files",
    )
    finish(store.start())
    office = MemoryOffice(secrets, store)
    office.folder = tmp_path / "store" / names.folder_of("joe@example.net")
    yield office
    finish(store.stop())
