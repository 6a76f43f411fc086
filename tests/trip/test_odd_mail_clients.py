"""A maildrop with every odd message that we know: each client gets all of them.

One message that cannot be had stops most clients for ever, and then any sender could
keep an owner from the mail behind it.  None of these clients asks for UTF8.
"""

from __future__ import annotations

import os
import poplib
import pty
import re
import select
import shutil
import smtplib
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

SECONDS = 120
#: One for each test of this module.
MAILDROPS = 12
#: Messages that made some server or client fail, beside those in tests/cases.
ODD = [
    b"",
    b"\r\n",
    b"\r\n\r\nonly a body\r\n",
    b"no header at all\r\n",
    b"Subject: no body",
    b"Subject: no empty line\r\nSubject: again\r\n",
    b" begins with a blank\r\n\ttab\r\n",
    b"From a@example.org  Sun Nov 29 02:00:00 2026\r\nSubject: of an mbox\r\n\r\nFrom here on\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
    b"Subject: NUL \x00\r\n\r\n\x00\x01\xff\r\n",
    b"Subject: \xf0\x9f\x93\xae\r\nTo: \xe5\xb1\xb1 <u@example.org>\r\n\r\n\xe5\xb1\xb1\r\n",
    b"Subject: \xcb\xf0\xe8\xea\r\nFrom: \xcf\xe5\xf2\xff <petja@example.org>\r\n\r\nKOI8-R\r\n",
    b"From: \x8fR\x93c <a@example.org>\r\nSubject: Shift_JIS \x83\\\r\n\r\n\x83\\\r\n",
    b"From: M\xfcller <a@example.org>\r\nSubject: Gr\xfc\xdfe\r\n\r\nLatin-1: \xfc\r\n",
    b"From: \xc3\xa9@example.org\r\nTo: \xc3\xa9: a@b, ;\r\nSubject: addresses\r\n\r\nx\r\n",
    b"To: " + b"<a@\xc3\xa9:" + b"b:" * 4000 + b">\r\nSubject: a long path\r\n\r\nx\r\n",
    b"Subject: " + "ä".encode() * 5000 + b"\r\n\r\nlong\r\n",
    b"Subject: a long line\r\n\r\n" + b"x" * 20_000 + b"\r\n",
    b"Subject: s\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nSubject: \xc3\xa4\r\n"
    b"\r\n\xc3\xa4\r\n--b--\r\n",
    b"Subject: t\r\nContent-Type: message/rfc822\r\n\r\nSubject: \xc3\xa4\r\n\r\n\xc3\xa4\r\n",
    b'Content-Type: a/b; name="\xc3\x9cbersicht"; x[y="z"\r\nSubject: parameters\r\n\r\nx\r\n',
    b"Subject: =?utf-8?q?=00=0D=0A?= =?x?y?z?=\r\nX:\r\n :\r\n\r\n\r\n",
    b": no name\r\n\xff\xfe: octets\r\nSubject : a blank\r\n\r\nx\r\n",
]
CASES = Path(__file__).parent.parent / "cases" / "pop3"


class Full(NamedTuple):
    """An account, and the numbers of the messages that wait for it."""

    address: str
    password: str
    port: int
    numbers: set[int]


def texts(corpus: str | None) -> list[bytes]:
    files = sorted(CASES.glob("*.eml")) + sorted(Path(corpus or "/nowhere").glob("*.eml"))
    lines = [path.read_bytes().splitlines() for path in files]
    return ODD + [b"\r\n".join(one) + b"\r\n" for one in lines]


@pytest.fixture(scope="module")
def filled(whole_office, pytestconfig) -> tuple[list, set[int]]:
    """Maildrops with all of it.  Each has a sender of its own, by which it is known again."""
    accounts = [whole_office.new_account() for _ in range(MAILDROPS)]
    messages = texts(pytestconfig.getoption("corpus"))
    with smtplib.SMTP("127.0.0.1", whole_office.smtp, "pc.example.org", timeout=30) as client:
        client.ehlo()
        for number, text in enumerate(messages):
            client.mail(f"odd-{number}-@example.org", ["BODY=8BITMIME"])
            for account in accounts:
                client.rcpt(account.address)
            code, said = client.data(text)
            assert code == 250, (number, said)
    return accounts, set(range(len(messages)))


@pytest.fixture
def full(whole_office, filled) -> Full:
    """One of these maildrops, for one test alone."""
    accounts, numbers = filled
    account = accounts.pop()
    return Full(account.address, account.password, whole_office.ports["pop3"], numbers)


def numbers_in(texts: list[bytes]) -> set[int]:
    """Which were got: their senders stand in Return-Path, which we put on top."""
    found = [re.search(rb"odd-(\d+)-@example\.org", text) for text in texts]
    return {int(match[1]) for match in found if match}


