"""Any octets, cut anywhere, get the same answers; and the rules agree with a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postoffice.pop3.questions import Enough, More
from postoffice.protocol.questions import Yield
from postoffice.testing import cut
from tests.pop3.drop import TEXTS, Drop

COMMANDS = [
    *(b"USER joe", b"PASS secret word", b"PASS no", b"STAT", b"LIST", b"UIDL", b"NOOP", b"RSET"),
    *(
        b"CAPA",
        b"QUIT",
        b"LIST 1",
        b"UIDL 2",
        b"RETR 1",
        b"RETR 3",
        b"RETR 9",
        b"DELE 1",
        b"DELE 2",
    ),
    *(b"DELE 4", b"TOP 1 1", b"TOP 2 0", b"nonsense", b"", b"RETR", b"a\rb", b"\xff"),
]
LINES = st.lists(
    st.tuples(st.sampled_from(COMMANDS), st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])).map(
        b"".join
    ),
    max_size=30,
)
TALK = st.tuples(
    st.sampled_from([b"", b"USER joe\r\nPASS secret word\r\n"]), LINES.map(b"".join)
).map(b"".join)
ANY = st.one_of(TALK, st.binary(max_size=200))
CUTS = st.lists(st.integers(0, 1000), max_size=10)


@given(ANY, CUTS, st.integers(1, 40))
def test_any_octets_cut_anywhere_get_the_same_answers(octets, cuts, piece):
    parts = cut(octets, cuts)
    one, two = Drop(), Drop(piece=piece)
    assert one.hear(octets) == b"".join(map(two.hear, parts))
    assert one.texts == two.texts
    assert [q for q in one.asked if not isinstance(q, (More, Enough, Yield))] == [
        q for q in two.asked if not isinstance(q, (More, Enough, Yield))
    ]


class Model:
    """RFC 1939 in a page: what a maildrop that is a plain list would say."""

    def __init__(self):
        self.texts = list(enumerate(TEXTS, 1))
        self.deleted = set()
        self.user = None
        self.inside = False
        self.closed = False

    def say(self, line: bytes) -> bytes:
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if b"\r" in line:
            return b"-ERR"
        verb, _, rest = line.partition(b" ")
        if verb == b"CAPA":
            return b"+OK many"
        if verb == b"QUIT":
            self.closed = True
            return b"+OK"
        if not self.inside:
            return self.before(verb, rest)
        left = [(n, text) for n, text in self.texts if n not in self.deleted]
        total = b"%d %d" % (len(left), sum(len(text) for _, text in left))
        number = int(rest.split()[0]) if rest.split() and rest.split()[0].isdigit() else None
        text = dict(left).get(number)
        match verb:
            case b"STAT":
                return b"+OK " + total
            case b"NOOP":
                return b"+OK"
            case b"RSET":
                self.deleted.clear()
                return b"+OK"
            case b"LIST" | b"UIDL" if not rest:
                show = (lambda n, t: len(t)) if verb == b"LIST" else (lambda n, t: f"u{n}")
                lines = [f"{n} {show(n, t)}\r\n".encode() for n, t in left]
                return b"+OK many" + b"".join(lines)
            case b"LIST" | b"UIDL" | b"RETR" | b"DELE" | b"TOP" if text is None:
                return b"-ERR"
            case b"LIST":
                return b"+OK %d %d" % (number, len(text))
            case b"UIDL":
                return b"+OK %d u%d" % (number, number)
            case b"DELE":
                self.deleted.add(number)
                return b"+OK"
            case b"RETR":
                return b"+OK many" + text
            case b"TOP":
                head, _, body = text.partition(b"\r\n\r\n")
                lines = body.splitlines(keepends=True)[: int(rest.split()[1])]
                return b"+OK many" + head + b"\r\n\r\n" + b"".join(lines)
        return b"-ERR"

    def before(self, verb, rest):
        if verb == b"USER" and rest:
            self.user = rest
            return b"+OK"
        if verb == b"PASS" and self.user:
            self.inside = (self.user, rest) == (b"joe", b"secret word")
            self.user = None
            return b"+OK" if self.inside else b"-ERR"
        return b"-ERR"


@given(st.booleans(), LINES)
def test_the_session_agrees_with_a_plain_list(inside, lines):
    drop, model = Drop(), Model()
    if inside:
        lines = [b"USER joe\r\n", b"PASS secret word\r\n", *lines]
    for line in lines:
        said = drop.hear(line)
        if model.closed or (drop.session.closed and said.startswith(b"-ERR too many")):
            break
        expected = model.say(line)
        status, _, rest = said.partition(b"\r\n")
        if expected.startswith(b"+OK many"):
            assert status.startswith(b"+OK")
            assert rest.endswith(b".\r\n")
            if not line.startswith(b"CAPA"):
                content = rest[:-3].replace(b"\r\n..", b"\r\n.")
                assert content == expected[8:]
        else:
            assert rest == b"", "one line, one answer"
            assert status.startswith(expected)
    if not model.closed:
        assert len(drop.texts) == 4, "nothing is removed without QUIT"
    elif model.inside:
        assert len(drop.texts) == 4 - len(model.deleted)
