"""Whole sessions over a Maildir on the disk, foretold by a plain list, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.store import names
from postoffice.testing import cut, finish

LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"
TEXTS = [b"A: 1\r\n\r\none\r\n.dot\r\n..\r\n", b"A: 2\r\n\r\n", b"B: 3\r\n\r\n" + b"x\r\n" * 30_000]


@pytest.fixture
def office(office_on_disk):
    return office_on_disk


def post(office, text: bytes) -> None:
    """As it is, without trace fields."""
    joe = Recipient(Address.parse("joe@example.net"), Account("joe@example.net", "joe@example.net"))
    delivery = finish(office.store.begin(Envelope("x.1", Client(), recipients=[joe])))
    finish(delivery.write(text))
    finish(delivery.commit())


def texts(office) -> list[bytes]:
    """What lies in joe's maildrop, in its order."""
    return [path.read_bytes() for path in sorted((office.folder / "new").glob("*"), key=in_order)]


def in_order(path):
    return names.order_of(path.name, 0)


def uidls(office) -> list[bytes]:
    paths = sorted((office.folder / "new").glob("*"), key=in_order)
    return [names.uidl_of_file(path.name).encode() for path in paths]


def fill(office, wanted: list[bytes]) -> None:
    for path in (office.folder / "new").glob("*"):
        path.unlink()
    for text in wanted:
        post(office, text)


class Plain:
    """A maildrop that is a list, and what is said of it."""

    def __init__(self, texts: list[bytes], uidls: list[bytes]) -> None:
        self.texts, self.uidls = texts, uidls
        self.deleted: set[int] = set()
        self.open = True

    @property
    def left(self) -> list[int]:
        return [n for n in range(1, len(self.texts) + 1) if n not in self.deleted]

    def text(self, number: int) -> bytes:
        return self.texts[number - 1]

    def totals(self) -> tuple[int, int]:
        return len(self.left), sum(len(self.text(number)) for number in self.left)

    def reply(self, line: bytes) -> tuple[bytes, bytes | None]:
        """How the status line begins, and what follows it, if it is a long reply."""
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        words = [int(word) for word in rest.split()] if rest.replace(b" ", b"").isdigit() else []
        if verb in self.PLAIN and not rest:
            return self.PLAIN[verb](self)
        wanted = {b"TOP": 2}.get(verb, 1)
        if verb not in self.NUMBERED or len(words) != wanted or words[0] not in self.left:
            return b"-ERR", None
        return self.NUMBERED[verb](self, *words)

    def _quit(self):
        self.open = False
        return b"+OK %d deleted" % len(self.deleted), None

    def _rset(self):
        self.deleted.clear()
        return b"+OK", None

    def _list(self):
        lines = [b"%d %d\r\n" % (number, len(self.text(number))) for number in self.left]
        return b"+OK %d messages (%d octets)" % self.totals(), b"".join(lines)

    def _uidl(self):
        lines = [b"%d %b\r\n" % (number, self.uidls[number - 1]) for number in self.left]
        return b"+OK", b"".join(lines)

    def _dele(self, number):
        self.deleted.add(number)
        return b"+OK", None

    def _top(self, number, lines):
        head, _, body = self.text(number).partition(b"\r\n\r\n")
        return b"+OK", head + b"\r\n\r\n" + b"".join(body.splitlines(keepends=True)[:lines])

    PLAIN = {
        b"NOOP": lambda self: (b"+OK", None),
        b"STAT": lambda self: (b"+OK %d %d\r\n" % self.totals(), None),
        b"RSET": _rset,
        b"QUIT": _quit,
        b"LIST": _list,
        b"UIDL": _uidl,
    }
    NUMBERED = {
        b"LIST": lambda self, n: (b"+OK %d %d\r\n" % (n, len(self.text(n))), None),
        b"UIDL": lambda self, n: (b"+OK %d %b\r\n" % (n, self.uidls[n - 1]), None),
        b"RETR": lambda self, n: (b"+OK %d octets" % len(self.text(n)), self.text(n)),
        b"DELE": _dele,
        b"TOP": _top,
    }


def read_reply(said: bytes, beginning: bytes, body: bytes | None) -> bytes:
    """Take this reply off what was said; the rest."""
    assert said.startswith(beginning)
    _, _, said = said.partition(b"\r\n")
    if body is None:
        return said
    stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    assert said.startswith(stuffed)
    return said[len(stuffed) :]


NUMBER = st.sampled_from([b"1", b"2", b"3", b"4", b"0", b"99999999999", b"x", b""])
LINES = st.sampled_from([b"0", b"1", b"2", b"99999", b"x", b""])
COMMANDS = st.one_of(
    st.sampled_from([b"STAT", b"LIST", b"UIDL", b"RSET", b"NOOP", b"DELE 1", b"DELE 2", b"QUIT"]),
    st.builds(b"%b %b".__mod__, st.tuples(st.sampled_from(
        [b"LIST", b"uidl", b"RETR", b"DELE", b"Dele", b"STAT", b"LAST"]), NUMBER)),
    st.builds(b"TOP %b %b".__mod__, st.tuples(NUMBER, LINES)),
)  # fmt: skip
#: What comes before a session, what is said in it, and where that is cut.
SESSION = st.tuples(
    st.lists(st.sampled_from(TEXTS), max_size=2),
    st.lists(COMMANDS, max_size=15),
    st.lists(st.integers(0, 1000), max_size=8),
)


def played(office, commands: list[bytes], places: list[int]) -> bytes:
    """All that is heard in a session, whose octets come in pieces; in the end the link is lost."""
    octets = LOGIN + b"".join(command + b"\r\n" for command in commands)
    return talk(office, cut(octets, places))


def talk(office, pieces: list[bytes]) -> bytes:
    client = office.client("pop3")
    said = client.hear()
    for piece in pieces:
        more = client.say(piece)
        while more:
            said += more
            client.connection.resumeProducing()  # it takes what it is sent
            office.clock.advance(0)
            more = client.hear()
    client.leave()
    return said


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(SESSION, min_size=1, max_size=3))
def test_a_plain_list_and_live_sessions_agree(office, sessions):
    fill(office, kept := [])
    for arrived, commands, places in sessions:
        for text in arrived:
            post(office, text)
        kept += arrived
        plain = Plain(list(kept), uidls(office))
        said = played(office, commands, places)
        for beginning in (b"+OK", b"+OK", b"+OK %d messages (%d octets)" % plain.totals()):
            said = read_reply(said, beginning, None)
        for command in commands:
            if plain.open:
                said = read_reply(said, *plain.reply(command))
        assert said == b""
        if not plain.open:
            kept = [plain.text(number) for number in plain.left]
        assert texts(office) == kept


def test_a_link_cut_at_any_octet_removes_nothing_without_quit(office):
    session = LOGIN + b"DELE 1\r\nRETR 3\r\nDELE 3\r\nTOP 2 0\r\nQUIT\r\n"
    fill(office, TEXTS)
    for place in range(len(session)):
        talk(office, [session[:place]])
        assert texts(office) == TEXTS, session[:place]
    talk(office, [session])
    assert texts(office) == [TEXTS[1]]
