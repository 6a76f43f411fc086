"""`postoffice maildrop compare`: an import is proved, at both ends or by its record."""

from __future__ import annotations

import json

import pytest

from postoffice.moving import patience
from tests.pop3_server import CUT, OldServer

ANN = "ann@example.net"


def text(n):
    return b"Subject: %d\r\n\r\n.dot %d\r\n" % (n, n)


def messages(*numbers):
    return [(f"u{n}", text(n)) for n in numbers]


@pytest.fixture
def old(run, ann):
    """A server with three messages, which are imported."""
    with OldServer(messages(1, 2, 3)) as old:
        run("maildrop", "import", ANN, old.url, "--password-stdin", text="secret")
        yield old


@pytest.fixture
def compare(ask, old):
    def compare(*words, status=0, against=None):
        words = ("--against", against or old.url, *words, "--password-stdin")
        said = one(ask("maildrop", "compare", ANN, *words, status=status, text="secret"))
        assert said["wrong"] + said["explained"] + said["new"] == len(said["differences"])
        return said

    return compare


def one(said):
    (found,) = said["maildrops"]
    assert found["error"] is None
    return found


def found(said):
    return {(one["kind"], one["what"], one["uidl"]) for one in said["differences"]}


def change(old, n, octets):
    """Another text at the old server."""
    old.messages[n - 1] = (f"u{n}", octets)


@pytest.mark.parametrize("words", [(), ("--full",)])
def test_all_is_the_same(compare, old, words):
    said = compare(*words)
    assert (said["there"], said["here"], said["same"], said["warnings"]) == (3, 3, 3, [])
    assert found(said) == set()
    assert old.removed == []


def test_a_user_need_not_wait_and_ours_needs_no_password(run, old):
    shown = run("maildrop", "compare", ANN, "--against", old.url, "--password-stdin", text="secret")
    assert "3 the same, 0 wrong" in shown.output
    assert "RETR" not in " ".join(old.heard[-8:])


def test_what_is_wrong(compare, old, ann):
    old.messages.insert(1, ("missed", text(9)))
    change(old, 1, text(8))
    old.messages[2], old.messages[3] = old.messages[3], old.messages[2]
    said = compare(status=1)
    assert found(said) == {
        ("wrong", "missing", "missed"),
        ("wrong", "header", "u1"),
        ("wrong", "order", "u2"),
    }
    assert said["same"] == 2


def test_another_text_is_seen_with_full(compare, old):
    change(old, 2, text(2).replace(b"dot", b"cot"))
    assert found(compare()) == set()
    assert found(compare("--full", status=1)) == {("wrong", "text", "u2")}


def test_another_uidl_is_wrong_though_the_message_is_here(compare, old, ann):
    old.messages.append(("other", text(7)))
    (ann / "new" / "1700000000.M1P1.host").write_bytes(text(7))
    said = compare(status=1)
    assert found(said) == {("wrong", "uidl", "other")}
    assert "1700000000.M1P1.host" in said["differences"][0]["text"]


def test_what_is_explained(compare, old, ann):
    del old.messages[2]  # its owner has deleted it there
    next(ann.glob("new/*,U=u1,*")).unlink()  # and this one here
    change(old, 2, b"Status: RO\r\n" + text(2))
    said = compare("--full")
    assert found(said) == {
        ("explained", "deleted", "u1"),
        ("explained", "gone", "u3"),
        ("explained", "header", "u2"),
        ("explained", "size", "u2"),
    }
    assert found(compare()) == found(said)


def test_a_server_that_counts_lf_or_has_a_bug_with_dots(compare, old):
    sizes = b"".join(b"%d %d\r\n" % (n, len(text(n)) - 3) for n in (1, 2, 3))
    change(old, 3, text(3).replace(b".dot", b"..dot"))
    old.fault = lambda _, line: b"+OK\r\n" + sizes + b".\r\n" if line == "LIST" else None
    said = compare("--full")
    assert {one[:2] for one in found(said)} == {("explained", "size"), ("explained", "text")}


def test_what_came_since(compare, old, ann):
    old.messages += messages(4)
    (ann / "new" / "1700000000.M1P1.host").write_bytes(text(7))
    assert found(compare()) == {("new", "there", "u4"), ("new", "here", "1700000000.M1P1.host")}


def test_a_server_that_refuses_top_is_compared_by_sizes(compare, old):
    old.fault = lambda _, line: b"-ERR no\r\n" if line.startswith("TOP") else None
    said = compare()
    assert "3 messages" in said["warnings"][0]
    assert said["same"] == 3


