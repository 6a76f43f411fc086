"""The `postoffice maildrop` command: who keeps how much, what can go, and what can come back."""

from __future__ import annotations

import os
import re
import time

import pytest

from postoffice.store import files, vault

ANN, BOB, GONE = "ann@example.net", "bob@example.net", "gone@example.net"
HOUR, DAY = 3600, 86400


def put(folder, *messages):
    """Messages in a maildrop: how old each is, and how large."""
    files.make(str(folder))
    for number, (age, size) in enumerate(messages):
        name = f"{int(time.time() - age)}.M{number:06d}P1Q1R00000000.h,S={size},W={size}"
        (folder / "new" / name).write_bytes(b"x" * (size - 2) + b"\r\n")


def held(folder):
    """The sizes of what is in a maildrop."""
    return sorted(
        path.stat().st_size for box in ("new", "cur") for path in (folder / box).iterdir()
    )


# -- list ----------------------------------------------------------------------------------------


def test_those_who_use_most_come_first_and_their_accounts_may_be_gone(run, ask, ann):
    put(ann, (DAY, 100), (HOUR, 50))
    put(ann.parent / "gone", (2 * DAY, 1000))
    assert ask("maildrop", "list") == {
        "maildrops": [
            {
                "maildrop": GONE,
                "account": None,
                "messages": 1,
                "octets": 1000,
                "quota": None,
                "percent": None,
                "oldest": moment(2 * DAY),
                "last_login": None,
                "vault_messages": 0,
                "vault_octets": 0,
            },
            {
                "maildrop": ANN,
                "account": ANN,
                "messages": 2,
                "octets": 150,
                "quota": {"octets": 1 << 30, "messages": 0, "over": "reject"},
                "percent": 0.0,
                "oldest": moment(DAY),
                "last_login": None,
                "vault_messages": 0,
                "vault_octets": 0,
            },
        ],
        "total": {
            "maildrops": 2,
            "messages": 3,
            "octets": 1150,
            "vault_messages": 0,
            "vault_octets": 0,
        },
    }
    head, gone, anns, empty, total = run("maildrop", "list").output.splitlines()
    assert head.split("  ")[0] == "MAILDROP"
    assert re.fullmatch(r"gone@example.net +none +1 +1000 octets +20\S+ +never", gone)
    assert re.fullmatch(rf"{ANN} +2 +150 octets +0% +1 GiB +20\S+ +never", anns)
    assert (empty, total) == ("", "2 maildrops: 3 messages, 1.1 KiB")


@pytest.mark.parametrize(
    ("quota", "percent", "told"),
    [
        (("--quota", "1000"), 25.0, "25%"),
        (("--quota-messages", "3"), 66.7, "66%"),
        (("--quota", "1000", "--quota-messages", "3"), 66.7, "66%"),
        (("--quota", "250"), 100.0, "100%"),
        (("--quota", "251"), 99.6, "99%"),
        (("--quota", "100"), 250.0, "250%"),
        (("--quota", "0"), None, None),
    ],
)
def test_how_much_of_its_quota_is_used(run, ask, ann, quota, percent, told):
    put(ann, (DAY, 200), (HOUR, 50))
    run("account", "set", ANN, *quota)
    (one,) = ask("maildrop", "list")["maildrops"]
    assert one["percent"] == percent
    head, anns, *_ = run("maildrop", "list").output.splitlines()
    assert ("USED" in head) == (told is not None)
    assert told is None or f"  {told} " in anns


def test_where_each_has_its_account_nothing_is_said_of_it_and_a_line_fits(run, ann):
    put(ann, (DAY, 200 << 10))
    lines = run("maildrop", "list").output.splitlines()
    assert "ACCOUNT" not in lines[0]
    assert "VAULT" not in lines[0]
    assert max(map(len, lines)) <= 80


