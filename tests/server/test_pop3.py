"""POP3 on a transport: the portal, the maildrop, and what a lost link costs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import md5
from hmac import new as hmac

import pytest
from twisted.internet.defer import Deferred

from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import MessageGone, TemporaryFailure
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.login_connection import LoginOptions
from postoffice.testing import finish

LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"


@pytest.fixture
def office(memory_office):
    for number in range(3):
        memory_office.post(b"Subject: %d\r\n\r\nx\r\n" % number)
    return memory_office


@pytest.fixture
def client(office):
    client = office.client("pop3")
    assert client.say(LOGIN).endswith(b"octets)\r\n")
    return client


def count(office) -> int:
    return finish(office.store.count("joe@example.net"))[0]


def test_a_second_session_is_kept_out_until_the_first_ends(office, client):
    other = office.client("pop3")
    assert b"-ERR [IN-USE]" in other.say(LOGIN)
    assert b"-ERR [IN-USE]" in other.say(LOGIN)
    client.leave()
    assert b"+OK 3 messages" in other.say(LOGIN)


def test_the_maildrop_is_free_when_quit_is_answered(office, client):
    assert client.say(b"QUIT\r\n") == b"+OK 0 deleted, goodbye\r\n"
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)


@pytest.mark.parametrize("how", ["lost", "half closed", "silent", "office closes"])
def test_nothing_is_removed_without_quit(office, client, how):
    client.say(b"DELE 1\r\nDELE 2\r\n")
    if how == "half closed":
        client.connection.readConnectionLost()
    elif how == "silent":
        office.clock.advance(599)
        assert not client.transport.disconnecting
        office.clock.advance(1)
        assert client.hear() == b""
        assert client.transport.disconnecting
    elif how == "office closes":
        Deferred.fromCoroutine(office.pop3.close(30))
        assert client.hear().startswith(b"-ERR [SYS/TEMP]")
    client.leave()
    assert count(office) == 3
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)


@pytest.mark.parametrize("place", range(len(LOGIN + b"DELE 1\r\nDELE 2\r\nQUIT\r\n") + 1))
def test_a_link_cut_at_any_octet_removes_all_or_nothing(office, place):
    session = LOGIN + b"DELE 1\r\nDELE 2\r\nQUIT\r\n"
    client = office.client("pop3")
    client.say(session[:place])
    client.leave()
    assert count(office) == (1 if place == len(session) else 3)


class Late:
    """A maildrop whose opening takes its time."""

    def __init__(self, maildrop, opening):
        self._maildrop = maildrop
        self._opening = opening
        self.released = 0

    async def open(self, login_delay=0):
        await self._opening
        return await self._maildrop.open(login_delay)

    def release(self):
        self.released += 1
        self._maildrop.release()


def test_a_client_that_goes_while_it_logs_in_leaves_no_lock(office, monkeypatch):
    late = Late(office.store.maildrop("joe@example.net"), Deferred())
    monkeypatch.setattr(office.store, "maildrop", lambda name: late)
    client = office.client("pop3")
    client.say(LOGIN + b"STAT\r\n")
    client.leave()
    assert late.released == 1
    monkeypatch.undo()
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)


def test_a_store_that_cannot_open_is_for_later(office, monkeypatch):
    class Broken(Late):
        async def open(self, login_delay=0):
            raise TemporaryFailure("disk on fire at /secret/path")

    broken = Broken(office.store.maildrop("joe@example.net"), None)
    monkeypatch.setattr(office.store, "maildrop", lambda name: broken)
    said = office.client("pop3").say(LOGIN)
    assert b"-ERR [SYS/TEMP] " in said
    assert b"secret" not in said
    assert broken.released == 1


def test_a_removal_that_fails_says_so_and_frees_the_maildrop(office, client, monkeypatch):
    async def fail(self, entries, session):
        raise TemporaryFailure("disk on fire")

    monkeypatch.setattr("postoffice.store.memory.MemoryMaildrop.remove", fail)
    assert client.say(b"DELE 1\r\nQUIT\r\n").splitlines()[1].startswith(b"-ERR [SYS/TEMP]")
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)


def test_a_text_that_breaks_off_breaks_the_link(office, client, monkeypatch):
    class Broken:
        closed = 0
        pieces = iter([b"Sub", b"ject"])

        async def read(self):
            for piece in self.pieces:
                return piece
            raise MessageGone("gone")

        def close(self):
            self.closed += 1

    text = Broken()

    async def fetch(self, entry):
        return text

    monkeypatch.setattr("postoffice.store.memory.MemoryMaildrop.fetch", fetch)
    said = client.say(b"RETR 1\r\nNOOP\r\n")
    assert not said.endswith(b"\r\n")
    assert client.transport.aborted
    client.leave()
    assert text.closed == 1


def test_a_client_that_does_not_read_its_mail_is_not_sent_more(office, client):
    office.post(b"x" * 5_000_000 + b"\r\n", "ann@example.net")
    ann = office.client("pop3")
    ann.say(b"USER ann@example.net\r\nPASS other\r\n")
    ann.connection.dataReceived(b"RETR 1\r\n" * 1000)
    for _ in range(2):
        assert len(ann.hear()) < 6_000_000
        assert ann.connection.session.unread > 7000
        ann.connection.resumeProducing()
    ann.leave()


@pytest.mark.parametrize(
    ("setting", "address", "taken"),
    [
        ("loopback", "127.0.0.1", True),
        ("loopback", "192.0.2.1", False),
        ("never", "127.0.0.1", False),
        ("always", "192.0.2.1", True),
    ],
)
def test_where_passwords_are_taken_in_clear(office, setting, address, taken):
    office.pop3.login_options = LoginOptions(("PLAIN", "LOGIN"), setting)
    client = office.client("pop3", address)
    assert (b"\r\nUSER\r\n" in client.say(b"CAPA\r\n")) is taken
    said = client.say(LOGIN)
    assert (b"+OK 3 messages" in said) is taken
    if not taken:
        assert said.count(b"-ERR [SYS/PERM]") == 2


def test_passwords_stay_out_of_the_log(office):
    from twisted.logger import formatEvent, globalLogPublisher

    lines = []
    globalLogPublisher.addObserver(watch := lambda event: lines.append(formatEvent(event)))
    client = office.client("pop3")
    client.say(b"USER joe@example.net\x1b[2J\r\nPASS hunter2 \r\n")
    client.say(b"USER joe\xff\nfake line\r\nPASS hunter2\r\n" + LOGIN)
    client.leave()
    globalLogPublisher.removeObserver(watch)
    log = "\n".join(lines)
    assert "joe@example.net" in log
    assert "hunter2" not in log
    assert "secret" not in log
    assert "\x1b" not in log


# -- how it got in ------------------------------------------------------------------


@pytest.fixture
def visits(office, monkeypatch):
    """The minds of all logins that were believed."""
    seen = []
    realm = office.pop3.portal.realm
    ask = realm.requestAvatar

    def watch(account, mind, *interfaces):
        seen.append(replace(mind))
        return ask(account, mind, *interfaces)

    monkeypatch.setattr(realm, "requestAvatar", watch)
    finish(office.directory.set_shared("joe@example.net", "shared"))
    office.pop3.login_options = LoginOptions(("PLAIN", "CRAM-MD5", "APOP"))
    office.pop3.listener_options = ListenerOptions("pop3s", certificates=Ready())
    return seen


class Ready:
    """Certificates that are there."""

    ready = True


PLAIN = b64encode(b"\0joe@example.net\0secret word")


@pytest.mark.parametrize("mechanism", ["USER", "PLAIN", "CRAM-MD5", "APOP"])
def test_a_login_tells_how_it_came(office, visits, logged, mechanism):
    client = office.client("pop3")
    greeting = client.hear()
    if mechanism == "USER":
        said = client.say(LOGIN)
    elif mechanism == "PLAIN":
        said = client.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
    elif mechanism == "APOP":
        digest = md5(greeting.split()[-1] + b"shared").hexdigest().encode()
        said = client.say(b"APOP joe@example.net " + digest + b"\r\n")
    else:
        challenge = b64decode(client.say(b"AUTH CRAM-MD5\r\n")[2:])
        digest = hmac(b"shared", challenge, "md5").hexdigest().encode()
        said = client.say(b64encode(b"joe@example.net " + digest) + b"\r\n")
    assert b"+OK 3 messages" in said
    (session_info,) = visits
    connection = client.connection
    assert session_info == SessionInfo(
        connection.id, "pop3s", Client("127.0.0.1", port=4000), mechanism=mechanism
    )
    client.leave()
    assert any(one.startswith(f"login id={connection.id} ") for one in logged)


def test_a_login_behind_stls_says_that_it_is_encrypted(office, visits, monkeypatch):
    client = office.client("pop3", "192.0.2.1")
    begun = []
    monkeypatch.setattr(client.transport, "startTLS", begun.append, raising=False)
    assert client.say(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"+OK postoffice")
    assert client.say(b"STLS\r\n") == b"+OK begin TLS\r\n"
    assert begun == [office.pop3.listener_options.certificates]
    monkeypatch.setattr(client.transport, "getHandle", lambda: None, raising=False)
    monkeypatch.setattr("postoffice.server.tls.describe", lambda connection: "TLSv1.3 X")
    monkeypatch.setattr("postoffice.server.tls.bindings", lambda connection: {"tls-exporter": b"x"})
    client.connection.handshakeCompleted()
    assert b"+OK 3 messages" in client.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
    (session_info,) = visits
    assert session_info.client == Client("192.0.2.1", encrypted=True, port=4000)
    assert (session_info.mechanism, session_info.tls) == ("PLAIN", "TLSv1.3 X")
    client.leave()


def test_octets_behind_stls_are_in_the_log(office, visits, logged):
    client = office.client("pop3", "192.0.2.1")
    said = client.say(b"STLS\r\n" + LOGIN + b"DELE 1\r\nQUIT\r\n")
    assert said.splitlines()[1:] == [b"-ERR no command may follow STLS before TLS has begun"]
    client.leave()
    assert not visits
    (line,) = [line for line in logged if "follow STLS" in line]
    assert "192.0.2.1" in line
    assert count(office) == 3


def test_a_client_that_leaves_during_the_check_has_not_logged_in(office, visits, monkeypatch):
    waiting = Deferred()
    (judge,) = set(office.pop3.portal.checkers.values())
    monkeypatch.setattr(judge, "requestAvatarId", lambda credentials: waiting)
    client = office.client("pop3")
    client.say(b"AUTH PLAIN " + PLAIN + b"\r\nDELE 1\r\nQUIT\r\n")
    client.leave()
    assert not visits
    monkeypatch.undo()
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)


def test_secrets_of_an_exchange_stay_out_of_the_log(office, visits, logged):
    client = office.client("pop3")
    client.say(b"AUTH PLAIN\r\n" + b64encode(b"\0joe@example.net\0hunter2") + b"\r\n")
    client.say(b"AUTH PLAIN " + PLAIN + b"\r\nQUIT\r\n")
    client.leave()
    log = "\n".join(logged)
    assert "login-refused " in log
    assert " user=joe@example.net" in log
    for secret in ("hunter2", "secret word", PLAIN.decode()):
        assert secret not in log


@pytest.mark.parametrize("wrong", [b"x\r\n", b"RETR 99\r\n", b"DELE\r\n", b"PASS x\r\n"])
def test_the_maildrop_is_free_as_soon_as_a_session_ends_for_its_errors(office, client, wrong):
    heard = client.say(b"DELE 1\r\n" + wrong * 21)
    assert heard.endswith(b"-ERR too many errors\r\n")
    other = office.client("pop3")  # and the first has not closed its side yet
    assert b"+OK 3 messages" in other.say(LOGIN)
    client.leave()
    assert b"+OK 3" in other.say(b"STAT\r\n")
