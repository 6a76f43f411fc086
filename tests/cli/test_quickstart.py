"""`postoffice quickstart`: from an address to a post office; what is there stays."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from postoffice.cli import self_signed, systemd_unit
from postoffice.cli.command import Refused
from postoffice.config import loader
from postoffice.daemon import privileges
from postoffice.daemon.build import find_maker
from postoffice.model.route import Direct

ANN = "ann@example.net"
QUICK = ("quickstart", "--offline")
WORDS = (*QUICK, ANN, "--folder", "office", "--hostname", "mail.example.net")


@pytest.fixture(autouse=True)
def ordinary(monkeypatch):
    """Here it is no root who asks; tests/trip/test_quickstart.py has root's."""
    monkeypatch.setattr(privileges, "is_root", lambda: False)


def settings(folder):
    return loader.load(str(folder / "office" / "postoffice.yaml"), find_maker)


def kept_text(folder) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(("accounts.db", "logins.db"))
    }


def test_an_address_is_enough(run, ask, tmp_path):
    made = ask(*QUICK, ANN)
    there = "--config=postoffice/postoffice.yaml"
    assert made["configuration"] == "postoffice/postoffice.yaml"
    assert (made["domain"], made["address"], made["kept"]) == ("example.net", ANN, [])
    assert re.fullmatch(r"(\w{6}-){2}\w{6}", made["generated_password"])
    assert ask("check-config", there)["problems"] == []
    [account] = ask("account", "list", there)["accounts"]
    assert (account["address"], account["password"]) == (ANN, True)
    assert made["hostname"] == made["dns"][0]["name"]
    assert "twistd -n postoffice --config " in made["next"][0]
    assert made["doctor"]["level"] == "error"  # it does not run yet
    errors = {one["kind"] for one in made["doctor"]["findings"] if one["level"] == "error"}
    assert errors == {"daemon"}


def test_the_account_is_the_postmasters(run, tmp_path):
    run(*WORDS)
    found = settings(tmp_path)
    assert found.postmaster.normal == ANN
    assert found.outbound is None
    assert found.user is None


def test_people_are_told_what_they_need(run):
    said = run(*WORDS, "--direct").stdout
    assert re.search(r"^Password:  \S{20}\nIt is shown this once.$", said, re.MULTILINE)
    assert re.search(r"incoming +POP3 +127.0.0.1 +port 2995 +TLS", said)
    assert re.search(r"outgoing +SMTP +127.0.0.1 +port 2465 +TLS", said)
    assert "example.net. IN MX 10 mail.example.net." in said
    assert re.search(r'_domainkey.example.net. IN TXT "v=DKIM1; k=ed25519; p=\S+"', said)
    assert "self-signed certificate" in said
    doctor, start = said.index("The doctor says:"), said.index("Start it:")
    assert said.index("DNS records:") < doctor < said.index("the daemon does not run") < start


def test_with_direct_mail_leaves_and_is_signed(run, ask, tmp_path):
    made = ask(*WORDS, "--direct")
    assert isinstance(settings(tmp_path).outbound.routes[0].via, Direct)
    keys = ask("dkim", "list", "--config=office/postoffice.yaml")["keys"]
    assert [(one["domain"], one["state"]) for one in keys] == [("example.net", "waiting")] * 2
    names = [one["name"] for one in made["dns"] if one["purpose"] == "dkim"]
    assert names == [f"{one['selector']}._domainkey.example.net" for one in keys]


def test_what_is_there_stays(run, ask, tmp_path):
    first = ask(*WORDS, "--direct")
    before = kept_text(tmp_path)
    again = ask(*WORDS, "--direct")
    assert kept_text(tmp_path) == before
    assert again["made"] == []
    assert "generated_password" not in again
    assert "the account ann@example.net" in again["kept"]
    assert again["dns"] == first["dns"]
    said = run(*WORDS).stdout
    assert "Its password stays; for a new one: postoffice account passwd ann@example.net" in said


def test_a_second_domain_joins(ask, tmp_path):
    ask(*WORDS)
    more = ask(*QUICK, "bob@example.org", "--folder", "office")
    assert more["made"] == ["the domain example.org", "the account bob@example.org"]
    assert more["hostname"] == "mail.example.net"  # as the configuration has it
    assert settings(tmp_path).postmaster.normal == ANN


def test_a_wish_that_the_configuration_does_not_fulfil_is_told(ask, tmp_path):
    ask(*WORDS)
    [note] = ask(*WORDS, "--direct")["notes"]
    assert "office/postoffice.yaml is kept and has no outbound" in note
    assert not (tmp_path / "office" / "state" / "dkim").exists()


def certificate(folder, host="mail.example.net", key=None) -> None:
    (folder / host).mkdir(parents=True)
    pem, own = self_signed.make([host])
    (folder / host / "fullchain.pem").write_bytes(pem)
    (folder / host / "privkey.pem").write_bytes(key or own)


