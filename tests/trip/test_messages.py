"""Real messages, posted and collected over real sockets by clients that others wrote."""

from __future__ import annotations

import poplib
import random
import smtplib
import socket
import subprocess
import threading
import unicodedata
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from postoffice.protocol.downgrade import Downgrader

poplib._MAXLINE = 1 << 20  # real mail has longer lines than poplib believes

#: Messages of one maildrop: more than any answer or batch has at once.
MANY = 4000


def in_crlf(octets: bytes) -> bytes:
    """With the line ends that mail has on the wire, the last one included."""
    octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def generated() -> dict[str, bytes]:
    """Messages of the kinds that are found in the wild."""
    draw = random.Random(4)
    head = b"From: a@example.org\nTo: joe@example.net\nSubject: "
    base64 = b"\n".join(b"QUJD" * 19 for _ in range(200))
    return {
        "plain": head + b"hello\n\nHow are you?\n",
        "no final line end": head + b"x\n\nthe end",
        "header only": head + b"x\n",
        "no header": b"\nonly a body\n",
        "one dot": head + b"x\n\n.\n..\n...\n.x\nend\n.\n",
        "dot first": b".Subject: x\n\n.\n",
        "empty lines": head + b"x\n" + b"\n" * 500,
        "latin-1": head + "grüße\n\nschöne Grüße\n".encode("latin-1"),
        "utf-8": head + "grüße\n\nдобрый день, 今日は\n".encode(),
        "other characters": head + b"\x1b$B$3$s\x1b(B\n\n" + bytes(range(128, 256)) + b"\n",
        "NUL and controls": head + b"x\n\n\x00\x01\x02\x0b\x0c\x1c\x85 end\n",
        "long lines": head + b"x\n\n" + b"y" * 60_000 + b"\n" + b"z" * 998 + b"\n",
        "long header": b"Subject: " + b" word" * 4000 + b"\n\nx\n",
        "folded": b"Subject: one\n two\n\tthree\n" + head + b"x\n\nx\n",
        "many fields": b"".join(b"X-%d: y\n" % n for n in range(5000)) + b"\nx\n",
        "many addresses": b"To: " + b"a@example.org,\n " * 2000 + b"b@example.org\n\nx\n",
        "multipart": head
        + b'x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
        + b"--b\n\ntext\n--b\nContent-Transfer-Encoding: base64\n\n"
        + base64
        + b"\n--b--\n",
        "broken MIME": head + b"x\nContent-Type: multipart/mixed; boundary=\n\n--\n----\n",
        "mixed line ends": head.replace(b"\n", b"\r\n") + b"x\r\n\none\rtwo\nthree\r\n",
        "trailing blanks": head + b"x   \n\t\n \n  end  \n",
        "any octets": head + b"x\n\n" + draw.randbytes(20_000) + b"\n",
        "loop, nearly": b"Received: by x\n" * 98 + head + b"x\n\nReceived: x\n" * 5,
    }


def pytest_generate_tests(metafunc):
    if "message" in metafunc.fixturenames:
        folder = metafunc.config.getoption("corpus")
        if folder:
            messages = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.eml"))}
            assert messages, f"--corpus {folder}: no *.eml there"
        else:
            messages = generated()
        metafunc.parametrize("message", messages.values(), ids=messages)


def collect_with_poplib(office, account, *, utf8: bool = True) -> list[tuple[int, bytes]]:
    """What LIST says of each message, and what RETR gives."""
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    if utf8:
        client.utf8()
    client.user(account.address)
    client.pass_(account.password)
    found = []
    for line in client.list()[1]:
        number, size = map(int, line.split())
        _, lines, octets = client.retr(number)
        text = b"".join(line + b"\r\n" for line in lines)
        assert octets == size
        found.append((size, text))
    client.quit()
    return found


def collect_with_curl(office, account, number: int = 1) -> bytes:
    return subprocess.run(
        ["curl", "-sS", "--user", f"{account.address}:{account.password}"]
        + [f"pop3://127.0.0.1:{office.pop3}/{number}"],
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    ).stdout


def downgraded(text: bytes) -> bytes:
    """For clients that know no UTF8."""
    downgrader = Downgrader()
    return downgrader.feed(text) + downgrader.end()


def behind_the_trace(text: bytes) -> bytes:
    """What stands behind the fields that the post office added."""
    lines = text.split(b"\r\n")
    assert lines[0] == b"Return-Path: <a@example.org>"
    assert lines[1].startswith(b"Received: from ")
    count = 2
    while lines[count].startswith(b"\t"):
        count += 1
    return b"\r\n".join(lines[count:])


def test_a_message_comes_out_as_it_went_in(message, office, tmp_path):
    expected = in_crlf(message)
    account = office.new_account()

    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.sendmail("a@example.org", [account.address], expected)
    path = tmp_path / "message"
    path.write_bytes(expected)
    subprocess.run(
        ["curl", "-sS", "--mail-from", "a@example.org", "--mail-rcpt", account.address]
        + ["--upload-file", str(path), f"smtp://127.0.0.1:{office.smtp}/curl.example.org"],
        check=True,
        timeout=60,
    )

    collected = collect_with_poplib(office, account)
    assert [behind_the_trace(text) for _, text in collected] == [expected, expected]
    assert [size for size, _ in collected] == [len(text) for _, text in collected]
    for number, (_, text) in enumerate(collected, 1):
        assert collect_with_curl(office, account, number) == downgraded(text)


