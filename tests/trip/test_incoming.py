"""Texts that are coming in are bounded: over the wire."""

from __future__ import annotations

import smtplib

LINE = b"x" * 998 + b"\r\n"
LATER, TAKEN = (452, b"4.3.1"), (250, b"2.0.0")


def short(said: tuple[int, bytes]) -> tuple[int, bytes]:
    code, text = said
    return code, text.split()[0]


def begun(client, account) -> None:
    client.ehlo("pc")
    assert client.mail("a@example.org")[0] == 250
    assert client.rcpt(account.address)[0] == 250


def arrived(place) -> int:
    """Octets of texts that are on the disk and are not placed yet."""
    drafts = [*place.glob("state/maildrops/.journal/large/*"), *place.glob("**/tmp/*")]
    return sum(path.stat().st_size for path in drafts)


def test_unfinished_large_texts_do_not_fill_the_disk(start, written, tmp_path):
    written("store: {kind: maildir, incoming: 3 MiB}\n")
    office = start().open()
    account = office.new_account()
    with (
        smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as slow,
        smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as other,
    ):
        begun(slow, account)
        assert slow.docmd("DATA")[0] == 354
        slow.send(LINE * 2500)
        while arrived(tmp_path) < 2 << 20:
            pass
        begun(other, account)
        assert short(other.data(LINE * 1000)) == LATER
        begun(other, account)
        assert short(other.data(LINE * 100)) == TAKEN, "the session goes on, and small mail comes"
        slow.send(b".\r\n")
        assert short(slow.getreply()) == TAKEN
        begun(other, account)
        assert short(other.data(LINE * 2500)) == TAKEN
    assert len(office.collect(account)) >= 3
