"""The story of a message: from session to maildrop, queue, letter and client, in one order."""

from __future__ import annotations

import pytest

from postoffice.logs.sentences import sentence
from postoffice.logs.story import EVENTS, find
from postoffice.logs.whereabouts import STATES, whereabouts

LOG = """\
10:00:00 login id=18ec70cebb0 service=submission client=192.0.2.7 account=ann@example.net mechanism=PLAIN
10:05:01 recipient-followed id=18ec70cebb0.1 recipient=<team@example.net> to=joe@example.net,sue@example.net
10:05:02 refused id=18ec70cebb0.1 service=submission client=192.0.2.7 sender=<ann@example.net> recipient=<nobody@example.net> command="RCPT TO:<nobody@example.net>" reply="550 5.1.1 unknown"
10:05:03 message-taken id=18ec70cebb0.1 service=submission client=192.0.2.7 account=ann@example.net sender=<ann@example.net> recipients=4 queued=2 to=<team@example.net>,<bob@example.org>,<eve@example.com> message_id=<5f@pc> size=1830 uidl=u1.mail helo=pc
10:05:04 message-taken id=18ec70cebb0.2 service=submission client=192.0.2.7 account=ann@example.net sender=<ann@example.net> recipients=1 to=<max@example.net> message_id=<60@pc> size=10 uidl=u2.mail helo=pc
10:05:05 session-ended id=18ec70cebb0 service=submission client=192.0.2.7 account=ann@example.net taken=2
10:05:06 sent id=18ec70cebb0.1 to=bob@example.org via=mx.example.org[192.0.2.9] reply="250 2.0.0 ok" times=0.01
10:05:07 deferred id=18ec70cebb0.1 to=eve@example.com via=mx.example.com[192.0.2.8] reply="450 4.2.1 later" phase=rcpt
10:06:00 login id=18ec70cebb1 service=pop3 client=192.0.2.5 account=joe@example.net mechanism=USER
10:06:01 messages-collected id=18ec70cebb1 service=pop3 client=192.0.2.5 account=joe@example.net messages=1 uidls=u1.mail
10:06:01 session-ended id=18ec70cebb1 service=pop3 client=192.0.2.5 account=joe@example.net retrieved=1 deleted=0
10:07:00 message-deleted id=18ec70cebb2 service=pop3 client=192.0.2.6 account=sue@example.net device=phone uidl=u1.mail
11:00:00 bounced id=18ec70cebb0.1 to=eve@example.com via=mx.example.com[192.0.2.8] reply="550 5.1.1 no such user" phase=rcpt
11:00:01 letter-written id=18ec70cebb0.1 sender=<ann@example.net> outcome=failed to=eve@example.com uidl=u3.mail
11:00:02 left-queue id=18ec70cebb0.1 size=1830 age=3299
12:00:00 message-deleted id=18ec70cebb3 service=pop3 client=192.0.2.7 account=ann@example.net uidl=u3.mail
12:00:00 refused id=18ec70cebb4 service=smtp client=192.0.2.7 sender=<spam@example.org> command="MAIL FROM:<spam@example.org>" reply="550 no"
12:00:01 mail-removed maildrop=max@example.net messages=2 octets=20 uidls=u0.mail,u2.mail why=expired
"""  # noqa: E501


class Lines:
    """A log in memory, with what a daemon says besides."""

    name = "the log"

    def __init__(self, log: str) -> None:
        self.octets = [b"2026-11-29T09:00:00+0000 [postoffice#info] the post office is open"]
        for line in log.splitlines():
            time, event = line.split(" ", 1)
            self.octets.append(f"2026-11-29T{time}+0000 [postoffice#info] {event}".encode())

    def lines(self, since=0.0):
        yield from (line + b"\n" for line in self.octets)


def told(story) -> list[str]:
    return [line.event for line in story.lines]


def now(story) -> dict[str, str]:
    return {f"{one.letter} {one.recipient}".strip(): one.state for one in whereabouts(story)}


FIRST = [
    "login",
    "recipient-followed",
    "refused",
    "message-taken",
    "session-ended",
    "sent",
    "deferred",
    "messages-collected",
    "message-deleted",
    "bounced",
    "letter-written",
    "left-queue",
    "message-deleted",
]