def test_accounts_are_asked_for_once_however_many_they_are(run, ann, monkeypatch):
    """With 20,000 maildrops a question for each takes longer than all of the rest."""
    from postoffice.accounts.sqlite_database import SQLiteDatabase

    asked = []
    read, observe = SQLiteDatabase.read, SQLiteDatabase.observe
    monkeypatch.setattr(SQLiteDatabase, "read", lambda *a: asked.append(a) or read(*a))
    monkeypatch.setattr(SQLiteDatabase, "observe", lambda *a: asked.append(a) or observe(*a))
    counts = []
    for number in range(4):
        put(ann.parent / f"u{number}", (DAY, 100))
        asked.clear()
        run("maildrop", "list")
        counts.append(len(asked))
    assert len(set(counts)) == 1


def moment(age):
    """As programs read it; the seconds may just have changed."""

    class About(str):
        def __eq__(self, other):
            return abs(time.time() - age - when(other)) < 30

        __hash__ = None

    return About()


def when(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_what_was_deleted_counts_as_used(run, ask, ann):
    put(ann, (DAY, 100))
    put(ann.parent / "bob", (DAY, 100))
    ask("maildrop", "purge", BOB, "--larger-than", "0")
    put(ann.parent / "bob", (DAY, 50))
    answer = ask("maildrop", "list")
    bob, _ = answer["maildrops"]
    assert (answer["total"]["vault_messages"], answer["total"]["vault_octets"]) == (1, 100)
    assert (bob["maildrop"], bob["messages"], bob["octets"]) == (BOB, 1, 50)
    assert (bob["vault_messages"], bob["vault_octets"]) == (1, 100)
    head, bob, *_, total = run("maildrop", "list").output.splitlines()
    assert "VAULT" in head
    assert "100 octets" in bob
    assert total.endswith("in the vault: 1 message, 100 octets")


def test_a_login_is_told(run, ask, ann):
    put(ann, (DAY, 100))
    os.close(os.open(ann / files.LOCK, os.O_CREAT))
    os.utime(ann / files.LOCK, (1_000_000_000, 1_000_000_000))
    (one,) = ask("maildrop", "list")["maildrops"]
    assert one["last_login"] == "2001-09-09T01:46:40+00:00"


def test_where_there_is_nothing_it_says_so(run, office):
    assert run("maildrop", "list").output == "no maildrops\n"


def test_what_else_lies_in_the_store_is_no_maildrop(run, ask, ann):
    put(ann, (DAY, 100))
    for name in ("example.net/A", "Example.org/joe", "example.net/%FF", ".removed/example.net/x"):
        (ann.parent.parent / name).mkdir(parents=True)
    assert [one["maildrop"] for one in ask("maildrop", "list")["maildrops"]] == [ANN]


# -- purge ---------------------------------------------------------------------------------------


def test_what_is_too_old_goes(run, ask, ann):
    put(ann, (10 * DAY, 100), (5 * DAY, 200), (HOUR, 300))
    words = ("maildrop", "purge", ANN, "--older-than", "3 days")
    assert ask(*words, "--dry-run") == {
        "maildrop": ANN,
        "messages": 2,
        "octets": 300,
        "dry_run": True,
    }
    assert held(ann) == [100, 200, 300]
    assert run(*words, "--dry-run").output == f"{ANN}: 2 messages, 300 octets, would be removed\n"
    assert run(*words).output == f"{ANN}: 2 messages, 300 octets, removed\n"
    assert held(ann) == [300]
    assert ask(*words)["messages"] == 0


def test_what_is_too_large_goes(ask, ann):
    put(ann, (HOUR, 100), (HOUR, 1025), (HOUR, 1024))
    assert ask("maildrop", "purge", ANN, "--larger-than", "1KiB")["octets"] == 1025
    assert held(ann) == [100, 1024]


def test_the_oldest_go_until_it_is_within_its_quota(run, ask, ann):
    put(ann, (3 * HOUR, 100), (2 * HOUR, 200), (HOUR, 300))
    words = ("maildrop", "purge", ANN, "--over-quota")
    assert ask(*words)["messages"] == 0
    run("account", "set", ANN, "--quota", "550")
    assert ask(*words)["octets"] == 100
    run("account", "set", ANN, "--quota", "0", "--quota-messages", "1")
    assert ask(*words)["octets"] == 200
    assert held(ann) == [300]


def test_what_any_option_names_goes_and_counts_for_the_others(run, ask, ann):
    put(ann, (5 * DAY, 100), (3 * HOUR, 2000), (2 * HOUR, 200), (HOUR, 300))
    run("account", "set", ANN, "--quota-messages", "1")
    said = ask(
        *("maildrop", "purge", ANN, "--over-quota", "--older-than", "1d", "--larger-than", "1000")
    )
    assert (said["messages"], said["octets"]) == (3, 2300)
    assert held(ann) == [300]


def test_without_an_account_there_is_no_quota(run, ask, ann):
    put(ann.parent / "gone", (5 * DAY, 100))
    said = run("maildrop", "purge", GONE, "--over-quota", status=1).output
    assert "no account gone@example.net" in said
    assert "--older-than" in said
    assert ask("maildrop", "purge", GONE, "--older-than", "1d")["messages"] == 1
    assert held(ann.parent / "gone") == []


COMMANDS = [("purge", "--larger-than", "0"), ("undelete",), ("verify",)]


@pytest.mark.parametrize("words", COMMANDS)
def test_nobody_has_no_maildrop(ask, office, words):
    command, *options = words
    said = ask("maildrop", command, "nobody@example.net", *options, status=1)["error"]
    assert said == (
        "there is neither an account nobody@example.net here nor a maildrop of that name"
    )


@pytest.mark.parametrize("words", COMMANDS)
def test_an_account_that_never_had_mail_has_an_empty_one(ask, ann, words):
    command, *options = words
    ask("maildrop", command, ANN, *options)


def test_nothing_goes_unless_it_is_said_what(run, ann):
    put(ann, (DAY, 100))
    assert "--over-quota" in run("maildrop", "purge", ANN, status=2).output
    assert "nor how" not in run("maildrop", "purge", ANN, "--older-than", "x", status=2).output
    assert held(ann) == [100]


@pytest.mark.parametrize(
    "words", [("purge", ANN, "--larger-than", "0"), ("undelete", ANN, "--since", "1d")]
)
def test_a_session_is_not_disturbed(run, ask, ann, words):
    put(ann, (DAY, 100))
    kept = ann.parent / ".vault" / "ann" / f"{time.time() - 60:.0f}.me"
    vault.make(str(kept), sync=False)
    (kept / "1").write_bytes(b"x\r\n")
    lock = files.lock(str(ann))
    said = run("maildrop", *words, status=1).output
    assert said == ("postoffice: a POP3 session holds ann@example.net; try again later\n")
    assert ask("maildrop", *words, status=1)["error"].startswith("a POP3 session holds")
    os.close(lock)
    run("maildrop", *words)


# -- undelete ------------------------------------------------------------------------------------


@pytest.fixture
def deleted(ann):
    """What three sessions of Ann's have deleted."""
    files.make(str(ann))
    now = time.time()
    for age, session, *messages in (
        (3 * DAY, "17a", "1000.a.h,S=3", "1001.b.h,S=3:2,S"),
        (2 * HOUR, "18b", "1002.c.h,S=3"),
        (HOUR, "purge", "1003.d.h,S=3"),
    ):
        path = ann.parent / ".vault" / "ann" / f"{now - age:.0f}.{session}"
        vault.make(str(path), sync=False)
        for name in messages:
            (path / name).write_bytes(b"x\r\n")
            os.utime(path / name, (1000, 1000))
    return ann


def test_it_tells_what_can_be_brought_back(run, ask, deleted):
    sessions = ask("maildrop", "undelete", ANN)["sessions"]
    assert [(one["session"], one["messages"], one["octets"]) for one in sessions] == [
        ("17a", 2, 6),
        ("18b", 1, 3),
        ("purge", 1, 3),
    ]
    assert sessions[0]["time"] == moment(3 * DAY)
    head, first, *_ = run("maildrop", "undelete", ANN).output.splitlines()
    assert head.split() == ["TIME", "SESSION", "MESSAGES", "SIZE"]
    assert first.split()[2:] == ["17a", "2", "6", "octets"]


def test_what_a_session_took_out_comes_back_as_it_was(run, ask, deleted):
    said = run("maildrop", "undelete", ANN, "--session", "17a").output
    assert said == f"{ANN}: 2 messages brought back\n"
    assert os.listdir(deleted / "new") == ["1000.a.h,S=3"]
    assert os.listdir(deleted / "cur") == ["1001.b.h,S=3:2,S"]
    assert (deleted / "new" / "1000.a.h,S=3").stat().st_mtime == 1000
    left = [one["session"] for one in ask("maildrop", "undelete", ANN)["sessions"]]
    assert left == ["18b", "purge"]


@pytest.mark.parametrize(
    ("since", "back"), [("3h", 2), ("90 min", 1), ("30 days", 4), ("2020-01-01", 4), ("10000", 2)]
)
def test_what_was_deleted_since_then_comes_back(ask, deleted, since, back):
    said = ask("maildrop", "undelete", ANN, "--since", since)
    assert said == {"maildrop": ANN, "messages": back}
    assert len(held(deleted)) == back


def test_a_time_of_day_will_do(ask, deleted):
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() - 3 * HOUR))
    assert ask("maildrop", "undelete", ANN, "--since", since)["messages"] == 2