def test_international_mail_for_those_who_know_it_and_those_who_do_not(office):
    """RFC 6531 in, RFC 6856 and RFC 6857 out: sizes are right for either."""
    account = office.account("jörg@xn--r8jz45g.example", "süß und geheim")
    account = replace(account, address="jörg@例え.example")
    message = EmailMessage(policy=policy.SMTPUTF8)
    message["From"] = "Åse <åse@example.org>"
    message["To"] = f"Jörg <{account.address}>"
    message["Subject"] = "Grüße"
    message.set_content("schöne Grüße\n")
    message.add_attachment("x", filename="grüße.txt")
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.send_message(message, "åse@example.org", [account.address])

    for password in (account.password, unicodedata.normalize("NFD", account.password)):
        [(size, text)] = collect_with_poplib(office, replace(account, password=password))
        assert len(text) == size
        assert "\r\nSubject: Grüße\r\n".encode() in text
    [(size, other)] = collect_with_poplib(office, account, utf8=False)
    assert (len(other), other) == (size, downgraded(text))
    head, _, body = other.partition(b"\r\n\r\n")
    assert b"\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n" in head
    assert "schöne Grüße\r\n".encode() in body or b"c2Now7Zu" in body
    read = message_from_bytes(other, policy=policy.default)
    assert read["Subject"] == "Grüße"
    assert "\r\nFrom: Åse <åse@example.org>\r\n".encode() in head  # it has no form in ASCII
    assert [part.get_filename() for part in read.iter_attachments()] == ["grüße.txt"]

    with socket.create_connection(("127.0.0.1", office.pop3), timeout=30) as link:
        replies = link.makefile("rb")
        link.sendall(b"LANG ja\r\nSTAT\r\nQUIT\r\n")
        said = replies.read().decode().splitlines()
    assert said[1].startswith("+OK ja ")
    assert said[2] == "-ERR この状態では使えません"


def post_many(office, account, numbers) -> None:
    """Post small messages in one session, each in one write."""
    with socket.create_connection(("127.0.0.1", office.smtp), timeout=60) as link:
        replies = link.makefile("rb")
        link.sendall(b"HELO many.example.org\r\n")
        assert [replies.readline()[:3] for _ in range(2)] == [b"220", b"250"]
        for number in numbers:
            link.sendall(
                b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n"
                b"Subject: %d\r\n\r\n%s\r\n.\r\n"
                % (account.address.encode(), number, b"x" * (number % 500))
            )
            assert [replies.readline()[:3] for _ in range(4)] == [b"250", b"250", b"354", b"250"]


def test_thousands_of_messages_in_one_maildrop(office):
    account = office.new_account()
    posting = [
        threading.Thread(target=post_many, args=(office, account, range(start, MANY, 16)))
        for start in range(16)
    ]
    for thread in posting:
        thread.start()
    for thread in posting:
        thread.join()

    client = poplib.POP3("127.0.0.1", office.pop3, timeout=60)
    client.user(account.address)
    client.pass_(account.password)
    count, octets = client.stat()
    sizes = [int(line.split()[1]) for line in client.list()[1]]
    uidls = [line.split()[1] for line in client.uidl()[1]]
    assert count == len(sizes) == len(set(uidls)) == MANY
    assert octets == sum(sizes)
    seen = set()
    client.sock.sendall(b"".join(b"RETR %d\r\n" % n for n in range(1, MANY + 1)))
    for size in sizes:
        assert client._getresp().startswith(b"+OK")
        text = b""
        while (line := client.file.readline()) != b".\r\n":
            text += line
        assert len(text) == size
        head, _, body = text.partition(b"\r\n\r\n")
        number = int(head.rpartition(b"Subject: ")[2])
        assert body == b"x" * (number % 500) + b"\r\n"
        seen.add(number)
    assert seen == set(range(MANY))
    client.sock.sendall(b"".join(b"DELE %d\r\n" % n for n in range(1, MANY + 1)))
    for _ in sizes:
        assert client._getresp().startswith(b"+OK")
    assert client.quit() == b"+OK %d deleted, goodbye" % MANY
    assert collect_with_poplib(office, account) == []


def memory_of(pid: int) -> int:
    """The most that a process ever held, in octets."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_message_of_a_hundred_megabytes(roomy_office, tmp_path):
    account = roomy_office.new_account()
    collect_with_poplib(roomy_office, account)  # what is imported and hashed once is there
    before = memory_of(roomy_office.pid)
    path = tmp_path / "large"
    line = b"0123456789abcdef" * 4 + b"\r\n"
    text = b"Subject: large\r\n\r\n" + line * (100_000_000 // len(line))
    path.write_bytes(text)
    subprocess.run(
        ["curl", "-sS", "--mail-from", "a@example.org", "--mail-rcpt", account.address]
        + ["--upload-file", str(path), f"smtp://127.0.0.1:{roomy_office.smtp}"],
        check=True,
        timeout=120,
    )
    collected = collect_with_curl(roomy_office, account)
    assert behind_the_trace(collected) == text
    grown = memory_of(roomy_office.pid) - before
    assert grown < 8 << 20, f"memory grew by {grown >> 10} KiB"
