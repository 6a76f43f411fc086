"""A real office is asked where a message is, from what its daemon wrote."""

from __future__ import annotations

import json
import poplib
import smtplib

import pytest

from tests.trip.conftest import CONFIGURATION, NEVER, Office

TEXT = b"Message-ID: <5@pc>\r\nFrom: <%s>\r\nSubject: x\r\n\r\nx\r\n"


@pytest.fixture(scope="module")
def there(tmp_path_factory, opened):
    """The office of another domain."""
    settings = CONFIGURATION.replace("example.net", "example.com")
    for office in opened(tmp_path_factory.mktemp("there"), settings):
        office.account("eve@example.com", office.PASSWORD)
        yield office


@pytest.mark.parametrize("form", ["text", "json"])
def test_it_is_followed_to_a_maildrop_another_office_and_a_letter(
    start, written, command, there, tmp_path, form
):
    outbound = f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]}}\n'
    written(f"{outbound}log: {{format: {form}}}\n")
    office: Office = start().open()
    office.account("postmaster@example.net", office.PASSWORD)
    ann, joe = office.new_account(), office.new_account()
    with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
        client.login(ann.address, ann.password)
        to = [joe.address, "eve@example.com", "nobody@example.com"]
        client.sendmail(ann.address, to, TEXT % ann.address.encode())
    office.wait_for("left-queue")
    for keep in (True, False):
        session = poplib.POP3("127.0.0.1", office.pop3, timeout=NEVER)
        session.user(joe.address)
        session.pass_(joe.password)
        session.retr(1)
        if not keep:
            session.dele(1)
        session.quit()
    [report] = office.collect(ann)
    assert b"nobody@example.com" in report
    office.check()
    (tmp_path / "twistd.log").write_text("".join(office.out))
    done = command("trace", "<5@pc>", "--json")
    [story] = json.loads(done.stdout)["stories"]
    assert [one["event"] for one in story["events"] if one["event"] != "session-ended"] == [
        "login", "message-taken", *story_of_queue(story), "messages-collected",
        "message-deleted", "message-deleted",
    ]  # fmt: skip
    where = {(one["letter"], one["recipient"]): one["state"] for one in story["where"]}
    assert where == {
        ("", joe.address): "deleted",
        ("", "eve@example.com"): "sent",
        ("", "nobody@example.com"): "bounced",
        ("failed", ann.address): "deleted",
    }
    assert "550 5.1.1" in command("trace", ann.address).stdout


def story_of_queue(story) -> list[str]:
    """What the queue did, in its own order: the attempts, then the letter, then the end."""
    told = [one["event"] for one in story["events"]]
    first, last = told.index("message-taken") + 1, told.index("left-queue") + 1
    assert {*told[first:last]} - {"session-ended"} == {
        "sent", "bounced", "letter-written", "left-queue"
    }  # fmt: skip
    return [event for event in told[first:last] if event != "session-ended"]
