"""An account that sends too much is stopped, in a real office, and somebody is told."""

from __future__ import annotations

import json
import smtplib

import pytest

from tests.trip.conftest import NEVER

OUTBOUND = """outbound:
  routes: [{to: [bad.example], via: refuse, words: Not there}, {via: "smtp:127.0.0.1:1"}]
  limits: {recipients: [2/h], exceptions: [{accounts: [news@example.net], recipients: [9/h]}]}
"""


def submit(office, account, *to):
    with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
        client.login(account.address, account.password)
        text = f"From: {account.address}\r\nSubject: x\r\n\r\nhello\r\n"
        return client.sendmail(account.address, list(to), text)


def test_what_is_over_a_limit_is_held_also_after_a_restart(start, written, command):
    written(OUTBOUND)
    office = start().open()
    ann = office.account("ann@example.net", office.PASSWORD)
    submit(office, ann, "a@example.com", "b@example.com")
    submit(office, ann, "c@example.com")
    office.wait_for(r" sending-stopped account=ann@example\.net ")
    office.wait_for(r" sending-told account=ann@example\.net .*outcome=over")
    [found] = office.collect(ann)
    assert b"\r\nSubject: You have reached a limit for sending mail\r\n" in found
    office.stop()
    again = start().open()
    submit(again, ann, "d@example.com")
    again.wait_for(r" sending-stopped account=ann@example\.net ")
    waiting = json.loads(command("queue", "list", "--json").stdout)["messages"]
    assert {"c@example.com", "d@example.com"} == {
        one for message in waiting if message["state"] == "held" for one in message["recipients"]
    }
    again.check()


def test_others_may_send_more_and_hear_the_words_of_a_route(start, written):
    written(OUTBOUND)
    office = start().open()
    news = office.account("news@example.net", office.PASSWORD)
    submit(office, news, *(f"{n}@example.com" for n in range(9)))
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        submit(office, news, "x@bad.example")
    assert caught.value.recipients["x@bad.example"] == (550, b"5.7.1 Not there")
    submit(office, news, "one-more@example.com")
    found = office.wait_for(r" sending-stopped account=news@example\.net .*")
    assert "9 recipients in an hour" in found[0]
