"""What the tests of policies share."""

from __future__ import annotations

import pytest

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient, SessionInfo


@pytest.fixture
def envelope():
    """Makes envelopes."""

    def make(client="8.8.4.4", sender="a@example.org", login="", hello="pc.example.org"):
        found = Address.parse(sender) if sender else None
        return Envelope("id.1", Client(client), hello, "ESMTP", found, login=login)

    return make


@pytest.fixture
def session_info():
    """Makes visits."""

    def make(client="8.8.4.4", service="smtp"):
        return SessionInfo("id", service, Client(client), "pc.example.org")

    return make


@pytest.fixture
def recipient():
    """Makes recipients."""

    def make(name="joe@example.net"):
        return Recipient(Address.parse(name), Account(name, name))

    return make