@pytest.mark.parametrize("words", [("--session", "99"), ("--since", "1 min")])
def test_what_is_not_kept_does_not_come_back(ask, deleted, words):
    assert "nothing is kept" in ask("maildrop", "undelete", ANN, *words, status=1)["error"]


def test_times_that_are_none_are_refused(run, deleted):
    assert "2h" in run("maildrop", "undelete", ANN, "--since", "yesterday", status=2).output
    words = ("--since", "1d", "--session", "17a")
    assert "exclude" in run("maildrop", "undelete", ANN, *words, status=2).output


def test_what_was_purged_comes_back(run, ask, ann):
    put(ann, (DAY, 100), (HOUR, 200))
    run("maildrop", "purge", ANN, "--larger-than", "0")
    assert held(ann) == []
    assert ask("maildrop", "undelete", ANN, "--session", "purge")["messages"] == 2
    assert held(ann) == [100, 200]
    run("maildrop", "purge", ANN, "--larger-than", "0")
    assert ask("maildrop", "undelete", ANN, "--since", "1h")["messages"] == 2


def test_with_the_vault_off_nothing_is_kept(run, office, ann):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("undelete: 7 days", "undelete: 0"))
    put(ann, (DAY, 100))
    run("maildrop", "purge", ANN, "--larger-than", "0")
    assert run("maildrop", "undelete", ANN).output == f"{ANN}: nothing is kept\n"
    assert not (ann.parent / ".vault").exists()


