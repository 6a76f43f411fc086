"""An import from a live POP3 server, right or wrong, into a real store."""

from __future__ import annotations

import itertools
import threading

import pytest

from postoffice.model.errors import CannotImport, MaildropLocked
from postoffice.moving import pop3_import
from postoffice.moving.old_server_sessions import OldAccount, Stop, Stopped
from postoffice.moving.pop3_import import ImportOptions, POP3Import
from postoffice.pop3 import client_connection
from postoffice.pop3.client_url import POP3URL
from postoffice.testing import finish
from tests.pop3_server import CUT, OldServer
from tests.store.on_disk import opened, started

JOE = "joe@example.net"


@pytest.fixture
def store(tmp_path):
    store = started(tmp_path)
    yield store
    finish(store.stop())


def text(n):
    return b"Date: Sat, 1 Jan 2022 00:00:%02d +0000\r\nSubject: %d\r\n\r\n.dot %d\r\n" % (n, n, n)


def messages(count):
    return [(f"u{n}", text(n)) for n in range(1, count + 1)]


class Importing:
    """One pass; what it would have waited is in ``waits``."""

    def __init__(self, store, old, password="secret", delete=False, **options):
        self.waits = []
        self.stop = Stop()
        account = OldAccount(server=POP3URL.parse(old.url).server(), login="ann", password=password)
        self.work = POP3Import(
            account,
            store.import_writer(JOE, False),
            ImportOptions(**options),
            self.stop,
            wait=self.waits.append,
            reader=store.reader(JOE) if delete else None,
        )

    def run(self):
        self.work.run()
        return self.work.result


def run(store, old, **options):
    return Importing(store, old, **options).run()


def listed(store):
    reader = store.reader(JOE)
    return [(one.uidl, b"".join(reader.text(one))) for one in reader.entries()]


def test_messages_keep_uidl_order_text_and_date(store, tmp_path):
    with OldServer(messages(30)) as old:
        result = run(store, old)
        assert (result.messages, result.there, result.left, result.warnings) == (30, 0, [], [])
        assert listed(store) == messages(30)
        assert old.removed == []
        again = run(store, old)
        assert (again.messages, again.there) == (0, 30)
    (first,) = (tmp_path / "example.net/joe/new").glob("*,U=u1,*")
    assert first.stat().st_mtime == 1640995201


def test_dates_of_now(store, tmp_path):
    with OldServer(messages(1)) as old:
        run(store, old, dates="now")
    (file,) = (tmp_path / "example.net/joe/new").iterdir()
    assert file.stat().st_mtime > 1700000000


def test_a_dry_run_only_counts(store):
    with OldServer(messages(3)) as old:
        result = run(store, old, dry=True)
        assert result.messages == 3
        assert result.octets == sum(len(text) for _, text in messages(3))
    assert listed(store) == []


def test_only_what_is_new_comes_and_what_was_deleted_here_stays_deleted(store):
    with OldServer(messages(3)) as old:
        run(store, old)
        maildrop, entries = opened(store)
        finish(maildrop.remove(entries[:1]))
        maildrop.release()
        del old.messages[1]
        old.messages.append(("u9", text(9)))
        result = run(store, old)
    assert (result.messages, result.there) == (1, 2)
    assert [uidl for uidl, _ in listed(store)] == ["u2", "u3", "u9"]


def test_a_server_that_cuts_again_and_again_is_asked_again(store, monkeypatch):
    monkeypatch.setattr(pop3_import, "GROUP", 4)

    def fault(number, line):
        return CUT if line == f"RETR {number + 2}" else None

    with OldServer(messages(10), capa=("UIDL", "TOP"), fault=fault) as old:
        importing = Importing(store, old)
        result = importing.run()
    assert result.messages == 10
    assert listed(store) == messages(10)
    assert importing.waits
    assert max(importing.waits) <= 2


def test_a_message_at_which_the_session_always_breaks_is_left(store):
    def fault(number, line):
        return CUT if line == "RETR 1" else None

    with OldServer(messages(3), fault=fault) as old:
        result = run(store, old)
    # it is number 1 in each session, and the others come without it
    assert [one.partition(":")[0] for one in result.left] == ["u1"]
    assert "broke off" in result.left[0]
    assert [uidl for uidl, _ in listed(store)] == ["u2", "u3"]


def test_a_message_that_is_refused_is_left_and_tried_the_next_time(store):
    refusing = [True]

    def fault(number, line):
        return b"-ERR [SYS/TEMP] disk\r\n" if refusing[0] and line == "RETR 2" else None

    with OldServer(messages(3), fault=fault) as old:
        result = run(store, old)
        assert result.left == ["u2: the old server refused it: [SYS/TEMP] disk"]
        refusing.clear()
        refusing.append(False)
        assert run(store, old).messages == 1
    assert listed(store) == messages(3)


