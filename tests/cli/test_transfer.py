"""`postoffice account` and `alias`, `import` and `export`: in and out, and what cannot be used."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import pytest
from zope.interface import Interface

from postoffice.accounts import bulk_queries
from postoffice.accounts.passwords import verify
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.cli import import_groups, import_view, record_files
from postoffice.cli.record_files import LINE, BadRecord, Record, Unreadable, address_list, read
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish, finish_all

ANN, BOB, CARL = "ann@example.net", "bob@example.net", "carl@example.net"
POSTMASTER = "postmaster@example.net"


@pytest.fixture
def full(furnish):
    """An office with all that an account can have."""
    return furnish(
        *(f"account add {name} --password-stdin\nsecret of {name}\n" for name in (ANN, BOB)),
        f"account set {ANN} --quota 5MiB --quota-messages 7 --over defer",
        f"account set {ANN} --keep 90days --delete-on-collect --login-delay 1.5",
        f"account set {ANN} --forward {BOB} --no-keep-copy",
        f"account set {ANN} --generate-shared-secret",
        f"account device add {ANN} 'my phone' --network 192.0.2.0/24",
        f"account disable {BOB}",
        f"account rename {BOB} rob@example.net",
        "account add '\"c d\"@example.net' --generate",
        f"alias add info@example.net {ANN} '\"c d\"@example.net' --send",
        "alias add gone@example.net --refuse 'Left, \"for good\"'",
        "alias add noreply@example.net --discard",
    )


class _INobody(Interface):
    """No register provides it."""


@pytest.fixture(params=["many at once", "one by one"])
def writes(request, monkeypatch):
    """Registers that write many names at once, and others, of plugins."""
    if request.param == "one by one":
        monkeypatch.setattr(import_view, "IBulkRegister", _INobody)


@pytest.fixture
def other(run, templates, tmp_path_factory, monkeypatch):
    """Another office, and a function that makes it the one that commands are for."""

    def other() -> Path:
        folder = tmp_path_factory.mktemp("other")
        shutil.copytree(templates(), folder, dirs_exist_ok=True)
        monkeypatch.chdir(folder)
        return folder

    return other


def accounts_of(office: Path) -> list:
    """All that is known of each account."""
    state = office / "state"
    directory = SQLiteDirectory(
        str(state / "accounts.db"), ImmediateExecutor(), str(state / "accounts.key")
    )
    finish(directory.start())
    names = [one.address for one in finish_all(directory.each_account())]
    found = [
        (vars(finish(directory.find(name))), finish(directory.app_passwords(name)))
        for name in names
    ]
    finish(directory.stop())
    return found


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.usefixtures("writes")
def test_all_comes_back_as_it_was(run, ask, full, other, form):
    accounts, aliases = accounts_of(full), ask("alias", "list")
    exported = ask("account", "export", f"accounts.{form}", "--with-secrets")
    assert exported == {"file": f"accounts.{form}", "records": 4}
    run("alias", "export", f"aliases.{form}")
    assert (full / f"accounts.{form}").stat().st_mode & 0o777 == 0o600
    there = other()
    for what in ("account", "alias"):
        file = str(full / f"{what}{'s' if what == 'account' else 'es'}.{form}")
        said = ask(what, "import", file, "--update")
        assert (said["failed"], said["errors"]) == (0, [])
    assert accounts_of(there) == accounts
    assert ask("alias", "list") == aliases


def test_without_secrets_nothing_secret_is_in_it(run, full):
    text = run("account", "export").stdout
    secret = accounts_of(full)
    assert "argon2" not in text
    assert "SCRAM" not in text
    for account, devices in secret:
        assert not any(one.secret in text for one in devices)
        assert account["shared"] is None or account["shared"] not in text
    assert text.splitlines()[0].startswith("address,maildrop,state,")


@pytest.mark.usefixtures("writes")
def test_a_second_import_changes_nothing_and_one_with_update_what_it_says(run, ask, office):
    file = Path("a.csv")
    file.write_text(f"address,quota,keep\n{ANN},5 MiB,30 days\n{BOB},,\n")
    assert ask("account", "import", "a.csv")["added"] == 2
    said = run("account", "import", "a.csv", status=1).stdout.splitlines()
    assert said[0] == f"a.csv:2: {ANN} is here already; --update changes it"
    assert said[-1] == "a.csv: 0 added, 0 updated, 2 errors"
    file.write_text(f"address,quota,keep\n{ANN},,60 days\n{CARL},,\n")
    said = ask("account", "import", "a.csv", "--update")
    assert (said["added"], said["updated"]) == (1, 1)
    shown = ask("account", "show", ANN)
    assert (shown["quota"]["octets"], shown["serving"]["keep"]) == (5 << 20, 60 * 86400)


@pytest.mark.usefixtures("writes")
def test_a_dry_run_reports_the_same_and_changes_nothing(run, ask, office):
    Path("a.csv").write_text(f"address,forward\n{ANN},{BOB}\n{BOB},\n{BOB},\nx,\n")
    before = ask("account", "list")
    dry = ask("account", "import", "a.csv", "--dry-run", status=1)
    assert (dry["added"], [one["line"] for one in dry["errors"]]) == (2, [4, 5])
    assert ask("account", "list") == before
    wet = ask("account", "import", "a.csv", status=1)
    assert wet == {**dry, "dry_run": False}
    assert ask("account", "show", ANN)["forward"] == [BOB]


@pytest.mark.usefixtures("writes")
def test_a_line_may_need_what_a_line_before_it_has(run, ask, office):
    """Within one group, before anything of it is written."""
    run("account", "add", BOB, "--generate")
    run("account", "rename", BOB, "rob@example.net")
    rows = [f"{ANN},1", f"{BOB},2", f"{ANN},3", f"{CARL},4", f"{CARL},"]
    Path("a.csv").write_text("\n".join(["address,quota_messages", *rows]))
    said = ask("account", "import", "a.csv", "--update")
    assert (said["added"], said["updated"]) == (3, 2)
    accounts = {account["address"]: account for account, _ in accounts_of(office)}
    assert [accounts[one]["quota"].messages for one in (ANN, BOB, CARL)] == [3, 2, 4]
    assert accounts[BOB]["maildrop"] == "bob-2@example.net"
    lines = [f"x@example.net,{ANN}", f"y@example.net,x@example.net {BOB}", f"x@example.net,{CARL}"]
    Path("b.csv").write_text("\n".join(["address,targets", *lines, f"y@example.net,{BOB}"]))
    said = ask("alias", "import", "b.csv", "--update")
    assert (said["added"], said["updated"]) == (2, 2)
    assert ask("alias", "show", "x@example.net")["accounts"] == [CARL]
    assert ask("alias", "show", "y@example.net")["targets"] == [BOB]


@pytest.mark.usefixtures("writes")
@pytest.mark.parametrize("rows", [1, 3])
def test_a_loop_inside_a_file_is_reported_as_a_loop(ask, run, office, monkeypatch, rows):
    monkeypatch.setattr(import_groups, "GROUP", rows)
    lines = [
        "address,targets", "a@example.net,b@example.net", "b@example.net,c@example.net",
        f"c@example.net,a@example.net {POSTMASTER}", "d@example.net,nobody@example.net",
        "e@example.net,d@example.net",
    ]  # fmt: skip
    Path("a.csv").write_text("\n".join(lines))
    texts = [one["text"] for one in ask("alias", "import", "a.csv", status=1)["errors"]]
    loop = "a@example.net -> b@example.net -> c@example.net -> a@example.net"
    assert texts[0] == f"a@example.net cannot have these targets: a loop of aliases: {loop}"
    assert ["a loop of aliases" in one for one in texts] == [True, True, True, False, False]
    assert "d@example.net: there is no such address" in texts[4]
    Path("b.csv").write_text(f"address,forward\n{ANN},{BOB}\n{BOB},{ANN}\n")
    texts = [one["text"] for one in ask("account", "import", "b.csv", status=1)["errors"]]
    assert all("a loop of aliases" in one for one in texts)


@pytest.mark.usefixtures("writes")
def test_what_leads_to_an_imported_alias_must_still_be_followed(ask, run, office):
    """As in `alias add`: no more than ten in a row, seen from above, too."""
    names = [f"a{number}@example.net" for number in range(11)]
    for name, target in zip(names[:6], [POSTMASTER, *names], strict=False):
        run("alias", "add", name, target)
    for name, target in zip(names[6:10], [POSTMASTER, *names[6:]], strict=False):
        run("alias", "add", name, target)
    Path("a.csv").write_text(f"address,targets\na0@example.net,{names[9]}\n")
    said = ask("alias", "import", "a.csv", "--update")
    assert said["updated"] == 1
    run("alias", "set", names[0], POSTMASTER)
    run("alias", "add", names[10], names[9])
    said = ask("alias", "import", "a.csv", "--update")
    run("alias", "set", names[0], POSTMASTER)
    Path("a.csv").write_text(f"address,targets\na0@example.net,{names[10]}\n")
    said = ask("alias", "import", "a.csv", "--update", status=1)
    assert "leads to it: over 10 aliases in a row" in said["errors"][0]["text"]


def test_a_new_name_that_may_look_like_another_is_warned_about(ask, run, office):
    names = [ANN, "pаypal@example.net", "ａｎｎ@example.net", "straße@example.net"]
    Path("a.csv").write_text("\n".join(["address", *names]))
    said = ask("account", "import", "a.csv")
    assert said["added"] == 4
    assert [(one["line"], one["text"]) for one in said["warnings"]] == [
        (3, "pаypal@example.net mixes Cyrillic and Latin letters"),
        (4, "ａｎｎ@example.net looks like ann@example.net, and is another name"),
    ]
    Path("b.csv").write_text(f"address,targets\nbоb@example.net,{ANN}\n")
    assert "a.csv" not in run("alias", "import", "b.csv").stdout
    said = run("alias", "import", "b.csv", "--update").stdout
    assert "warning" not in said


def test_passwords_and_the_hashes_of_others_are_imported(run, office):
    lines = [
        {"address": ANN, "password": "correct horse"},
        {"address": BOB, "hash": "{SHA256}LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
        {"address": CARL, "hash": "{PLAIN}battery staple"},
    ]
    text = "\n".join(map(json.dumps, lines))
    run("account", "import", "--format", "jsonl", text=text)
    secrets = {one["address"]: one["secret"] for one, _ in accounts_of(office)}
    assert verify(secrets[ANN], b"correct horse")
    assert verify(secrets[BOB], b"hello")
    assert verify(secrets[CARL], b"battery staple")
    assert secrets[CARL].startswith("$argon2id$")


@pytest.mark.usefixtures("writes")
def test_aliases_may_name_those_that_come_later(run, ask, office):
    aliases = [f"a{number}@example.net" for number in range(9)]
    rows = [f"{one},{two}" for one, two in zip(aliases, [*aliases[1:], POSTMASTER], strict=True)]
    random.Random(5).shuffle(rows)
    Path("a.csv").write_text("\n".join(["address,targets", *rows]))
    assert ask("alias", "import", "a.csv")["added"] == 9
    assert ask("alias", "show", aliases[0])["accounts"] == [POSTMASTER]


def test_a_group_is_written_whole_or_not_at_all(run, ask, office, monkeypatch):
    """A disk that fails in the middle of a group leaves nothing of it."""
    monkeypatch.setattr(import_groups, "GROUP", 2)
    real = bulk_queries.add_accounts

    def fails(database, new):
        real(database, new)
        if any(account.address == CARL for account, _ in new):
            raise TemporaryFailure("the disk")

    monkeypatch.setattr(bulk_queries, "add_accounts", fails)
    names = (ANN, BOB, "bea@example.net", CARL)
    Path("a.csv").write_text("\n".join(["address,quota", *(f"{one},1GiB" for one in names)]))
    assert "the disk" in ask("account", "import", "a.csv", status=1)["error"]
    found = [one["address"] for one in ask("account", "list")["accounts"]]
    assert found == [ANN, BOB, POSTMASTER]
    monkeypatch.undo()


# -- what cannot be used ------------------------------------------------------------------

#: Lines of a CSV with the columns address, state, hash, quota, keep, forward; and why not.
BAD_ACCOUNTS = {
    "ann,,,,,": "'ann' is not an address",
    ",,,,,": "there is no address",
    f"{ANN},gone,,,,": "state: 'gone' is not one of enabled, disabled",
    f"{ANN},,{{ROT13}}x,,,": "hash: ",
    f"{ANN},,,much,,": "quota: 'much' is not a size",
    f"{ANN},,,,1 hour,": "keep: '1 hour' is not",
    f"{ANN},,,,,no@example.net": f"{ANN} cannot have the target no@example.net",
    f"{ANN},,,,,{ANN}": "a loop of aliases",
    f"{ANN},,,,,a b": "forward: 'a' is not an address",
    f"{ANN},,,,,joe@elsewhere.example": "elsewhere.example is another domain",
    "ann@elsewhere.example,,,,,": "elsewhere.example is not ours; postoffice domain add",
    f"{POSTMASTER},,,,,": "is here already",
    "info@example.net,,,,,": "info@example.net is an alias",
    f"{ANN},,": "it has 3 values, and there are 6 columns",
    f"{ANN},,,,,,,": "it has 8 values, and there are 6 columns",
    f"{ANN},\x1b[2J,,,,": r"state has control characters: '\x1b[2J'",
    f"{ANN},\udcff,,,,": "state is not UTF-8",
}


@pytest.mark.usefixtures("writes")
def test_each_line_that_cannot_be_used_is_reported_and_the_others_are_imported(ask, run, office):
    run("alias", "add", "info@example.net", POSTMASTER)
    lines = ["address,state,hash,quota,keep,forward", *BAD_ACCOUNTS, f"{BOB},,,,,"]
    Path("a.csv").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    said = ask("account", "import", "a.csv", status=1)
    assert said["added"] == 1
    assert [one["line"] for one in said["errors"]] == list(range(2, 2 + len(BAD_ACCOUNTS)))
    for one, why in zip(said["errors"], BAD_ACCOUNTS.values(), strict=True):
        assert why in one["text"]
    found = [one["address"] for one in ask("account", "list")["accounts"]]
    assert found == [BOB, POSTMASTER]


BAD_ALIASES = {
    "x@example.net,x@example.net,": "a loop of aliases",
    "x@example.net,,": "has no targets",
    f"x@example.net,{POSTMASTER},rob": "kind: 'rob' is not one of forward, refuse, discard",
    "x@example.net,,refuse": "needs words",
    f"{POSTMASTER},{POSTMASTER},": "is an account",
    f"*@example.net,{POSTMASTER},": "is the name of a catch-all",
    f"x@example.net,{' '.join(f'u{n}@example.net' for n in range(101))},": "has 101 targets",
    "y@example.net,z@example.net,": "there is no such address",
    f"good@example.net,{POSTMASTER},": "is here already; --update replaces it",
}


@pytest.mark.usefixtures("writes")
def test_each_alias_that_cannot_be_is_reported(ask, office):
    good = f"good@example.net,{POSTMASTER},"
    Path("a.csv").write_text("\r\n".join(["\ufeffaddress,targets,kind", good, *BAD_ALIASES]))
    said = ask("alias", "import", "a.csv", status=1)
    assert said["added"] == 1
    for one, why in zip(said["errors"], BAD_ALIASES.values(), strict=True):
        assert why in one["text"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ":1: the file is empty"),
        ("adress,quota\n", ":1: there is no column 'adress'; the columns are address, maildrop"),
        ("address;quota\n", ":1: there is no column 'address;quota'"),
        ("quota\n", ":1: the column 'address' is missing"),
        ("address,quota,quota\n", ":1: the column 'quota' is there twice"),
        (f'address\n"{ANN}\n', ":2: this is not CSV: unexpected end of data"),
        (f'address\n"{ANN}"x\n', ":2: this is not CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused_as_a_whole(run, office, text, why):
    Path("a.csv").write_text(text)
    said = run("account", "import", "a.csv", status=1).stdout
    assert f"a.csv{why}" in said
    assert "the rest was not read" in said


def test_a_file_that_is_not_there_or_is_there_already(run, ask, office):
    assert "No such file" in ask("account", "import", "a.csv", status=1)["error"]
    Path("a.csv").write_text("mine")
    assert "is there already" in ask("account", "export", "a.csv", status=1)["error"]
    assert Path("a.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "this is not JSON"),
        ("[1]", "this is not a JSON object"),
        ("[" * 100_000, "this is not JSON"),
        ('{"adress": "x"}', "there is no 'adress'; the names are address, targets"),
        ('{"address": 7}', "'7' is not an address"),
        ('{"address": "x@example.net", "targets": [7]}', "is not an address"),
        ('{"address": "x@example.net", "send": "perhaps"}', "send: 'perhaps' is neither yes nor"),
        ('{"address": "\\ud800@example.net"}', "is not UTF-8"),
        ("{}", "there is no address"),
    ],
)
def test_a_line_that_is_no_record_is_reported(ask, office, line, why):
    good = json.dumps({"address": "x@example.net", "targets": [POSTMASTER], "words": None})
    Path("a.jsonl").write_text(f"\n{line}\n{good}\n")
    said = ask("alias", "import", "a.jsonl", status=1)
    assert (said["added"], said["errors"][0]["line"]) == (1, 2)
    assert why in said["errors"][0]["text"]


class Endless(io.RawIOBase):
    """A gigabyte in one field, and how much of it was read."""

    def __init__(self) -> None:
        self.left = 1 << 30
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        octets = b"address\n" if not self.taken else b"x" * min(len(buffer), self.left)
        buffer[: len(octets)] = octets
        self.left -= len(octets)
        self.taken += len(octets)
        return len(octets)


def test_a_gigabyte_in_one_field_is_refused_before_it_is_read():
    raw = Endless()
    with pytest.raises(Unreadable, match=f"the line has over {LINE} octets"):
        list(read(io.BufferedReader(raw), "csv", ["address"], lambda _: None))
    assert raw.taken < 2 * LINE


def test_a_field_of_many_lines_is_refused_before_all_is_read():
    octets = b'address\n"' + b"x\n" * 1_000_000
    read_so_far = []
    with pytest.raises(Unreadable, match="field larger than field limit"):
        list(read(io.BytesIO(octets), "csv", ["address"], read_so_far.append))
    assert read_so_far[-1] < LINE


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{ANN}, {BOB}", [ANN, BOB]),
        (f" {ANN} {BOB},,{ANN} ", [ANN, BOB]),
        ('"a, b"@example.net c@example.net', ['"a, b"@example.net', "c@example.net"]),
        (" , ", []),
    ],
)
def test_addresses_stand_with_commas_or_spaces_between_them(text, found):
    assert [str(one) for one in address_list(text)] == found


def test_a_device_of_a_file_has_what_an_export_writes(ask, office):
    device = vars(AppPassword("phone", "id", "secret", None, 1.0, None, "any", ())) | {
        "networks": []
    }
    bad = [
        {**device, "networks": "all"},
        {**device, "networks": ["x"]},
        {**device, "protocol": "imap"},
        {**device, "added": "now"},
        {**device, "scram": "x"},
        {**device, "more": 1},
        7,
    ]
    rows = [{"address": ANN, "app_passwords": [one]} for one in bad]
    rows.append({"address": ANN, "app_passwords": [device]})
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = ask("account", "import", "a.jsonl", status=1)
    assert (said["added"], said["failed"]) == (1, len(bad))
    assert all(one["text"].startswith("app_passwords: ") for one in said["errors"])


@pytest.mark.usefixtures("writes")
def test_a_maildrop_of_another_account_is_refused(ask, run, office):
    Path("a.csv").write_text(f"address,maildrop\n{ANN},{POSTMASTER}\n{BOB},../../etc@example.net\n")
    said = ask("account", "import", "a.csv", status=1)
    assert [one["text"] for one in said["errors"]] == [
        f"the maildrop {POSTMASTER} belongs to another account",
        "maildrop: '../../etc@example.net' is not an address: '../../etc' is no local part",
    ]


def test_only_so_many_errors_are_kept(run, office, monkeypatch):
    monkeypatch.setattr(import_groups, "MOST", 2)
    Path("a.csv").write_text("address\n" + "x\n" * 5)
    said = run("account", "import", "a.csv", status=1).stdout.splitlines()
    assert said[2:] == ["and 3 more errors", "a.csv: 0 added, 0 updated, 5 errors"]


def test_records_are_read_one_by_one():
    columns = ["address", "targets"]
    found = list(
        record_files.read(io.BytesIO(b"address\nx\n\ny,\n"), "csv", columns, lambda _: None)
    )
    assert found[0] == Record(2, {"address": "x"})
    assert isinstance(found[1], BadRecord)
    assert found[1].line == 4