def test_with_an_account_goes_what_it_had_deleted(run, ask, deleted):
    run("account", "remove", ANN, "--delete-mail")
    run("account", "add", ANN, "--generate")
    assert ask("maildrop", "undelete", ANN)["sessions"] == []


def test_what_an_account_had_deleted_is_set_aside_with_its_mail(run, ask, deleted):
    put(deleted, (HOUR, 100))
    (place,) = ask("account", "remove", ANN, "--keep-mail")["kept_in"]
    kept = [name for _, _, names in os.walk(f"{place}/vault") for name in names]
    assert sorted(name[:4] for name in kept) == ["1000", "1001", "1002", "1003"]


# -- verify --------------------------------------------------------------------------------------


def test_where_all_is_well_nothing_is_found(run, ask, ann):
    put(ann, (DAY, 100))
    put(ann.parent / "gone", (DAY, 100))
    assert ask("maildrop", "verify") == {"maildrops": 2, "findings": []}
    assert ask("maildrop", "verify", ANN) == {"maildrops": 1, "findings": []}
    assert run("maildrop", "verify").output == (
        "gone@example.net: no account has this maildrop; nobody can collect\n"
        "2 maildrops: 0 findings, 0 mended\n"
    )


def test_a_folder_that_no_account_can_have_is_told(run, ask, ann):
    (ann.parent / "Joe" / "new").mkdir(parents=True)
    assert "example.net/Joe: no account can have" in run("maildrop", "list").output
    assert ask("maildrop", "list")["strays"][0]["path"].endswith("example.net/Joe")
    verified = run("maildrop", "verify", status=1).output
    assert "example.net/Joe: no account can have a folder of this name" in verified