@pytest.mark.parametrize(
    "wanted",
    ["18ec70cebb0.1", "<5f@pc>", "5f@pc", "u1.mail", "bob@example.org", "Team@Example.net"],
)
def test_the_whole_story_is_found_by_any_of_its_names(wanted):
    [story] = find(Lines(LOG), wanted).stories
    assert story.id == "18ec70cebb0.1"
    assert told(story) == FIRST
    assert now(story) == {
        "joe@example.net": "collected",
        "sue@example.net": "deleted",
        "bob@example.org": "sent",
        "eve@example.com": "bounced",
        "nobody@example.net": "refused",
        "failed ann@example.net": "deleted",  # the letter
    }
    of = {one.recipient: one for one in whereabouts(story)}
    assert of["bob@example.org"].via == "mx.example.org[192.0.2.9]"
    assert of["eve@example.com"].reply == "550 5.1.1 no such user"
    assert of["sue@example.net"].session == "18ec70cebb2"


def test_a_sender_has_all_messages_and_since_and_until_bound_them():
    found = find(Lines(LOG), "ann@example.net")
    assert [story.id for story in found.stories] == [
        "18ec70cebb0.1", "18ec70cebb0.2", "18ec70cebb3",
    ]  # fmt: skip
    at = find(Lines(LOG), "18ec70cebb0.1").stories[0].lines[3].time
    [story] = find(Lines(LOG), "ann@example.net", at + 1, at + 1).stories
    assert story.id == "18ec70cebb0.2"
    assert told(story) == ["login", "message-taken", "session-ended", "mail-removed"]
    assert now(story) == {"max@example.net": "removed"}


def test_a_session_has_all_its_messages():
    [story] = find(Lines(LOG), "18ec70cebb0").stories
    assert story.id == "18ec70cebb0"
    assert [event for event in told(story) if event == "message-taken"] == ["message-taken"] * 2
    [pop3] = find(Lines(LOG), "18ec70cebb1").stories
    assert told(pop3) == ["login", "messages-collected", "session-ended"]
    assert whereabouts(pop3) == []


def test_a_message_that_waits_and_one_that_nobody_fetched():
    lines = LOG.splitlines()
    [story] = find(Lines("\n".join(lines[:8])), "5f@pc").stories
    assert now(story) == {
        "joe@example.net": "maildrop",
        "sue@example.net": "maildrop",
        "bob@example.org": "sent",
        "eve@example.com": "queued",
        "nobody@example.net": "refused",
    }
    [story] = find(Lines("\n".join(lines[:4])), "5f@pc").stories
    assert now(story)["eve@example.com"] == "queued"


def test_mail_that_was_refused_is_found_by_its_sender():
    [story] = find(Lines(LOG), "spam@example.org").stories
    assert [sentence(line) for line in story.lines] == [
        'The sender spam@example.org was refused: "550 no".'
    ]


def test_sentences_tell_it():
    [story] = find(Lines(LOG), "5f@pc").stories
    said = [sentence(line) for line in story.lines]
    assert said[0] == (
        "ann@example.net logged in by submission from 192.0.2.7 (PLAIN, without TLS)."
    )
    assert said[3] == (
        "The message was accepted by submission from 192.0.2.7, which calls itself pc, which had "
        "logged in as ann@example.net: from ann@example.net to team@example.net, "
        "bob@example.org, eve@example.com, 1830 octets, Message-ID <5f@pc>; 2 of them wait in the "
        "queue to be sent."
    )
    assert said[5] == ('For bob@example.org: sent by mx.example.org[192.0.2.9]: "250 2.0.0 ok".')
    assert said[8].startswith("sue@example.net deleted the message by pop3 from 192.0.2.6 with ")


def test_a_name_does_not_hide_a_deletion():
    lines = LOG.replace("device=phone", 'device="x uidl=u9.mail id=1"')
    [story] = find(Lines(lines), "5f@pc").stories
    assert now(story)["sue@example.net"] == "deleted"


def test_there_are_bounds():
    many = "\n".join(
        f"10:00:00 message-taken id=18ec70cebb0.{n} sender=<a@b.example> to=<c@d.example>"
        for n in range(50)
    )
    found = find(Lines(many), "a@b.example", most=20)
    assert (len(found.stories), found.more) == (20, True)
    again = "10:00:00 deferred id=18ec70cebb0.1 to=c@d.example reply=no\n" * (EVENTS + 100)
    [story] = find(Lines(many + "\n" + again), "18ec70cebb0.1").stories
    assert (len(story.lines), story.more) == (EVENTS, True)
    assert find(Lines(LOG), "").stories == find(Lines(LOG), "nobody at all").stories == []


def test_every_state_has_words():
    used = {one for story in find(Lines(LOG), "ann@example.net").stories
            for one in now(story).values()}  # fmt: skip
    assert used <= set(STATES)
