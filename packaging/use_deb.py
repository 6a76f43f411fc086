"""What packaging/try-deb does with the package where it is installed: as root, on free ports."""

import json
import os
import poplib
import pwd
import shlex
import smtplib
import ssl
import subprocess

ANN = "ann@example.net"
UNIT = "/lib/systemd/system/postoffice.service"


def quickstart() -> dict:
    words = ["postoffice", "quickstart", ANN, "--direct", "--offline", "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def started() -> subprocess.Popen:
    """Start what the unit starts, as its user; root opens the ports here, not systemd."""
    with open(UNIT) as file:
        facts = dict(line.strip().split("=", 1) for line in file if "=" in line and line[0] != "#")
    assert facts["User"] == "postoffice"
    return subprocess.Popen(
        shlex.split(facts["ExecStart"]), cwd="/", stdout=subprocess.PIPE, text=True
    )


def use(word: str, open_ports: str) -> None:
    for port in (25, 465, 587, 995):
        assert f":{port}" in open_ports, open_ports
    trusted = ssl.create_default_context(cafile="/etc/postoffice/tls/certificate.pem")
    with smtplib.SMTP("localhost", 25) as stranger:
        stranger.sendmail("me@example.org", [ANN], b"Subject: one\r\n\r\n")
    with smtplib.SMTP_SSL("localhost", 465, context=trusted) as own:
        own.login(ANN, word)
        own.sendmail(ANN, [ANN], b"Subject: two\r\n\r\n")
    client = poplib.POP3_SSL("localhost", 995, context=trusted)
    client.user(ANN)
    client.pass_(word)
    assert client.stat()[0] == 2
    subjects = [line for n in (1, 2) for line in client.retr(n)[1] if line.startswith(b"Subject")]
    assert subjects == [b"Subject: one", b"Subject: two"], subjects
    client.quit()


made = quickstart()
print("\n".join(made["made"]))
assert made["next"] in (["systemctl enable --now postoffice"],) or "twistd" in made["next"][0]
daemon = started()
for line in daemon.stdout:
    if "the post office is open" in line:
        break
else:
    raise SystemExit("the daemon ended")
with open(f"/proc/{daemon.pid}/status") as file:
    uid = next(line.split()[1] for line in file if line.startswith("Uid:"))
assert int(uid) == pwd.getpwnam("postoffice").pw_uid
use(made["generated_password"], line)
again = quickstart()
assert again["made"] == [], again["made"]
errors = [one for one in again["doctor"]["findings"] if one["level"] == "error"]
assert not [one for one in errors if one["kind"] != "system"], errors
daemon.terminate()
daemon.stdout.read()
assert daemon.wait() in (0, -15)
assert os.stat("/var/lib/postoffice").st_mode & 0o777 == 0o700
print("a message came in, one was sent, both were collected")