@pytest.mark.parametrize("fault", ["PASS secret", "LIST", "TOP 2 0"])
def test_a_server_that_cuts(run, old, fault):
    old.fault = lambda _, line: CUT if line == fault else None
    words = ("--against", old.url, "--password-stdin", "--patience", "0")
    shown = run("maildrop", "compare", ANN, *words, text="secret", status=1).output
    assert "closed the connection" in shown


def test_a_server_in_use_is_waited_for(compare, old):
    def fault(number, line):
        return b"-ERR [IN-USE] x\r\n" if number == 2 and line == "PASS secret" else None

    old.fault = fault
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(patience.WAITS, "IN-USE", 0.01)
        assert compare()["same"] == 3


def test_many_are_compared_and_a_fault_of_one_is_its_own(ask, run, old, ann, tmp_path):
    run("account", "add", "bob@example.net", "--generate")
    rows = [f"{ANN},{old.url},secret", f"bob@example.net,{old.url},secret"]
    rows += [f"bob@example.net,{old.url},a guess", f"nobody@example.net,{old.url},secret"]
    (tmp_path / "all.csv").write_text("\n".join(["address,source,password", *rows, ""]))
    done = ask("maildrop", "compare", "--from-csv", "all.csv", status=1)["maildrops"]
    assert [each["same"] for each in done] == [3, 0, 0, 0]
    assert [each["wrong"] for each in done] == [0, 3, 0, 0]
    assert "[AUTH] wrong" in done[2]["error"]
    assert "neither an account" in done[3]["error"]
    run("maildrop", "compare", ANN, "--from-csv", "all.csv", status=2)
    run("maildrop", "compare", ANN, status=2)


# -- with a record --------------------------------------------------------------------------------


def test_with_the_record_of_the_import(ask, run, old, ann, tmp_path):
    record = tmp_path / "record"
    record.write_bytes((ann / "postoffice.imported").read_bytes())
    old.__exit__()
    words = ("maildrop", "compare", ANN, "--against", str(record), "--full")
    assert one(ask(*words))["same"] == 3
    assert one(ask("maildrop", "compare", ANN, "--against", str(ann)))["same"] == 3
    path = next(ann.glob("new/*,U=u2,*"))
    path.write_bytes(text(2).replace(b"dot", b"cot"))
    assert found(one(ask(*words, status=1))) == {("wrong", "text", "u2")}
    path.write_bytes(text(5))
    assert found(one(ask(*words, status=1))) == {("wrong", "header", "u2")}
    path.unlink()
    assert found(one(ask(*words))) == {("explained", "deleted", "u2")}


def test_an_import_of_files_can_be_proved_too(ask, run, ann, tmp_path):
    for box in ("new", "cur"):
        (tmp_path / "old" / box).mkdir(parents=True)
    (tmp_path / "old" / "new" / "1.a").write_text("Subject: x\n\nbody\n")
    (tmp_path / "mbox").write_text("From a Sat Jan  1 00:00:00 2022\nSubject: y\n\nbody\n")
    for source in ("old", "mbox"):
        run("maildrop", "import", ANN, source)
    said = one(ask("maildrop", "compare", ANN, "--against", str(ann), "--full"))
    assert (said["same"], said["warnings"]) == (2, [])
    lines = [
        json.loads(one) for one in (ann / "postoffice.imported").read_text().split("\n") if one
    ]
    assert all(len(one["header"]) == len(one["text"]) == 64 for one in lines)


def test_with_the_record_of_an_export(ask, run, old, tmp_path):
    run("maildrop", "export", ANN, "out")
    words = ("maildrop", "compare", ANN, "--against", "out/postoffice.exported", "--full")
    said = one(ask(*words))
    assert (said["same"], said["warnings"]) == (3, [])
    lines = (tmp_path / "out" / "postoffice.exported").read_text().replace('"header"', '"other"')
    (tmp_path / "out" / "postoffice.exported").write_text(lines)  # as earlier releases wrote them
    assert "no digests of 3" in one(ask(*words))["warnings"][0]


@pytest.mark.parametrize(
    ("against", "text", "word"),
    [
        ("none", None, "reading none failed"),
        ("postoffice.yaml", None, "is no record"),
        ("imap://x", "secret", "no URL of a POP3 server"),
        ("pop3s://x", None, "no password"),
    ],
)
def test_what_is_refused(run, ann, against, text, word):
    options = ["--password-stdin"] if text else []
    shown = run("maildrop", "compare", ANN, "--against", against, *options, status=1, text=text)
    assert word in shown.output