def run(folder: Path, *words: str, seconds: int = SECONDS) -> bytes:
    """What a program says that ends well."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
    own = {"HOME": str(folder), "FETCHMAILHOME": str(folder), "TERM": "xterm"}
    done = subprocess.run(
        words, capture_output=True, timeout=seconds, cwd=folder, env={**kept, **own}
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def needs(*programs: str) -> None:
    missing = [one for one in programs if not shutil.which(one)]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


def test_poplib_gets_all_and_each_has_its_size(full):
    client = poplib.POP3("127.0.0.1", full.port, timeout=SECONDS)
    client._MAXLINE = poplib._MAXLINE = 1_000_000
    client.user(full.address)
    client.pass_(full.password)
    got = []
    for line in client.list()[1]:
        number, size = map(int, line.split())
        text = b"".join(one + b"\r\n" for one in client.retr(number)[1])
        assert len(text) == size, text[:500]
        top = client.top(number, 0)[1]
        assert text.startswith(b"\r\n".join(top))
        client.dele(number)
        got.append(text)
    client.quit()
    assert numbers_in(got) == full.numbers


def test_curl_gets_all(full, tmp_path):
    needs("curl")
    login = ["--user", f"{full.address}:{full.password}", "--login-options", "AUTH=PLAIN"]
    url = f"pop3://127.0.0.1:{full.port}/[1-{len(full.numbers)}]"
    run(tmp_path, "curl", "-sS", *login, url, "-o", "#1.eml")
    assert numbers_in(files(tmp_path)) == full.numbers


def test_fetchmail_gets_all(full, tmp_path):
    """Told to take headers that hold no fields, too: by itself it leaves those on any server."""
    needs("fetchmail")
    (tmp_path / "out").mkdir()
    rc = tmp_path / "fetchmailrc"
    rc.write_text(
        f"poll 127.0.0.1 protocol POP3 service {full.port} auth password bad-header accept\n"
        f'  user "{full.address}" password "{full.password}" sslproto ""\n'
        f'  fetchall nokeep no rewrite mda "cat > {tmp_path}/out/$$"\n'
    )
    rc.chmod(0o600)
    run(tmp_path, "fetchmail", "--fetchmailrc", str(rc), "--nodetach", "--nosyslog")
    assert numbers_in(files(tmp_path / "out")) == full.numbers


def test_getmail_gets_all(full, tmp_path):
    """It starts a process for each message, and at times waits for ever for a lock of its own."""
    needs("getmail")
    (tmp_path / "out").mkdir()
    rc = tmp_path / "getmailrc"
    rc.write_text(
        f"[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {full.port}\n"
        f"username = {full.address}\npassword = {full.password}\n"
        "[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
        f'arguments = ("-c", "cat > {tmp_path}/out/$$")\n'
        "[options]\ndelete = true\nread_all = true\n"
    )
    rc.chmod(0o600)
    words = ("getmail", "--getmaildir", str(tmp_path), "--rcfile", "getmailrc")
    for _ in range(3):
        try:
            run(tmp_path, *words, seconds=SECONDS // 4)
            break
        except subprocess.TimeoutExpired:
            continue  # it has said no QUIT: all is there still
    else:
        pytest.fail("getmail hung three times")
    assert numbers_in(files(tmp_path / "out")) == full.numbers


@pytest.mark.parametrize("pipelining", ["on", "off"])
def test_mpop_gets_all(full, tmp_path, pipelining):
    needs("mpop")
    for name in ("cur", "new", "tmp"):
        (tmp_path / "out" / name).mkdir(parents=True)
    words = ["--host=127.0.0.1", f"--port={full.port}", f"--user={full.address}", "--tls=off"]
    words += [f"--passwordeval=echo '{full.password}'", "--auth=plain", "--keep=off"]
    words += [f"--delivery=maildir,{tmp_path}/out", f"--pipelining={pipelining}"]
    run(tmp_path, "mpop", *words)
    assert numbers_in(files(tmp_path / "out" / "new")) == full.numbers


def test_mutt_gets_all(full, tmp_path):
    needs("mutt")
    (tmp_path / "muttrc").write_text(
        f'set pop_host="pop://127.0.0.1:{full.port}" pop_delete=yes\n'
        f'set pop_user="{full.address}" pop_pass="{full.password}" pop_authenticators="user"\n'
        f'set mbox_type=mbox spoolfile="{tmp_path}/box" folder="{tmp_path}" record=""\n'
        "set ssl_starttls=no ssl_force_tls=no quit=yes wait_key=no beep=no\n"
        'set sleep_time=0\npush "<fetch-mail><quit>"\n'
    )
    (tmp_path / "box").touch()
    ours, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm"}
    process = subprocess.Popen(
        ["mutt", "-n", "-F", "muttrc"], stdin=its, stdout=its, stderr=its, cwd=tmp_path,
        env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    try:
        while select.select([ours], [], [], SECONDS)[0]:
            os.read(ours, 65536)
    except OSError:  # it has closed its side
        pass
    os.close(ours)
    process.terminate()
    process.wait(SECONDS)
    assert numbers_in(re.split(rb"\n(?=From )", (tmp_path / "box").read_bytes())) == full.numbers


RUBY = """
require "net/pop"
Net::POP3.start("127.0.0.1", ARGV[0].to_i, ARGV[1], ARGV[2]) do |pop|
  pop.each_mail { |mail| File.binwrite(mail.number.to_s, mail.pop); mail.delete }
