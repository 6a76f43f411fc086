"""`postoffice maildrop import` from live POP3 servers: passwords, many accounts, --watch."""

from __future__ import annotations

import _thread
import signal
from contextlib import ExitStack

import pytest

from postoffice.moving import parallel_imports
from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from tests.authority import Authority
from tests.pop3_server import CUT, OldServer

ANN, BOB = "ann@example.net", "bob@example.net"


def messages(*numbers):
    return [(f"u{n}", b"Subject: %d\r\n\r\nline\r\n" % n) for n in numbers]


def uidls(folder):
    return [one.uidl for one in maildir.scan(str(folder), MeasuredSizes()).entries]


def test_one_account(ask, run, ann):
    with OldServer(messages(1, 2)) as old:
        words = ("maildrop", "import", ANN, old.url)
        (said,) = ask(*words, "--password-stdin", "--dry-run", text="secret\n")["maildrops"]
        assert (said["messages"], said["kind"]) == (2, "pop3")
        assert not ann.exists() or uidls(ann) == []
        shown = run(*words, "--password-stdin", text="secret\n").output
        assert f"{ANN}: 2 messages" in shown
        assert uidls(ann) == ["u1", "u2"]
        old.messages += messages(3)
        (said,) = ask(*words, "--password-stdin", text="secret\n")["maildrops"]
        assert (said["messages"], said["there"], said["deleted"], said["error"]) == (1, 2, 0, None)
        assert old.removed == []


def test_what_was_compared_is_deleted_there(ask, ann, tmp_path):
    (tmp_path / "password").write_text("secret\r\n")
    with OldServer(messages(1, 2)) as old:
        words = ("--password-file", "password", "--delete-after-verify")
        (said,) = ask("maildrop", "import", ANN, old.url, *words)["maildrops"]
        assert (said["messages"], said["deleted"]) == (2, 2)
        assert old.removed == ["u1", "u2"]
    assert uidls(ann) == ["u1", "u2"]


def test_many_accounts_at_once_and_one_with_a_fault(ask, run, ann, tmp_path):
    run("account", "add", BOB, "--generate")
    users = {ANN: "of ann", BOB: "of bob"}
    with OldServer(messages(1, 2), users=users) as old, OldServer([]) as cutting:
        cutting.fault = lambda number, line: CUT
        rows = [
            f"{ANN},pop3://localhost:{old.port},of ann",
            f"{BOB},pop3://localhost:{old.port},a guess",
            f"{BOB},pop3://localhost:{cutting.port},x",
            f"nobody@example.net,pop3://localhost:{old.port},x",
        ]
        (tmp_path / "all.csv").write_text("\n".join(["address,source,password", *rows, ""]))
        words = ("--from-csv", "all.csv", "--patience", "0")
        done = ask("maildrop", "import", *words, status=1)["maildrops"]
    assert [one["messages"] for one in done] == [2, 0, 0, 0]
    errors = [one["error"] for one in done]
    assert errors[0] is None
    assert "[AUTH] wrong" in errors[1]
    assert "closed the connection" in errors[2]
    assert "neither an account" in errors[3]


def test_several_servers_of_one_maildrop_come_one_after_another(ask, ann, tmp_path):
    servers = [OldServer([(f"{n}.{m}", b"Subject: x\r\n\r\n") for m in range(9)]) for n in range(5)]
    with ExitStack() as stack:
        rows = [f"{ANN},{stack.enter_context(one).url},secret" for one in servers]
        (tmp_path / "all.csv").write_text("\n".join(["address,source,password", *rows, ""]))
        done = ask("maildrop", "import", "--from-csv", "all.csv", "--parallel", "5")["maildrops"]
    assert [one["messages"] for one in done] == [9] * 5
    assert len(uidls(ann)) == 45


def test_a_master_logs_in_for_all(ask, ann, tmp_path):
    with OldServer(messages(1), users={f"{ANN}*boss": "secret"}) as old:
        (tmp_path / "all.csv").write_text(f"address,source\n{ANN},pop3://localhost:{old.port}\n")
        words = ("--from-csv", "all.csv", "--master", "user*boss", "--password-stdin")
        (said,) = ask("maildrop", "import", *words, text="secret")["maildrops"]
    assert said["messages"] == 1


