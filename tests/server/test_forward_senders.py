"""Strangers' mail is sent on from rewritten senders, and bounces find their way back."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from postoffice.accounts.directories import look_up_of
from postoffice.config import loader
from postoffice.daemon.build_parts import build_reception_context
from postoffice.daemon.plugin_makers import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.alias import Domain
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.model.reply import RECIPIENT_OK, UNKNOWN_RECIPIENT
from postoffice.model.route import Direct
from postoffice.outbound.routes import Router, Rule
from postoffice.policy.chain import PolicyChain
from postoffice.server.forward_senders import ForwardSenders
from postoffice.testing import ImmediateExecutor, finish
from tests.server.receiving import ask

STRANGER = "ann@example.org"


@pytest.fixture
def senders(tmp_path, reception_context, directory):
    path = str(tmp_path / "srs.secrets")
    return ForwardSenders(path, look_up_of(directory), reception_context.now)


@pytest.fixture
def context(reception_context, senders):
    return replace(reception_context, router=Router([Rule(Direct())]), forward_senders=senders)


def sender_of(senders, sender=STRANGER, original="joe@example.net", **settings):
    recipient = QueuedRecipient(address="joe@far.example", original=original)
    message = QueuedMessage(id="m", sender=sender, recipients=(recipient,), came=0.0, **settings)
    return finish(senders.sender_of(message, recipient))


def test_a_stranger_s_mail_is_sent_on_from_an_address_of_ours(senders, tmp_path):
    assert sender_of(senders).startswith("SRS0=")
    assert sender_of(senders).endswith("=example.org=ann@example.net")
    assert os.listdir(tmp_path) == ["srs.secrets"]
    assert stat.S_IMODE(os.stat(tmp_path / "srs.secrets").st_mode) == 0o600


@pytest.mark.parametrize(
    ("sender", "original", "login"),
    [
        (STRANGER, "", ""),  # nothing of ours led there
        ("", "joe@example.net", ""),
        ("joe@example.com", "joe@example.net", ""),  # a domain of ours
        (STRANGER, "joe@example.net", "joe@example.net"),
    ],
)
def test_all_other_senders_stay(senders, sender, original, login, tmp_path):
    assert sender_of(senders, sender, original, login=login) == sender
    assert not os.listdir(tmp_path)


def test_the_configuration_can_name_the_domain_of_these_addresses(tmp_path, directory, store):
    text = f"""
hostname: mail.example.net
postmaster: postmaster@example.net
state: {tmp_path}
outbound: {{srs: {{domain: example.com}}}}
"""
    settings = loader.read(text, f"{tmp_path}/postoffice.yaml", find_maker)
    executor = ImmediateExecutor()
    plugins = Plugins(str(tmp_path), [directory], store, [], [], executor)
    context = build_reception_context(settings, plugins, PolicyChain(), lambda: datetime.now(UTC))
    assert sender_of(context.forward_senders).endswith("=example.org=ann@example.com")


def test_a_sender_that_gets_too_long_becomes_the_null_sender(senders):
    assert sender_of(senders, f"{'a' * 60}@example.org") == ""


def test_secrets_of_the_file_sign_and_verify(senders, tmp_path, context, envelope):
    (tmp_path / "srs.secrets").write_text("new\nold\n")
    address = sender_of(senders)
    (tmp_path / "srs.secrets").write_text("newer\nnew\n")
    envelope.sender = None
    again = ForwardSenders(senders._path, senders._look_up, senders._now)
    assert str(again.returned_to(envelope, Address.parse(address))) == STRANGER


def test_secrets_that_cannot_be_read_are_a_failure_for_now(senders, tmp_path):
    (tmp_path / "srs.secrets").mkdir()
    with pytest.raises(TemporaryFailure, match=r"srs\.secrets"):
        sender_of(senders)


@pytest.fixture
def stranger(context, reception_context):
    return context.reception(SessionInfo("id", "smtp", None))


def test_a_bounce_goes_to_the_sender(senders, stranger, envelope):
    envelope.sender = None
    address = sender_of(senders)
    assert ask(stranger, envelope, address) is RECIPIENT_OK
    assert [(one.address, one.shown) for one in envelope.queued] == [(STRANGER, address)]


def test_a_bounce_to_somebody_who_is_ours_by_now_is_delivered(
    senders, stranger, envelope, directory
):
    address = sender_of(senders)
    finish(directory.add_domain("example.org"))
    finish(directory.add(STRANGER, None))
    envelope.sender = None
    assert ask(stranger, envelope, address) is RECIPIENT_OK
    assert [one.account.address for one in envelope.recipients] == [STRANGER]


def test_a_rewritten_address_takes_bounces_only(senders, stranger, envelope):
    assert ask(stranger, envelope, sender_of(senders)) is UNKNOWN_RECIPIENT


def test_a_forged_or_foreign_address_takes_nothing(senders, stranger, envelope, directory):
    envelope.sender = None
    right = sender_of(senders)
    finish(
        directory.set_domain(Domain("example.net", catch_all=(Address.parse("joe@example.net"),)))
    )
    for address in (right.replace("ann@", "bob@"), "SRS0=a@example.net", "SRS1+x=y@example.net"):
        assert ask(stranger, envelope, address) is UNKNOWN_RECIPIENT
    elsewhere = right.replace("@example.net", "@far.example")
    assert ask(stranger, envelope, elsewhere).code == 550
    assert not envelope.queued


def test_without_a_way_out_a_bounce_is_refused(senders, context, envelope):
    envelope.sender = None
    reception = replace(context, router=None).reception(SessionInfo("id", "smtp", None))
    assert ask(reception, envelope, sender_of(senders)).code == 550
