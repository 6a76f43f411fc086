"""What users send to other domains is signed by the keys of their domain, and nothing else."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest
from twisted.logger import capturedLogs

from postoffice.model.address import Account
from postoffice.model.envelope import SessionInfo
from postoffice.model.route import Direct, Smarthost
from postoffice.outbound.routes import Router, Rule
from postoffice.server.dkim_keys import ACTIVE, OLD, WAITING, DKIMKeys
from postoffice.testing import finish
from tests.server.receiving import ask

JOE = "joe@example.net"
FAR = "ann@example.org"
NOW = 1_795_000_000.0


@pytest.fixture
def keys(tmp_path):
    keys = DKIMKeys(str(tmp_path))
    made = keys.add("example.net", NOW)
    keys.activate("example.net", [one.selector for one in made], NOW)
    return keys


@pytest.fixture
def context(reception_context, keys):
    return replace(reception_context, router=Router([Rule(Direct())]), dkim_keys=keys)


def sent(context, store, envelope, author=JOE, to=FAR):
    """What leaves, or comes into the maildrop, of a message that joe submits."""
    submission = context.submission(SessionInfo("id", "submission", None), Account(JOE, JOE))
    assert ask(submission, envelope, to).positive
    delivery = finish(submission.begin(envelope))
    finish(delivery.write(f"From: {author}\r\nSubject: x\r\n\r\nHello\r\n".encode()))
    assert finish(submission.judge(envelope, delivery)) is None
    finish(delivery.commit())
    names = finish(store.queue.names())
    if names:
        return finish(finish(store.queue.text(names[0])).read())
    maildrop = store.maildrop(to)
    (entry,) = finish(maildrop.open()).entries
    return finish(finish(maildrop.fetch(entry)).read())


def test_mail_that_leaves_is_signed_by_both_keys(context, store, envelope, keys):
    dkim = pytest.importorskip("dkim")
    text = sent(context, store, envelope)
    records = {}
    for one in keys.entries("example.net"):
        key = keys.key("example.net", one.selector)
        records[f"{key.name}."] = key.record.encode()
    for number in (0, 1):
        assert dkim.DKIM(text).verify(number, lambda name, timeout=5: records[name.decode()])
    assert text.count(b"DKIM-Signature:") == 2
    assert b"Return-Path" not in text


@pytest.mark.parametrize("author", [FAR, "joe@example.com", "postmaster@example.net", "nonsense"])
def test_nobody_signs_as_somebody_else(context, store, envelope, author):
    assert b"DKIM-Signature" not in sent(context, store, envelope, author)


@pytest.mark.parametrize(("foreign", "times"), [("off", 2), ("log", 2)])
def test_it_is_signed_whatever_is_done_about_foreign_authors(
    context, store, envelope, foreign, times
):
    context = replace(context, foreign_from=foreign)
    assert sent(context, store, envelope).count(b"DKIM-Signature:") == times


def test_where_all_may_send_as_anybody_it_is_signed_for_the_author(context, store, envelope):
    context = replace(context, any_sender=True)
    text = sent(context, store, envelope, "someone@example.net")
    assert text.count(b"d=example.net;") == 2


def test_mail_within_the_post_office_is_not_signed(context, store, envelope):
    assert b"DKIM-Signature" not in sent(context, store, envelope, to="postmaster@example.net")


def test_mail_for_a_smarthost_that_signs_itself_is_not_signed(context, store, envelope):
    smarthost = Smarthost(name="provider", host="smtp.provider.example", sign=False)
    context = replace(context, router=Router([Rule(smarthost)]))
    assert b"DKIM-Signature" not in sent(context, store, envelope)


def test_what_goes_to_others_too_is_signed(context):
    smarthost = Smarthost(name="provider", host="smtp.provider.example", sign=False)
    router = Router([Rule(smarthost, None, frozenset({"example.org"})), Rule(Direct())])
    assert not router.signs(JOE, [FAR])
    assert router.signs(JOE, [FAR, "x@example.edu"])


def test_keys_wait_sign_and_are_old(tmp_path):
    keys = DKIMKeys(str(tmp_path))
    first = keys.add("example.net", NOW)
    assert not keys.signing("example.net")
    keys.activate("example.net", [one.selector for one in first], NOW)
    assert [one.kind for one in keys.signing("example.net")] == ["rsa", "ed25519"]
    second = keys.add("example.net", NOW)
    keys.activate("example.net", [second[0].selector], NOW)
    assert [one.state for one in keys.entries("example.net")] == [OLD, ACTIVE, ACTIVE, WAITING]
    assert len({one.selector for one in keys.entries("example.net")}) == 4
    keys.remove("example.net", [first[0].selector])
    assert len(keys.entries("example.net")) == 3
    assert keys.domains() == ["example.net"]


def test_keys_are_for_the_daemon_alone(keys, tmp_path):
    folder = tmp_path / "dkim" / "example.net"
    modes = {stat.S_IMODE(os.stat(folder / name).st_mode) for name in os.listdir(folder)}
    assert modes == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["keys.json", "20261116-rsa.key"])
def test_keys_that_cannot_be_read_are_logged_and_mail_leaves(
    context, store, envelope, keys, tmp_path, name
):
    folder = tmp_path / "dkim" / "example.net"
    selector = keys.entries("example.net")[0].selector
    (folder / name.replace("20261116-rsa", selector)).write_text("{nonsense")
    context = replace(context, dkim_keys=DKIMKeys(str(tmp_path)))
    with capturedLogs() as logs:
        assert b"DKIM-Signature" not in sent(context, store, envelope)
    assert [one["event"] for one in logs if one.get("event") == "not-signed"] == ["not-signed"]
    logs.clear()
