"""The checkers of others, as the configuration names them."""

from __future__ import annotations

import pytest
from twisted.cred import strcred
from twisted.cred.checkers import FilePasswordDB
from twisted.cred.credentials import IAnonymous
from zope.interface import implementer

from postoffice.accounts.credentials import IBearerLogin
from postoffice.config import loader
from postoffice.config.source import ConfigurationError
from postoffice.daemon.build import find_maker
from postoffice.daemon.checkers import make_checkers

LEAST = "hostname: mail.example.net\npostmaster: postmaster@example.net\n"
TOKENS = 'listeners: {pop3: [{endpoint: "tcp:110", mechanisms: [PLAIN, XOAUTH2]}]}\n'


@implementer(strcred.ICheckerFactory)
class Made:
    """A plugin that makes what it was made with."""

    def __init__(self, name, *interfaces):
        self.authType = name
        self.credentialInterfaces = interfaces

    def generateChecker(self, argstring):
        if argstring == "broken":
            raise OSError("no such thing")
        return self


@pytest.fixture
def make(monkeypatch):
    """The checkers of a configuration, of which some are plugins of others."""
    ours = [
        *strcred.findCheckerFactories(),
        Made("tokens", IBearerLogin),
        Made("useless", IAnonymous),
    ]
    monkeypatch.setattr(strcred, "findCheckerFactories", lambda: ours)

    def make(text):
        settings = loader.read(LEAST + text, "FILE", find_maker)
        return make_checkers(settings, lambda: "; the plugin x is broken: y")

    return make


@pytest.fixture
def complaints(make):
    def complaints(text):
        with pytest.raises(ConfigurationError) as caught:
            make(text)
        return str(caught.value).split("\n")

    return complaints


def test_checkers_are_made_in_their_order(make, tmp_path):
    (tmp_path / "passwd").touch()
    first, second = make(f"checkers: ['file:{tmp_path}/passwd', tokens]\n" + TOKENS)
    assert isinstance(first, FilePasswordDB)
    assert second.authType == "tokens"
    assert make("") == []


def test_checkers_that_cannot_be_made(complaints):
    text = 'checkers:\n  - nonsense:x\n  - tokens:broken\n  - useless\n  - "file:"\n'
    nonsense, broken, useless, missing = complaints(text)
    start = "FILE:4: checkers[0]: 'nonsense:x': there is no such checker, only: "
    assert nonsense.startswith(start)
    assert "file, " in nonsense
    assert nonsense.endswith("; the plugin x is broken: y")
    assert broken == "FILE:5: checkers[1]: 'tokens:broken': OSError: no such thing"
    assert (
        useless
        == "FILE:6: checkers[2]: 'useless': it supports no credentials that clients can present"
    )
    assert missing == "FILE:7: checkers[3]: 'file:': ValueError: 'file' requires a filename"


def test_tokens_that_nobody_can_judge_are_offered_by_nobody(complaints):
    assert complaints("checkers: []\n" + TOKENS) == [
        "FILE:4: listeners.pop3[0].mechanisms: XOAUTH2 needs a checker that takes tokens; "
        "there is none under checkers:"
    ]