def test_a_maildir_and_a_server_in_one_file(ask, run, ann, tmp_path):
    run("account", "add", BOB, "--generate")
    for box in ("new", "cur"):
        (tmp_path / "old" / box).mkdir(parents=True)
    (tmp_path / "old" / "new" / "1.a").write_text("Subject: x\n\n")
    with OldServer(messages(1)) as old:
        rows = f"{ANN},{old.url},secret\n{BOB},old,\n"
        (tmp_path / "all.csv").write_text(f"address,source,password\n{rows}")
        done = ask("maildrop", "import", "--from-csv", "all.csv")["maildrops"]
    assert {one["kind"]: one["messages"] for one in done} == {"qmail": 1, "pop3": 1}


def test_tls_is_verified_unless_it_is_not_to_be(ask, run, ann, tmp_path):
    authority = Authority(tmp_path)
    certificate = authority.certify("localhost")
    with OldServer(messages(1), certificate=certificate, implicit=True) as old:
        words = ("maildrop", "import", ANN, old.url, "--password-stdin")
        (said,) = ask(*words, text="secret", status=1)["maildrops"]
        assert "certificate" in said["error"]
        assert old.heard == []
        ca = ("--ca", str(authority.path))
        assert ask(*words, *ca, text="secret")["maildrops"][0]["messages"] == 1
        assert ask(*words, "--tls", "unverified", text="secret")["maildrops"][0]["there"] == 1
        assert "pop3s:// is TLS" in run(*words, "--tls", "none", text="secret", status=1).output


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, whatever a reactor that ran before has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_days_of_a_change_are_watched_until_ctrl_c(run, ann):
    passes = []

    def fault(number, line):
        if line == "UIDL":
            passes.append(number)
            if len(passes) == 2:
                old.messages += messages(2)
        if line == "QUIT" and len(passes) == 3:
            _thread.interrupt_main(signal.SIGINT)
        return

    with OldServer(messages(1), fault=fault) as old:
        words = ("maildrop", "import", ANN, old.url, "--password-stdin", "--watch", "1")
        shown = run(*words, text="secret").output
    assert "1 new message imported" in shown
    assert uidls(ann) == ["u1", "u2"]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_an_import_and_keeps_what_is_whole(ask, ann, monkeypatch):
    monkeypatch.setattr(parallel_imports, "LOOK", 0.05)

    def fault(number, line):
        if line == "RETR 2":
            _thread.interrupt_main(signal.SIGINT)
            return b""
        return None

    with OldServer(messages(1, 2), capa=("UIDL",), fault=fault) as old:
        words = ("maildrop", "import", ANN, old.url, "--password-stdin")
        (said,) = ask(*words, text="secret", status=1)["maildrops"]
    assert "stopped" in said["error"]
    assert said["messages"] == 1
    assert uidls(ann) == ["u1"]


@pytest.mark.parametrize(
    ("words", "text", "word"),
    [
        ([ANN, "pop3://localhost:1"], None, "no password"),
        ([ANN, "imap://localhost", "--password-stdin"], "x", "no URL of a POP3 server"),
        ([ANN, "pop3s://ann:hunter2@localhost", "--password-stdin"], "x", "must not have"),
        ([ANN, "pop3s://ann@localhost", "--password-stdin"], "", "no password in the first"),
        ([ANN, "pop3s://ann@localhost", "--password-file", "none"], None, "reading none failed"),
    ],
)
def test_what_is_refused(run, ann, words, text, word):
    shown = run("maildrop", "import", *words, status=1, text=text).output
    assert word in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["pop3s://x", "--password-stdin", "--master", "boss"],
        ["pop3s://x", "--password-stdin", "--dry-run", "--watch", "9"],
        ["pop3s://x", "--password-stdin", "--password-file", "x"],
        ["here", "--watch", "9"],
    ],
)
def test_options_that_make_no_sense(run, ann, words):
    run("maildrop", "import", ANN, *words, status=2, text="x\n")


def test_a_line_of_the_file_that_is_wrong(run, ann, tmp_path):
    (tmp_path / "all.csv").write_text(f"address,source,password\n{ANN},ftp://x,y\n")
    assert "all.csv:2: " in run("maildrop", "import", "--from-csv", "all.csv", status=1).output
