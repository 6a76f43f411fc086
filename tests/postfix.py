"""A Postfix of a test's own, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

_MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = all
inet_protocols = ipv4
mydestination =
alias_maps =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
maillog_file = /dev/stdout
"""
_MASTER = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


@contextmanager
def postfix(home: Path, launch, settings: str, services: Mapping[str, str]) -> Iterator:
    """
    Run Debian's Postfix, with these ``settings`` of main.cf: its process.

    ``services`` are the SMTP servers, such as 127.0.0.1:25, with options of their own.
    """
    if os.geteuid():
        pytest.skip("Postfix needs root")
    if not shutil.which("postfix"):
        pytest.skip("postfix is not installed")
    for name in ("", "queue", "data"):
        (home / name).mkdir(exist_ok=True)
    os.chown(home / "data", pwd.getpwnam("postfix").pw_uid, -1)
    (home / "main.cf").write_text(_MAIN.format(home=home) + settings)
    servers = "".join(
        f"{where} inet n - n - - smtpd {options}\n" for where, options in services.items()
    )
    (home / "master.cf").write_text(servers + _MASTER)
    with launch(["postfix", "-c", str(home), "start-fg"], home) as running:
        running.wait_for("daemon started")
        try:
            yield running
        finally:  # its master is in a session of its own
            subprocess.run(["postfix", "-c", str(home), "abort"], capture_output=True, check=True)
            running.end()  # "stop" would look every second whether it has ended
