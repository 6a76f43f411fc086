"""Any replies, cut anywhere: each recipient has a reply in the end, and no yes is made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postoffice.smtp.client_states import CLOSED
from tests.smtp.client_peers import EHLO, Client, Peer, message, play

WRONG = [
    *(b"550 5.1.1 No\r\n", b"450 4.2.1 Later\r\n", b"452 4.5.3 Too many\r\n", b"421 Bye\r\n"),
    *(b"354 Go on\r\n", b"250 Yes\r\n421 Bye\r\n", b"250-one\n250 two\n", b"", b"25", b"hello\r\n"),
    *(b"250 Yes\r\n250 And yes\r\n", b"503 5.5.1 What?\r\n", b"552 5.5.3 Too many\r\n", b"250-x"),
    *(b"554 \xff\x00\r\n", b"220 Yes\r\n", b"334 eA==\r\n", b"235 Yes\r\n", b"221 Bye\r\n"),
]
#: Where a server says two replies at once, or a half one, they may be taken for other commands'.
MISLEADING = {b"250 Yes\r\n250 And yes\r\n", b"250-x", b"25", b""}
ANSWERS = st.lists(st.one_of(st.none(), st.none(), st.sampled_from(WRONG)), max_size=25)
OFFERS = st.sampled_from(
    [
        EHLO,
        EHLO,
        b"250 mx.example.org\r\n",
        b"250-x\r\n250-LIMITS RCPTMAX=2 MAILMAX=2\r\n250 PIPELINING\r\n",
        b"250-x\r\n250-STARTTLS\r\n250 PIPELINING\r\n",
        b"250-x\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n250 PIPELINING\r\n",
    ]
)
TEXTS = st.one_of(st.sampled_from([b"", b".", b"a\r\n.\r\nb", b"x\r\n"]), st.binary(max_size=30))
NAMES = [["a", "b", "c"], ["a"], ["jö", "b"]]


def begun(lmtp, login, text):
    """A client with three messages."""
    waiting = [message(*(f"{name}@example.org" for name in names)) for names in NAMES]
    how = {"login": "joe", "password": "x", "level": "none"} if login else {}
    return Client(*waiting, text=text, piece=3, lmtp=lmtp, **how)


def check(client, peer, answers):
    """What must hold at the end, whatever the peer has said."""
    for names, result in zip(NAMES, client.results, strict=False):
        assert len(result.replies) == len(names)
        assert all(one.text.isprintable() for one in result.replies)
        assert all(not result.replies[n].sent for n in result.postponed)
    if client.session.state == CLOSED:
        assert client.session.failed is not None
    if not MISLEADING.intersection(answers):
        check_yes(client, peer)


def check_yes(client, peer):
    """What we call sent is what the server has taken."""
    sent = [
        b"RCPT TO:<%b@example.org>" % name.encode()
        for names, result in zip(NAMES, client.results, strict=False)
        for name, one in zip(names, result.replies, strict=True)
        if one.sent
    ]
    taken = [command for command, _ in peer.taken]
    assert all(sent.count(one) <= taken.count(one) for one in sent)
    if all(result.usable for result in client.results):
        assert sent == taken


@given(ANSWERS, OFFERS, st.booleans(), st.booleans(), TEXTS)
def test_any_server_cut_anywhere_means_the_same(answers, ehlo, lmtp, login, text):
    ends = []
    for size in (None, 1, 5):
        peer = Peer(answers, ehlo=ehlo, lmtp=lmtp)
        client = play(begun(lmtp, login, text), peer, size)
        check(client, peer, answers)
        ends.append((client.said, client.results, client.session.failed, peer.taken))
    assert ends[0] == ends[1] == ends[2]


@given(ANSWERS, OFFERS, st.booleans(), st.booleans(), TEXTS)
def test_a_client_that_goes_on_behind_every_octet_makes_nothing_up(
    answers, ehlo, lmtp, login, text
):
    peer = Peer(answers, ehlo=ehlo, lmtp=lmtp)
    check(play(begun(lmtp, login, text), peer, 1, acting=True), peer, answers)


@given(TEXTS, st.integers(1, 9), st.booleans())
def test_the_text_arrives_as_it_is(text, piece, lmtp):
    peer = Peer(lmtp=lmtp)
    client = play(Client(message(), text=text, piece=piece, lmtp=lmtp), peer)
    ((_, arrived),) = peer.taken
    whole = text if text.endswith(b"\r\n") or not text else text + b"\r\n"
    assert (b"\r\n" + arrived).replace(b"\r\n..", b"\r\n.") == b"\r\n" + whole
    assert client.results[0].replies[0].sent


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets_are_no_more_than_a_failure(octets, size):
    client = Client(message())
    for n in range(0, len(octets), size):
        client.hear(octets[n : n + size])
    client.session.lost("The server was silent")
    client.act()
    assert not any(one.sent for result in client.results for one in result.replies)
