"""A whole daemon whose log is JSON, from its first line to its last."""

from __future__ import annotations

import json
import smtplib

TEXT = b"Message-ID: <5@example.org>\r\nSubject: x\r\n\r\nx\r\n"


def test_each_line_is_an_object_until_a_reload_says_text(start, written, command):
    written("log: {format: json}\n")
    office = start().open()
    office.account("postmaster@example.net", "a password")
    account = office.new_account()
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("ann@example.org", [account.address], TEXT)
    office.wait_for('"session-ended"')
    objects = [json.loads(line) for line in office.out]
    assert objects[0]["message"].startswith("twistd ")
    assert objects[0]["program"] == "twisted"
    [taken] = [one for one in objects if one.get("event") == "message-taken"]
    assert taken["to"] == f"<{account.address}>"
    assert (taken["recipients"], taken["size"]) == (1, len(TEXT))
    assert taken["message_id"] == "<5@example.org>"
    written("log: {format: text, level: warn}\n")
    assert command("reload").returncode == 0
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("ann@example.org", [account.address], TEXT)
    before = len(office.out)
    written("log: {level: info}\n")
    assert command("reload").returncode == 0
    office.wait_for(r"#info\] configuration-reloaded")
    assert "message-taken" not in "".join(office.out[before:])
    office.check()
