"""`postoffice maildrop import`: mail of other servers, with the UIDLs that they gave."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import nullcontext

import pytest

from postoffice.store import expunge, maildir, names
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.merge import put_back
from postoffice.store.transfer import import_folder, import_maildir, import_maildrop

ANN, BOB = "ann@example.net", "bob@example.net"
YEAR = 365 * 86400
TEXT = "Subject: {}\n\nline\n"


@pytest.fixture
def old(tmp_path):
    """A Maildir of another server."""
    folder = tmp_path / "old"
    for box in ("new", "cur", "tmp"):
        (folder / box).mkdir(parents=True)
    return folder


def put(old, place: str, text: str | None = None, age: float = YEAR):
    path = old / place
    path.write_text(TEXT.format(place) if text is None else text)
    os.utime(path, (int(time.time() - age),) * 2)
    return path


def dovecot(old, *lines: str) -> None:
    (old / "dovecot-uidlist").write_text("\n".join(["3 V1 N9 Gx", *lines, ""]))


def uidls(folder) -> list[str]:
    return [one.uidl for one in entries(folder)]


def entries(folder):
    return list(maildir.scan(str(folder), MeasuredSizes()).entries)


def imported(ask, old, *options, status=0):
    (one,) = ask("maildrop", "import", ANN, str(old), *options, status=status)["maildrops"]
    return one


# -- what stays as it was -------------------------------------------------------------------------


def test_dovecot_s_messages_keep_uidl_order_date_and_flags(ask, ann, old):
    put(old, "cur/1700000003.a:2,RSab")
    put(old, "new/1700000001.b")
    put(old, "cur/1700000002.c:2,")
    dovecot(old, "2 :1700000003.a:2,", "3 Pa/b :1700000001.b", "7 O1 :1700000002.c")
    said = imported(ask, old)
    assert (said["kind"], said["messages"], said["there"], said["copied"]) == ("dovecot", 3, 0, 0)
    assert uidls(ann) == ["0000000700000001", "0000000200000001", "a/b"]
    seventh, second, third = entries(ann)
    assert seventh.name.endswith(":2,")
    assert second.name.endswith(":2,RS")
    assert third.name.startswith("new/")
    files = [ann / one.name for one in (second, third)]
    assert os.path.samefile(files[0], old / "cur/1700000003.a:2,RSab"), "a hard link"
    assert [one.size for one in entries(ann)] == [
        len(TEXT.format("cur/1700000002.c:2,")) + 3
    ] * 1 + [
        len(TEXT.format(place)) + 3 for place in ("cur/1700000003.a:2,RSab", "new/1700000001.b")
    ]
    assert all(abs(file.stat().st_mtime + YEAR - time.time()) < 1000 for file in files)
    assert all(names.time_of(file.name, 0) > time.time() - 1000 for file in files)


TABLE = "uid\tguid\tpop3.uidl\tpop3.order\tdate.received.unixtime\tsize.virtual\n"


def test_a_table_says_more_than_the_maildir(ask, ann, old, tmp_path):
    for number in range(1, 5):
        put(old, f"new/{number}.a,W={number}")
    dovecot(old, *(f"{n} P{n} Gg{n} :{n}.a,W={n}" for n in range(1, 5)))
    (tmp_path / "table").write_text(
        TABLE + "4\tg4\ta\x01tb\t\t100\t4\n2\tg2\ttwo\t1\t100\t99\n3\tg3\t\t2\t\t\nx\n9\t\t\t\t\t\n"
    )
    said = imported(ask, old, "--uidls", "table", "--age", "real")
    assert [why.replace(str(tmp_path / "table"), "FILE") for why in said["warnings"]] == [
        "1 lines of FILE cannot be read",
        "1 messages in FILE are not in the Maildir",
        "1 of the messages have another size than the table says",
        "1 of the messages have a UIDL that POP3 does not allow at the old server: they get new "
        "ones",
    ]
    assert uidls(ann)[:3] == ["two", "3", "1"]
    assert entries(ann)[0].name.startswith("new/100.M")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (TABLE + "1\tother\t\t\t\t\n", "the table is of another mailbox: the GUIDs of UID 1"),
        ("nonsense\n", "its first line is not that of a doveadm table"),
        (None, "reading "),
    ],
)
def test_a_table_that_cannot_be_used(ask, ann, old, tmp_path, table, why):
    put(old, "new/1.a")
    dovecot(old, "1 Gg1 :1.a")
    if table is not None:
        (tmp_path / "table").write_text(table)
    assert why in imported(ask, old, "--uidls", "table", status=1)["error"]
    said = imported(ask, old, "--uidls", "table", "--from", "qmail", status=1)
    assert "is no Maildir of Dovecot" in said["error"]


def test_x_uidl_fields_count_if_they_are_asked_for(ask, ann, old):
    put(old, "new/1.a", "X-UIDL: one\n\n")
    put(old, "new/2.a", "X-UIDL: two\n\n")
    put(old, "new/3.a", "Subject: 3\n\n")
    dovecot(old, "1 :1.a", "2 Pown :2.a", "3 :3.a")
    imported(ask, old, "--reuse-xuidl")
    assert uidls(ann) == ["one", "own", "0000000300000001"]


def test_courier_s_and_qmail_s_messages(ask, ann, old):
    put(old, "cur/20.a,S=5:2,S", age=9)
    put(old, "new/10.b", age=5)
    assert imported(ask, old, "--dry-run")["kind"] == "qmail"
    (old / "courierpop3dsizelist").write_text("/2 8 99\n20.a,S=5 10 7:99\n10.b 10 6:99\n")
    assert imported(ask, old, "--from", "qmail", "--dry-run")["kind"] == "qmail"
    assert not ann.exists() or uidls(ann) == []
    assert imported(ask, old)["kind"] == "courier"
    assert uidls(ann) == ["UID6-99", "UID7-99"]


def test_qmail_s_messages_have_their_names_and_the_order_of_their_times(ask, ann, old):
    put(old, "cur/20.a,S=5:2,S", age=9)
    put(old, "new/10.b", age=5)
    assert imported(ask, old, "--from", "maildir")["kind"] == "qmail"
    assert uidls(ann) == ["20.a,S=5", "10.b"]


def test_real_age_is_that_of_the_old_server(ask, ann, old):
    put(old, "new/1700000001.a")
    imported(ask, old, "--age", "real")
    (one,) = entries(ann)
    assert one.name.startswith("new/1700000001.M")


def test_what_comes_here_is_behind_what_was_there(ask, ann, old):
    put(old, "new/1700000001.a")
    imported(ask, old)
    name = "1600000000.M000000P1Q1R00000000.h"
    (ann / "new" / f"{name},S=3,W=3").write_bytes(b"x\r\n")
    put(old, "new/1700000002.b", age=5)
    imported(ask, old)
    assert uidls(ann) == ["1700000001.a", "1700000002.b", name]


# -- again ----------------------------------------------------------------------------------------


def test_a_second_import_adds_what_is_new_where_it_belongs(ask, ann, old):
    for number in range(1, 6):
        put(old, f"new/{number}.a", age=100 - number)
    assert imported(ask, old)["messages"] == 5
    (ann / entries(ann)[1].name).unlink()  # the owner has collected it
    (old / "new/1.a").unlink()
    (old / "new/2.a").rename(old / "cur/2.a:2,S")
    put(old, "new/6.a", age=5)
    said = imported(ask, old)
    assert (said["messages"], said["there"]) == (1, 4)
    assert uidls(ann) == ["1.a", "3.a", "4.a", "5.a", "6.a"]
    assert imported(ask, old)["messages"] == 0


def test_a_message_gets_its_uid_after_the_import(ask, ann, old):
    put(old, "new/1.a")
    put(old, "new/2.b")
    dovecot(old, "1 :1.a")
    (why,) = imported(ask, old)["warnings"]
    assert why.startswith("1 of the messages have no UIDL yet")
    before = uidls(ann)
    assert before[0] == "0000000100000001"
    dovecot(old, "1 :1.a", "2 :2.b")
    assert imported(ask, old)["messages"] == 0
    assert uidls(ann) == before


@pytest.mark.parametrize("when", ["before", "behind"])
def test_an_import_goes_on_where_it_was_killed(ask, ann, old, monkeypatch, when):
    for number in range(1, 8):
        put(old, f"new/{number}.a", age=100 - number)
    rounds = []

    def dies(*arguments, **options):
        rounds.append(1)
        if len(rounds) < 2:
            return put_back(*arguments, **options)
        if when == "behind":
            put_back(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_maildrop, "GROUP", 3)
    monkeypatch.setattr(import_maildrop.merge, "put_back", dies)
    with pytest.raises(BaseException):  # noqa: PT011
        imported(ask, old)
    monkeypatch.setattr(import_maildrop.merge, "put_back", put_back)
    assert uidls(ann) == [f"{number}.a" for number in range(1, 4 if when == "before" else 7)]
    assert imported(ask, old)["messages"] == (4 if when == "before" else 1)
    assert uidls(ann) == [f"{number}.a" for number in range(1, 8)]


# -- what is odd ----------------------------------------------------------------------------------


def test_twins_and_what_is_no_uidl_get_new_ones(ask, ann, old):
    for number in range(1, 5):
        put(old, f"new/{number}.a")
    dovecot(old, "1 Px :1.a", "2 Px :2.a", "3 P" + "y" * 300 + " :3.a", "4 P\u00fc :4.a")
    said = imported(ask, old)
    assert [why[:30] for why in said["warnings"]] == [
        "2 of the messages have a UIDL ",
        "1 of the messages have the UID",
    ]
    assert len(set(uidls(ann))) == 4
    assert uidls(ann)[0] == "x"
    assert imported(ask, old)["messages"] == 0


def test_another_file_system_gets_copies_with_the_same_dates(ask, ann, old, monkeypatch):
    put(old, "cur/1.a:2,S", "Subject: x\r\n\r\nno end")

    def link(*_, **__):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(import_maildir.os, "link", link)
    assert imported(ask, old)["copied"] == 1
    (one,) = entries(ann)
    assert one.size == 22
    file = ann / one.name
    assert file.stat().st_mtime == (old / "cur/1.a:2,S").stat().st_mtime
    assert file.read_bytes() == b"Subject: x\r\n\r\nno end"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_served_is_left_and_told(ask, ann, old):
    put(old, "new/1.a")
    (old / "new/2.a").write_bytes(b"\x1f\x8b\x08\0compressed")
    said = imported(ask, old, status=1)
    assert said["messages"] == 1
    assert [why.partition(":")[0] for why in said["left"]] == ["new/2.a"]


def test_a_link_to_another_s_file_is_no_message(ask, ann, old):
    os.symlink("/etc/passwd", old / "new/1.a")
    assert imported(ask, old)["messages"] == 0


def test_a_list_that_is_a_pipe_is_no_list(ask, ann, old):
    put(old, "new/1.a")
    os.mkfifo(old / "dovecot-uidlist")
    assert "not a regular file" in imported(ask, old, status=1)["error"]


@pytest.mark.parametrize("place", ["", "new", "cur", "dovecot-uidlist"])
def test_a_link_of_an_owner_to_the_mail_of_another_is_refused(ask, ann, old, monkeypatch, place):
    """The links here are ours: it is another user who runs the import."""
    put(old, "new/1.a")
    dovecot(old, "1 :1.a")
    link = old.with_name("link") if not place else old / place
    if place:
        link.rename(old.with_name("of-bob"))
        link.symlink_to(old.with_name("of-bob"))
    else:
        link.symlink_to(old)
    source = link if not place else old
    whose = {"uid": 4711}
    real = os.stat

    def stat(path, **options):
        status = real(path, **options)
        if options.get("dir_fd") is None or not os.path.stat.S_ISLNK(status.st_mode):
            return status
        return os.stat_result((*status[:4], whose["uid"], *status[5:]))

    monkeypatch.setattr(import_folder.os, "stat", stat)
    said = imported(ask, source, status=1)
    assert f"{link} is a link of user 4711" in said["error"]
    assert not ann.exists() or not list(ann.glob("*/*,U=*"))
    whose["uid"] = 0  # root may make links to what it wants
    assert imported(ask, source)["messages"] == 1


def test_a_file_that_becomes_a_link_is_not_copied(ask, ann, old, monkeypatch, tmp_path):
    put(old, "new/1.a")
    (tmp_path / "secret").write_text("of bob")

    def link(*_, **__):
        (old / "new/1.a").unlink()
        (old / "new/1.a").symlink_to(tmp_path / "secret")
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(import_maildir.os, "link", link)
    imported(ask, old)
    (one,) = entries(ann)
    assert (ann / one.name).read_text() == TEXT.format("new/1.a")


def test_a_message_that_is_renamed_while_the_folder_is_read_is_found(ask, ann, old, monkeypatch):
    put(old, "cur/1.a:2,")
    put(old, "new/2.a")
    imported(ask, old)
    real = os.scandir
    names_seen = []

    def scandir(path):
        items = list(real(path)) if isinstance(path, int) else real(path)
        if isinstance(path, int) and not names_seen and any(i.name == "1.a:2," for i in items):
            names_seen.append((old / "cur/1.a:2,").rename(old / "cur/1.a:2,S"))
            items = []
        return nullcontext(items) if isinstance(path, int) else items

    monkeypatch.setattr(import_folder.os, "scandir", scandir)
    assert imported(ask, old, "--remove-gone")["removed"] == 0
    assert names_seen


def test_odd_names_do_not_end_the_answer(ask, run, ann, old):
    name = os.fsencode(old / "new") + b"/9.\xff\n\x1b[2J"
    with open(name, "wb") as file:
        file.write(b"\x1f\x8b\x08\0compressed")
    assert len(imported(ask, old, status=1)["left"]) == 1
    assert "\x1b" not in run("maildrop", "import", ANN, str(old), status=1).output


def test_a_file_of_holes_does_not_hold_up_the_import(ask, ann, old):
    put(old, "new/1.a")
    os.truncate(put(old, "new/2.a"), 1 << 40)
    said = imported(ask, old, status=1)
    assert said["messages"] == 1
    assert said["left"] == ["new/2.a: it has more than 1024 MiB"]


def test_a_list_of_too_many_lines_is_refused(ask, ann, old, monkeypatch):
    monkeypatch.setattr(import_maildir, "LINES", 2)
    put(old, "new/1.a")
    dovecot(old, "1 :1.a", "2 :2.a", "3 :3.a")
    assert "more than 2 lines" in imported(ask, old, status=1)["error"]


def test_a_maildrop_in_use_is_refused(ask, ann, old):
    put(old, "new/1.a")
    imported(ask, old)
    lock = expunge.lock(None, str(ann))
    try:
        said = imported(ask, old, status=1)
    finally:
        os.close(lock)
    assert said["error"] == "a POP3 session is open; try again later"


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (lambda old: (old / "cur").rmdir(), (), "is no Maildir: there is no folder cur in it"),
        (lambda old: None, ("--from", "dovecot"), "has no dovecot-uidlist, which has the UIDLs"),
        (lambda old: (old / "dovecot-uidlist").write_text("x"), (), "not that of a dovecot-uid"),
        (lambda old: dovecot(old), ("--uidl-format", "%v"), "is no pop3_uidl_format"),
        (lambda old: (old / "courierpop3dsizelist").write_text("/9 1 1\n"), (), "version '9'"),
    ],
)
def test_a_source_that_cannot_be_read_is_an_error(ask, ann, old, change, options, why):
    change(old)
    assert why in imported(ask, old, *options, status=1)["error"]


def test_a_full_disk_leaves_nothing_half_done(ask, ann, old, monkeypatch):
    put(old, "new/1.a")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(import_maildir.os, "link", full)
    assert os.strerror(errno.ENOSPC) in imported(ask, old, status=1)["error"]
    assert uidls(ann) == []
    assert list((ann / "tmp").iterdir()) == []
    monkeypatch.undo()


def test_over_the_quota_is_a_warning(run, ask, ann, old):
    run("account", "set", ANN, "--quota", "10")
    put(old, "new/1.a")
    said = imported(ask, old)
    assert said["messages"] == 1
    assert "over its quota of 10" in said["warnings"][0]


# -- many -----------------------------------------------------------------------------------------


def test_many_from_a_file_and_one_s_fault_costs_only_that_one(run, ask, ann, old, tmp_path):
    put(old, "new/1.a")
    (tmp_path / "all.csv").write_text(f"address,source\n{BOB},old\n{ANN},gone\n{ANN},old\n")
    result = run("maildrop", "import", "--from-csv", "all.csv", status=1)
    lines = result.output.splitlines()
    assert lines[0].startswith(f"{BOB}: import failed: there is neither an account")
    assert lines[1].startswith(f"{ANN}: import failed: {tmp_path}/gone is no Maildir")
    assert lines[2].startswith(f"{ANN}: 1 message, ")
    assert uidls(ann) == ["1.a"]


def test_a_file_may_name_a_table_for_each(run, ann, old, tmp_path):
    put(old, "new/1.a")
    dovecot(old, "1 :1.a")
    (tmp_path / "table").write_text(TABLE + "1\t\tone\t\t\t\n")
    (tmp_path / "all.csv").write_text(f"address,source,uidls\n{ANN},old,table\n")
    run("maildrop", "import", "--from-csv", "all.csv", "--uidls", "table", status=2)
    run("maildrop", "import", "--from-csv", "all.csv")
    assert uidls(ann) == ["one"]


@pytest.mark.parametrize("words", [(), (ANN,), (ANN, "old", "--from-csv", "x")])
def test_what_to_import_must_be_said(run, ann, words):
    run("maildrop", "import", *words, status=2)


def test_a_file_that_is_wrong_is_refused(run, ann, tmp_path):
    (tmp_path / "all.csv").write_text(f"address,source\n{ANN},\n")
    assert (
        "all.csv:2: it needs" in run("maildrop", "import", "--from-csv", "all.csv", status=1).output
    )
    run("maildrop", "import", "--from-csv", "none.csv", status=1)


# -- after a restore ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["all", "the maildrop", "the maildrop, into what is there"])
def test_a_restore_knows_what_was_imported(run, ask, ann, old, office, what):
    for number in range(1, 4):
        put(old, f"new/{number}.a", age=100 - number)
    imported(ask, old)
    (ann / entries(ann)[0].name).unlink()  # the owner has collected it
    run("backup", "b.tar")
    if what == "all":
        shutil.rmtree(office / "state")
        (office / "postoffice.yaml").unlink()
        run("restore", "b.tar")
    else:
        run("account", "remove", ANN, "--delete-mail")
        if what.endswith("there"):
            run("account", "add", ANN, "--generate")
            other = old.parent / "other"
            shutil.copytree(old, other)
            for number in (1, 3):
                (other / f"new/{number}.a").unlink()
            imported(ask, other)
        run("restore", "b.tar", "--maildrop", ANN)
    before = (ann / "postoffice.imported").read_text()
    assert (imported(ask, old)["messages"], uidls(ann)) == (0, ["2.a", "3.a"])
    if what != "all":
        run("restore", "b.tar", "--maildrop", ANN)
        assert (ann / "postoffice.imported").read_text() == before