def test_what_is_wrong_is_told_and_mended_where_that_is_safe(run, ask, ann):
    put(ann, (HOUR, 100))
    wrong = ann / "new" / "1000.M000001P1Q1R00000000.h,S=7,W=7:2,S"
    wrong.write_bytes(b"a\nb\n")
    (ann / "maildirsize").write_text(f"{1 << 30}S\n5 5\n")
    (ann / "cur").rmdir()
    os.utime(ann, (1000, 1000))
    said = ask("maildrop", "verify", ANN, status=1)["findings"]
    assert {(one["path"], one["mended"]) for one in said} == {
        (f"{ann}/cur", False),
        (str(wrong), False),
        (f"{ann}/maildirsize", False),
    }
    assert "S=7, but 4; W=7, but 6" in next(one["what"] for one in said if "S=7" in one["path"])
    assert wrong.exists()
    said = ask("maildrop", "verify", "--repair")["findings"]
    assert len(said) == 3
    assert all(one["mended"] for one in said)
    assert sorted(path.name for path in (ann / "new").iterdir())[0] == (
        "1000.M000001P1Q1R00000000.h,S=4,W=6:2,S"
    )
    assert (ann / "maildirsize").read_text() == f"{1 << 30}S\n104 2\n"
    assert ask("maildrop", "verify", ANN) == {"maildrops": 1, "findings": []}


def test_what_cannot_be_mended_is_told_each_time(run, ask, ann):
    put(ann, (HOUR, 100))
    (ann / "new" / "a-pipe").symlink_to("/dev/null")
    for box, flags in (("new", ""), ("cur", ":2,S")):
        (ann / box / f"1000.twin{flags}").write_bytes(b"x\r\n")
    said = ask("maildrop", "verify", "--repair", status=1)["findings"]
    assert sorted(one["what"] for one in said) == [
        "no regular file; it is not served",
        "the same name as new/1000.twin; one of them is served",
    ]
    lines = run("maildrop", "verify", ANN, "--repair", status=1).output.splitlines()
    assert lines[-1] == "1 maildrop: 2 findings, 0 mended"
    assert f"{ann}/new/a-pipe: no regular file; it is not served" in lines


def test_a_count_that_is_wrong_is_made_right(ask, ann):
    put(ann, (HOUR, 100), (DAY, 50))
    (ann / "maildirsize").write_text(f"{1 << 30}S\n5 5\n")
    (said,) = ask("maildrop", "verify", status=1)["findings"]
    assert said["what"] == "it counts 5 octets in 5 messages; there are 150 in 2"
    (said,) = ask("maildrop", "verify", "--repair")["findings"]
    assert said["mended"]
    assert ask("maildrop", "verify")["findings"] == []


def test_a_store_that_cannot_be_looked_after_says_so(ask, office):
    file = office / "postoffice.yaml"
    file.write_text(re.sub(r"(?ms)^store:.*?(?=^\S)", "store: {kind: memory}\n", file.read_text()))
    assert "of this kind" in ask("maildrop", "list", status=1)["error"]


# -- how far it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (("list",), {"looking at maildrops": (4, 4)}),
        (("verify",), {"looking at maildrops": (4, 4), "reading messages": (6, 6)}),
        (("verify", ANN), {"reading messages": (3, 3)}),
        (("purge", ANN, "--larger-than", "0"), {"removing messages": (3, 3)}),
        (("expire",), {"looking at maildrops": (2, 2)}),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_may_take_long_says_how_far_it_is(run, ann, monkeypatch, words, labels):
    from postoffice.cli.progress import Progress

    run("domain", "set", "example.net", "--keep", "1day")
    put(ann, *[(HOUR, 100)] * 3)
    for number in range(3):
        put(ann.parent / f"u{number}", (HOUR, 100))
    seen = {}
    at = Progress.at

    def watched(self, done, length):
        at(self, done, length)
        seen[self._label] = (done, length)

    monkeypatch.setattr(Progress, "at", watched)
    run("maildrop", *words)
    assert seen == labels
