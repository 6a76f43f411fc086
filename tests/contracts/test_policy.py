"""What every policy must keep (``interfaces.IPolicy``)."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.daemon.build import makers
from postoffice.interfaces import Fields, IPolicy, IPolicyMaker, PluginContext
from postoffice.model.address import Account, Address
from postoffice.model.config_values import REQUIRED
from postoffice.model.envelope import Client, Envelope, Recipient, SessionInfo
from postoffice.model.reply import Reply
from postoffice.policy.chain import STAGES
from postoffice.policy.common import COMMON
from postoffice.testing import ImmediateExecutor, finish

OPTIONS = {"rate": {"client": (1, 60.0)}, "dnsbl": {"zones": (("bad.example", frozenset()),)}}
CLIENTS = ["", "127.0.0.1", "10.1.2.3", "::1", "fe80::1"]
SENDERS = [None, Address("a", "example.org"), Address("jürgen", "bücher.example")]


def options(maker, folder):
    found = {}
    for key in (*maker.keys, *COMMON):
        default = key.default
        if default is REQUIRED or default is None:
            continue
        listed = list(default) if isinstance(default, tuple) else default
        found[key.name] = key.kind.read(listed)
    if "path" in found:
        found["path"] = f"{folder}/{found['path']}"
    return {key.name: None for key in maker.keys} | found | OPTIONS.get(maker.kind, {})


@pytest.fixture(params=makers(IPolicyMaker), ids=lambda maker: maker.kind)
def policy(request, tmp_path):
    context = PluginContext(Clock(), ImmediateExecutor(), str(tmp_path), "mail.example.net")
    policy = request.param.make(options(request.param, tmp_path), context)
    finish(policy.start())
    yield policy
    finish(policy.stop())


def test_it_provides_what_it_says(policy):
    assert IPolicy.providedBy(policy)
    assert verifyObject(IPolicy, policy)
    assert set(policy.stages) <= set(STAGES)
    assert policy.stages


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("sender", SENDERS, ids=str)
def test_it_has_an_opinion_on_everybody(policy, client, sender):
    session_info = SessionInfo("id", "smtp", Client(client), "[IPv6:::1]")
    envelope = Envelope("id.1", Client(client), "ö", "ESMTP", sender, utf8=True)
    recipient = Recipient(
        Address("jürgen", "example.net"), Account("jürgen@example.net", "jürgen@example.net")
    )
    for said in (
        finish(policy.connect(session_info)),
        finish(policy.hello(session_info)),
        finish(policy.sender(envelope)),
        finish(policy.recipient(envelope, recipient)),
    ):
        assert said is None or isinstance(said, Reply | Fields)
        assert not isinstance(said, Reply) or not said.positive


def test_the_postmaster_of_a_stranger_is_never_refused(policy):
    envelope = Envelope("id.1", Client("192.0.2.1"), "x", "SMTP", None)
    to_him = Recipient(Address("postmaster", "example.net"), Account("p@example.net", "p"))
    assert finish(policy.recipient(envelope, to_him)) is None