@pytest.mark.parametrize(
    ("capa", "key"),
    [(("TOP",), "TOP"), ((), "RETR")],
)
def test_a_server_without_uidl(store, capa, key):
    def fault(number, line):
        return b"-ERR no\r\n" if line.startswith("TOP") and key == "RETR" else None

    with OldServer(messages(3), capa=capa, fault=fault) as old:
        result = run(store, old)
        assert "MD5" in result.warnings[0]
        del old.messages[0]
        assert (run(store, old)).there == 2
    assert [one for _, one in listed(store)] == [one for _, one in messages(3)]
    assert all(uidl.endswith(f"-{len(text(1))}") for uidl, _ in listed(store))


def test_a_list_that_takes_too_much_memory_ends_the_import(store, monkeypatch):
    monkeypatch.setattr(client_connection, "LINES_MAXIMUM", 2)
    with OldServer(messages(3)) as old, pytest.raises(CannotImport, match="more than 2 lines"):
        run(store, old)


@pytest.mark.parametrize("answer", [b"-ERR is rebuilt\r\n", b"+OK\r\n.\r\n"])
def test_a_server_whose_uidls_fail_for_the_moment_is_asked_again(store, answer):
    def fault(number, line):
        return answer if line == "UIDL" and number < 3 else None

    with OldServer(messages(2), fault=fault) as old:
        importing = Importing(store, old)
        assert importing.run().messages == 2
    assert listed(store) == messages(2)
    assert len(importing.waits) == 2


def test_a_server_without_capa_says_by_its_code_that_uidl_fails_for_the_moment(store):
    faults = {"CAPA": b"-ERR\r\n", "UIDL": b"-ERR [SYS/TEMP] is rebuilt\r\n"}

    def fault(number, line):
        return faults.get(line) if line != "UIDL" or number == 1 else None

    with OldServer(messages(2), fault=fault) as old:
        run(store, old)
    assert listed(store) == messages(2)


def test_what_a_server_without_uidl_does_not_show_may_still_be_there(store):
    def fault(number, line):
        return b"-ERR no\r\n" if line in ("TOP 2 0", "RETR 2") else None

    with OldServer(messages(2), capa=("TOP",), fault=fault) as old:
        result = run(store, old)
        assert result.doubtful
        assert "left out" in result.warnings[-1]


def test_uidls_that_a_server_has_no_more_are_no_reason_to_remove_mail(store):
    with OldServer(messages(2)) as old:
        assert not run(store, old).doubtful
        old.capa = ("TOP",)
        assert run(store, old).doubtful


def test_odd_uidls_and_twins_get_new_ones(store):
    odd = [("u1", text(1)), ("x" * 300, text(2)), ("u1", text(3)), ("\xe9", text(4))]
    with OldServer(list(odd)) as old:
        result = run(store, old)
        assert result.messages == 4
        assert len(result.warnings) == 2
        assert run(store, old).there == 4
    found = listed(store)
    assert [one for _, one in found] == [one for _, one in odd]
    assert found[0][0] == "u1"
    assert len({uidl for uidl, _ in found}) == 4


LIES = {
    "sizes with LF": ("LIST", b"+OK\r\n1 %d\r\n2 %d\r\n.\r\n" % ((len(text(1)) - 4,) * 2), "LF"),
    "wrong sizes": ("LIST", b"+OK\r\n1 5\r\n2 999999999\r\n.\r\n", "another size"),
    "a list too short": ("LIST", b"+OK\r\n1 5\r\n.\r\n", "by UIDL"),
    "garbage": ("LIST", b"+OK\r\nhello\r\n1 x\r\n.\r\n", "cannot be read"),
    "no list": ("LIST", b"-ERR no\r\n", "sizes are not known"),
    "a wrong count": ("STAT", b"+OK 17 1\r\n", "17 messages"),
    "a count that is none": ("STAT", b"+OK fine\r\n", ""),
    "no count": ("STAT", b"-ERR no\r\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_loses_nothing(store, lie):
    verb, answer, word = LIES[lie]

    with OldServer(messages(2), fault=lambda _, line: answer if line == verb else None) as old:
        result = run(store, old)
    assert listed(store) == messages(2)
    assert any(word in one for one in result.warnings) or not word


@pytest.mark.parametrize("capa", [("USER",), ("SASL PLAIN",), ("SASL LOGIN",)])
@pytest.mark.parametrize("form", [b"-ERR no such %b\r\n", b"%b?\r\n"])
def test_a_server_that_says_the_password_again_does_not_get_it_shown(store, capa, form):
    def fault(number, line):
        if line == "AUTH LOGIN" or line == "YW5u":
            return b"+ \r\n"
        said = line[:4] in ("PASS", "AUTH") or line == "c2VjcmV0"
        return form % line.encode() if said else None

    with OldServer([], capa=capa, fault=fault) as old, pytest.raises(CannotImport) as raised:
        run(store, old, patience=0)
    assert "***" in str(raised.value)
    for hidden in ("secret", "c2VjcmV0", "AGFubgBzZWNyZXQ="):
        assert hidden not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [b"-ERR [AUTH] no\r\n", b"-ERR no\r\n", b"-ERR [SYS/PERM] x\r\n"]
)
def test_a_wrong_password_is_tried_once(store, answer):
    with OldServer([], fault=lambda _, line: answer if line == "PASS secret" else None) as old:
        importing = Importing(store, old)
        with pytest.raises(CannotImport):
            importing.run()
        assert old.heard.count("PASS secret") == 1
    assert importing.waits == []


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        (b"-ERR [IN-USE] x\r\n", [30, 30]),
        (b"-ERR [SYS/TEMP] x\r\n", [60, 60]),
        (b"-ERR [LOGIN-DELAY] x\r\n", [900, 900]),
    ],
)
def test_a_server_that_refuses_for_now_is_waited_for(store, answer, waits):
    def fault(number, line):
        return answer if line == "PASS secret" and number < 3 else None

    capa = ("UIDL", "LOGIN-DELAY 900") if 900 in waits else ("UIDL",)
    with OldServer(messages(2), capa=capa, fault=fault) as old:
        importing = Importing(store, old)
        assert importing.run().messages == 2
    assert importing.waits == waits