end
"""
PERL = """
use Net::POP3;
my ($port, $user, $password) = @ARGV;
my $pop = Net::POP3->new("127.0.0.1", Port => $port, Timeout => 60) or die "no greeting";
my $count = $pop->login($user, $password) or die "no login";
for my $number (1 .. $count) {
  open(my $file, ">", $number) or die;
  $pop->get($number, $file) or die "no message $number";
  close($file);
  $pop->delete($number) or die;
}
$pop->quit;
"""
PHP = """<?php
[, $port, $user, $password] = $argv;
$box = imap_open("{127.0.0.1:$port/pop3/notls}INBOX", $user, $password) or die(1);
for ($number = 1; $number <= imap_num_msg($box); $number++) {
  $header = imap_fetchheader($box, $number);
  $body = imap_body($box, $number);
  if ($header === false || $body === false) exit(2);
  file_put_contents("$number.got", $header . $body);
  imap_delete($box, (string) $number);
}
imap_close($box, CL_EXPUNGE);
"""
JAVA = """
import java.io.*;
import javax.mail.*;

public class Collect {
  public static void main(String[] words) throws Exception {
    Store store = Session.getInstance(System.getProperties()).getStore("pop3");
    store.connect("127.0.0.1", Integer.parseInt(words[0]), words[1], words[2]);
    Folder inbox = store.getFolder("INBOX");
    inbox.open(Folder.READ_WRITE);
    for (Message message : inbox.getMessages()) {
      try (OutputStream file = new FileOutputStream(message.getMessageNumber() + ".got")) {
        message.writeTo(file);
      }
      message.setFlag(Flags.Flag.DELETED, true);
    }
    inbox.close(true);
    store.close();
  }
}
"""
NODE = """
const [port, user, password] = process.argv.slice(2);
const socket = require("net").connect(Number(port), "127.0.0.1");
const fs = require("fs");
let kept = Buffer.alloc(0), wanted = null;
function take() {
  const end = kept.indexOf(wanted.long && kept[0] === 43 ? "\\r\\n.\\r\\n" : "\\r\\n");
  if (end < 0) return;
  const length = wanted.long && kept[0] === 43 ? 5 : 2;
  const said = kept.subarray(0, end + length), {done} = wanted;
  kept = kept.subarray(end + length);
  wanted = null;
  if (said[0] !== 43) { console.error(said.toString()); process.exit(1); }
  done(said);
}
socket.on("data", (data) => { kept = Buffer.concat([kept, data]); if (wanted) take(); });
const hear = (long) => new Promise((done) => { wanted = {long, done}; take(); });
const ask = (line, long) => { socket.write(line + "\\r\\n"); return hear(long); };
(async () => {
  await hear(false);
  await ask("USER " + user);
  await ask("PASS " + password);
  const count = Number((await ask("STAT")).toString().split(" ")[1]);
  for (let number = 1; number <= count; number++) {
    fs.writeFileSync(number + ".got", await ask("RETR " + number, true));
    await ask("DELE " + number);
  }
  await ask("QUIT");
  socket.end();
})();
"""


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("collect.rb", RUBY, ["ruby"]),
        ("collect.pl", PERL, ["perl"]),
        ("collect.php", PHP, ["php"]),
        ("collect.js", NODE, ["node"]),
    ],
)
def test_languages_own_clients_get_all(full, tmp_path, name, source, words):
    needs(words[0])
    if words == ["php"] and b"imap" not in run(tmp_path, "php", "-m").split():
        pytest.skip("php has no imap extension")
    (tmp_path / "got").mkdir()
    (tmp_path / name).write_text(source)
    run(tmp_path / "got", *words, f"../{name}", str(full.port), full.address, full.password)
    assert numbers_in(files(tmp_path / "got")) == full.numbers


JAR = Path("/usr/share/java/javax.mail.jar")


def test_java_mail_gets_all(full, tmp_path):
    needs("java", "javac")
    if not JAR.exists():
        pytest.skip(f"{JAR} is not there: libmail-java is not installed")
    (tmp_path / "got").mkdir()
    (tmp_path / "Collect.java").write_text(JAVA)
    run(tmp_path, "javac", "-cp", str(JAR), "Collect.java")
    words = ["java", "-cp", f"{JAR}:{tmp_path}", "Collect"]
    run(tmp_path / "got", *words, str(full.port), full.address, full.password)
    assert numbers_in(files(tmp_path / "got")) == full.numbers
