"""`postoffice doctor` without the DNS, and the records of a domain; with the daemon: in trip/."""

from __future__ import annotations

import pytest

from tests.cli.backups import put


@pytest.fixture
def findings(ask):
    """What the doctor finds of some kinds: what it says, by level; and the exit code."""

    def findings(*kinds, status):
        only = [word for kind in kinds for word in ("--only", kind)]
        found = ask("doctor", "--offline", *only, status=status)
        assert {one["kind"] for one in found["findings"]} == set(kinds)
        return found

    return findings


def test_the_daemon_is_down_and_all_kinds_are_examined(office, run):
    said = run("doctor", "--offline", status=2).stdout
    assert "  error    the daemon does not run" in said
    assert "→ start it" in said
    assert "Mail that nobody gets\n  ok " in said
    assert said.splitlines()[-1].startswith("1 error")
    quiet = run("doctor", "--offline", "--quiet", status=2).stdout
    assert "  ok " not in quiet


def test_mail_without_an_account_and_dead_ends(here, run, findings):
    before = findings("mail", status=0)
    assert before["level"] == "ok"
    run("alias", "add", "info@example.net", "ann@example.net")
    run("account", "remove", "ann@example.net", "--delete-mail")
    put(here / "state" / "maildrops" / "example.net" / "gone", 9, b"Subject: x\r\n\r\n")
    found = findings("mail", status=1)
    said = " ".join(one["what"] for one in found["findings"] if one["level"] == "warning")
    assert "gone@example.net (1 messages)" in said
    assert "info@example.net has the target ann@example.net" in said


def test_a_broken_configuration_is_a_finding(office, ask):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text() + "postmastr: x\n")
    found = ask("doctor", "--offline", status=2)
    assert found["level"] == "error"
    assert "did you mean postmaster" in found["findings"][0]["what"]


def test_an_office_that_never_started_and_one_that_cannot(office, run, findings, ask):
    assert findings("files", "queue", status=0)["level"] == "note"
    (office / "state").mkdir(exist_ok=True)
    (office / "state" / "accounts.db").write_bytes(b"this is no database" * 100)
    found = ask("doctor", "--offline", "--only", "mail", status=2)
    assert any("cannot open" in one["what"] for one in found["findings"])


def test_the_records_of_a_domain(office, run, ask):
    said = run("domain", "records", "example.net").stdout
    assert "\nexample.net. IN MX 10 mail.example.net.\n" in said
    run("dkim", "add", "example.net")
    found = ask("domain", "records", "example.net")
    kinds = [one["purpose"] for one in found["records"]]
    assert kinds.count("dkim") == 2
    assert [one["purpose"] for one in found["host"]] == ["host"]
    assert "no domain" in run("domain", "records", "example.com", status=1).output
