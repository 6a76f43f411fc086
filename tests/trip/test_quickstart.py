"""`postoffice quickstart` as root types it, and the daemon of the post office that it makes."""

from __future__ import annotations

import json
import os
import poplib
import pwd
import smtplib
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from postoffice.cli import self_signed

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ANN, HOST = "ann@example.net", "mail.example.net"
SERVICES = ("smtp", "submission", "submissions", "pop3s", "lmtp", "pop3")
pytestmark = ROOT_ONLY


@pytest.fixture
def machine():
    """A folder that other users reach, as / is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "letsencrypt" / "live").mkdir(parents=True)
        yield Path(name)


@pytest.fixture
def quickstart(machine, command):
    """Runs it for a post office of nobody's; what it answers."""

    def quickstart(*more: str) -> dict:
        done = command(
            *("quickstart", "--offline", ANN, "--folder", str(machine / "etc"), "--hostname", HOST),
            *("--user", "nobody", "--certificates", str(machine / "letsencrypt" / "live")),
            *(*more, "--json"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return quickstart


def with_free_ports(folder: Path) -> None:
    """The usual ports may be another's, here: any will do."""
    file = folder / "postoffice.yaml"
    lines = file.read_text().split("\n")
    for number, line in enumerate(lines):
        service = line.strip().partition(":")[0].removeprefix("# ")
        if service in SERVICES and "tcp" in line:
            lines[number] = f'  {service}: ["tcp:0:interface=127.0.0.1"]'
    file.write_text("\n".join(lines))


def test_what_it_makes_opens_and_carries_mail(machine, quickstart, start):
    made = quickstart()
    etc = machine / "etc"
    text = (etc / "postoffice.yaml").read_text()
    for port in (25, 587, 465, 995):
        assert f':{port}"]' in text
    assert [(one["host"], one["port"], one["security"]) for one in made["programs"]] == [
        (HOST, 995, "TLS"), (HOST, 465, "TLS"),
    ]  # fmt: skip
    with_free_ports(etc)
    office = start(cwd=etc).open()
    uid = pwd.getpwnam("nobody").pw_uid
    assert f"\nUid:\t{uid}\t" in Path(f"/proc/{office.pid}/status").read_text()
    trusted = ssl.create_default_context(cafile=etc / "tls" / "certificate.pem")
    trusted.check_hostname = False  # it is for the host and for localhost
    word = made["generated_password"]
    with smtplib.SMTP("127.0.0.1", office.smtp) as stranger:
        stranger.sendmail(
            "me@example.org", [ANN, "postmaster@example.net"], b"Subject: one\r\n\r\n"
        )
    with smtplib.SMTP_SSL("127.0.0.1", office.ports["submissions"], context=trusted) as own:
        own.login(ANN, word)
        own.sendmail(ANN, [ANN], b"Subject: two\r\n\r\n")
    client = poplib.POP3_SSL("127.0.0.1", office.ports["pop3s"], context=trusted)
    client.user(ANN)
    client.pass_(word)
    subjects = [line for n in (1, 2) for line in client.retr(n)[1] if line[:8] == b"Subject:"]
    assert subjects == [b"Subject: one", b"Subject: two"]
    client.quit()
    again = quickstart()  # while it runs
    assert (again["made"], again["kept"][0]) == ([], str(etc / "postoffice.yaml"))
    told = [one for one in again["doctor"]["findings"] if one["kind"] == "daemon"]
    assert [one for one in told if "does not run" in one["what"]] == []
    office.check()


def test_certbots_files_are_copied_and_renewed_by_a_hook(machine, quickstart):
    lineage = machine / "letsencrypt" / "live" / HOST
    hook = machine / "letsencrypt" / "renewal-hooks" / "deploy" / "postoffice"
    lineage.mkdir()
    hook.parent.mkdir(parents=True)

    def renew() -> list[bytes]:
        made = self_signed.make([HOST])
        for name, octets in zip(("fullchain.pem", "privkey.pem"), made, strict=True):
            (lineage / name).write_bytes(octets)
        (lineage / "privkey.pem").chmod(0o600)
        return list(made)

    def copies() -> list[bytes]:
        return [(machine / "etc" / "tls" / f"{name}.pem").read_bytes()
                for name in ("certificate", "key")]  # fmt: skip

    first = renew()
    assert f"{hook}, which copies renewed certificates" in quickstart()["made"]
    assert copies() == first
    second = renew()
    other = {"RENEWED_LINEAGE": str(lineage.parent / "another.example"), "PATH": os.environ["PATH"]}
    subprocess.run([str(hook)], env=other, check=True)
    assert copies() == first
    subprocess.run([str(hook)], env={**other, "RENEWED_LINEAGE": str(lineage)}, check=True)
    assert copies() == second
    status = (machine / "etc" / "tls" / "key.pem").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 0o400)
    hook.write_text("mine")
    quickstart()
    assert hook.read_text() == "mine"


def test_without_room_for_a_hook_that_is_told(machine, quickstart):
    lineage = machine / "letsencrypt" / "live" / HOST
    lineage.mkdir()
    for name, octets in zip(
        ("fullchain.pem", "privkey.pem"), self_signed.make([HOST]), strict=True
    ):
        (lineage / name).write_bytes(octets)
    [note] = quickstart()["notes"][:1]
    assert "copy renewed certificates to" in note


#: Runs its words with an /etc of their own, which is gone at the end.
PRIVATE = """\
mount -t tmpfs none "$0" && mkdir "$0/upper" "$0/work" &&
mount -t overlay -o lowerdir=/etc,upperdir="$0/upper",workdir="$0/work" none /etc || exit 77
"$@"; code=$?; getent passwd postoffice-trial; exit $code"""


def test_the_user_is_made(machine, tmp_path):
    layer = tmp_path / "layer"
    layer.mkdir()
    program = Path(sys.executable).with_name("postoffice")
    words = [str(program), "quickstart", "--offline", ANN, "--json"]
    words += ["--folder", str(machine / "etc")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", PRIVATE, str(layer), *words, "--user", "postoffice-trial"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no /etc of our own can be had here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"the user postoffice-trial"' in done.stdout
    entry = done.stdout.strip().split("\n")[-1].split(":")
    assert (entry[0], entry[5:]) == (
        "postoffice-trial", [str(machine / "etc" / "state"), "/usr/sbin/nologin"],
    )  # fmt: skip
    assert (machine / "etc" / "state").stat().st_uid == int(entry[2])
    with pytest.raises(KeyError):
        pwd.getpwnam("postoffice-trial")


def test_a_unit_that_could_not_reach_it_is_not_written(machine, quickstart, monkeypatch):
    made = quickstart("--units", str(machine))
    assert not (machine / "postoffice.service").exists()
    [note] = [one for one in made["notes"] if "systemd unit" in one]
    assert "the unit hides " in note
    assert made["next"][0].startswith("twistd -n postoffice --config ")