def test_a_ban_is_waited_for_within_bounds(store):
    with OldServer([], fault=lambda number, line: CUT) as old:
        importing = Importing(store, old, patience=100)
        with pytest.raises(CannotImport, match="waiting 75 s"):
            importing.run()
    assert importing.waits == [5, 10, 20, 40]


def test_a_session_here_is_waited_for(store):
    with OldServer(messages(2)) as old:
        importing = Importing(store, old)
        maildrop = None

        def fault(number, line):
            nonlocal maildrop
            if line == "RETR 1":
                maildrop, _ = opened(store)

        def wait(seconds):
            maildrop.release()

        old.fault = fault
        importing.work._wait = wait
        assert importing.run().messages == 2
        maildrop, _ = opened(store)
        with pytest.raises(MaildropLocked):
            Importing(store, old).run()


def test_what_is_whole_is_kept_when_it_is_stopped(store):
    asked = threading.Event()

    def fault(number, line):
        if line == "RETR 3":
            asked.set()
            return b""
        return None

    with OldServer(messages(5), capa=("UIDL",), fault=fault) as old:
        importing = Importing(store, old)
        stopper = threading.Thread(target=lambda: (asked.wait(10), importing.stop.set()))
        stopper.start()
        with pytest.raises(Stopped):
            importing.run()
        stopper.join()
    assert listed(store) == messages(5)[:2]


def test_what_is_here_and_equal_is_deleted_there(store):
    with OldServer(messages(4)) as old:
        run(store, old)
        maildrop, entries = opened(store)
        finish(maildrop.remove(entries[1:2]))  # its owner has read it
        maildrop.release()
        old.messages[2] = ("u3", text(3) + b"other\r\n")
        old.messages.append(("u5", text(5)))
        result = run(store, old, delete=True)
        assert old.removed == ["u1", "u4", "u5"]
        assert result.deleted == 3
        assert "u3: not deleted" in result.left[0]
        assert old.heard.count("RETR 5") == 1  # heard already
        assert old.heard.count("RETR 1") == 2


def test_what_the_server_does_not_delete_is_told(store):
    answers = {"DELE 1": b"-ERR no\r\n", "QUIT": b"-ERR [SYS/TEMP] not all deleted\r\n"}
    with OldServer(messages(2), fault=lambda _, line: answers.get(line)) as old:
        result = run(store, old, delete=True)
    assert result.deleted == 1
    assert result.left == ["the old server refuses to delete 1 of the messages"]
    assert "may not have deleted all" in result.warnings[-1]


def test_a_server_that_gives_uidls_to_other_messages_loses_none(store):
    """Some servers number messages anew in each session, and call that UIDLs."""
    texts = [text(n) for n in range(1, 5)]

    def fault(number, line):
        if line == "RETR 4" and number == 1:
            del texts[0]  # another program has fetched and deleted it
            old.messages[:] = [(str(n), one) for n, one in enumerate(texts, 1)]
            return CUT
        return None

    with OldServer([(str(n), text(n)) for n in range(1, 5)], fault=fault) as old:
        result = run(store, old, delete=True)
        assert [one for _, one in listed(store)] == [text(1), text(2), text(3)]
        assert [one for _, one in old.messages] == texts
        assert len(result.left) == 3


def test_what_came_while_it_was_verified_stays_there(store):
    """The old server gives a UIDL that was deleted to another message between two sessions."""

    def fault(number, line):
        if line == "QUIT" and number == 1:
            old.messages[:1] = [("u1", text(9))]
        return

    with OldServer(messages(2), fault=fault) as old:
        run(store, old, delete=True)
        kept = [one for _, one in listed(store)]
        assert all(one in kept or ("u1", one) in old.messages for one in (text(1), text(9)))


def test_dates_never_decrease(store, tmp_path):
    dates = [b"Sat, 1 Jan 2022 00:00:09 +0000", b"Sat, 1 Jan 2022 00:00:01 +0000", b"never"]
    odd = [(f"u{n}", b"Date: %b\r\n\r\n" % date) for n, date in enumerate(dates)]
    with OldServer(odd) as old:
        run(store, old)
    files = sorted((tmp_path / "example.net/joe/new").iterdir(), key=lambda one: one.name)
    times = [file.stat().st_mtime for file in files]
    assert all(one <= other for one, other in itertools.pairwise(times))
    assert times[0] == 1640995209