def test_a_certificate_that_is_there_is_used(ask, tmp_path):
    live = tmp_path / "live"
    certificate(live)
    made = ask(*WORDS, "--certificates", str(live))
    [files] = settings(tmp_path).tls.certificates
    assert files.certificate == str(live / "mail.example.net" / "fullchain.pem")
    assert files.key == str(live / "mail.example.net" / "privkey.pem")
    assert not [note for note in made["notes"] if "self-signed" in note]
    assert not (tmp_path / "office" / "tls").exists()


def test_a_certificate_of_another_key_is_refused_before_anything_is_made(run, tmp_path):
    live = tmp_path / "live"
    certificate(live, key=self_signed.make(["x"])[1])
    said = run(*WORDS, "--certificates", str(live), status=1).output
    assert "does not belong to the certificate" in said
    assert not (tmp_path / "office").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("ann",), "'ann'"),
        (("ann@[192.0.2.1]",), "is an address literal, not a domain"),
        ((ANN, "--hostname", "a b"), "'a b' is not a domain"),
        ((ANN, "--user", "nobody"), "--user is for root"),
        ((ANN, "--folder", "a-file"), "is a file"),
    ],
)
def test_words_that_make_no_sense_make_nothing(words, why, run, tmp_path):
    (tmp_path / "a-file").write_text("mine")
    said = " ".join(run(*QUICK, *words, status=2).output.split())
    assert why in said
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_folder_that_cannot_be_is_told(run, tmp_path):
    (tmp_path / "a-file").write_text("mine")
    said = run(*QUICK, ANN, "--folder", "a-file/office", status=1).output
    assert said == "postoffice: a-file/office cannot be made: Not a directory\n"


def test_a_broken_configuration_is_shown_and_kept(run, tmp_path):
    (tmp_path / "office").mkdir()
    (tmp_path / "office" / "postoffice.yaml").write_text("hostnam: x\n")
    said = run(*WORDS, status=2).output
    assert "office/postoffice.yaml:1: hostnam: unknown key" in said
    assert (tmp_path / "office" / "postoffice.yaml").read_text() == "hostnam: x\n"


def test_mail_of_an_earlier_account_is_given_to_nobody(run, tmp_path):
    run(*WORDS)
    there = "--config=office/postoffice.yaml"
    new = tmp_path / "office" / "state" / "maildrops" / "example.net" / "bob" / "new"
    new.mkdir(parents=True)
    for name in ("cur", "tmp"):
        (new.parent / name).mkdir()
    (new / "1.x.y").write_bytes(b"Subject: x\r\n\r\n")
    said = run(*QUICK, "bob@example.net", "--folder", "office", status=1).output
    assert "postoffice account add bob@example.net --adopt-mail" in said
    assert "bob@" not in run("account", "list", there).stdout


# -- the unit ----------------------------------------------------------------------------


def test_a_unit_is_written_once(tmp_path):
    unit = systemd_unit.text("/opt/x", "/srv/mail/postoffice.yaml", "/srv/mail/state", "mail", "8")
    path = str(tmp_path / "postoffice.service")
    assert systemd_unit.install(str(tmp_path), unit) == (path, True)
    assert (tmp_path / "postoffice.service").read_text() == unit
    assert systemd_unit.install(str(tmp_path), "another") == (path, False)
    assert (tmp_path / "postoffice.service").read_text() == unit
    for line in (
        "User=mail",
        "Group=8",
        "ExecStart=/opt/x/bin/twistd --nodaemon --pidfile= postoffice "
        "--config /srv/mail/postoffice.yaml",
        "ReadWritePaths=/srv/mail/state",
    ):
        assert f"\n{line}\n" in unit
    assert "StateDirectory" not in unit


def test_a_unit_of_a_package_is_used(tmp_path, monkeypatch):
    package, own = tmp_path / "lib", tmp_path / "etc"
    package.mkdir()
    own.mkdir()
    (package / "postoffice.service").write_text("of the package")
    monkeypatch.setattr(systemd_unit, "OF_PACKAGES", (str(package),))
    monkeypatch.setattr(systemd_unit, "UNITS", str(own))
    there = str(package / "postoffice.service")
    assert systemd_unit.install(str(own), "another") == (there, False)
    assert list(own.iterdir()) == []


def test_a_unit_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(Refused, match=r"nowhere/postoffice.service cannot be written: No such"):
        systemd_unit.install(str(tmp_path / "nowhere"), "x")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/opt/postoffice", ""),
        ("/opt/post office", "has characters that a unit cannot have"),
        ("/opt/50%", "has characters that a unit cannot have"),
        ("/home/ann/venv", "hides /home"),
        ("/root", "hides /root"),
        ("/rooted", ""),
    ],
)
def test_what_a_unit_cannot_reach_is_told(path, why):
    assert why in systemd_unit.trouble(path)
    assert bool(systemd_unit.trouble(path)) == bool(why)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path):
    path = tmp_path / "postoffice.service"
    text = systemd_unit.text("/usr", user="daemon", group="daemon")
    path.write_text(text.replace("/usr/bin/twistd", "/bin/true"))
    words = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    lines = [line for line in done.stderr.split("\n") if "postoffice.service" in line]
    assert [line for line in lines if "notify-reload" not in line] == []  # systemd before 253
