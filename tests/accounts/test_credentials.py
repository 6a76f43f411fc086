"""Credentials."""

from __future__ import annotations

import pytest
from twisted.cred.credentials import IUsernamePassword
from zope.interface.verify import verifyObject

from postoffice.accounts.credentials import PlainLogin
from postoffice.model.envelope import Client


@pytest.fixture
def login():
    return PlainLogin(b"joe@example.net", b"secret word", Client("192.0.2.1"), "pop3")


def test_they_are_what_twisted_knows(login):
    assert verifyObject(IUsernamePassword, login)
    assert login.username == b"joe@example.net"
    assert login.password == b"secret word"


def test_they_say_where_they_came_from(login):
    assert (login.client, login.protocol) == (Client("192.0.2.1"), "pop3")


def test_the_password_fits_itself_and_nothing_else(login):
    assert login.checkPassword(b"secret word")
    assert login.checkPassword("secret word")
    for other in (b"", b"secret", b"secret word ", "sécret word", "\ud800"):
        assert not login.checkPassword(other)


def test_the_password_is_not_shown(login):
    for shown in (repr(login), str(login), f"{login}", f"{login!r} {login}"):
        assert "joe@example.net" in shown
        assert "secret" not in shown
