"""The unit with which systemd runs the post office, and its installation."""

from __future__ import annotations

import os
import re
import subprocess
from string import Template

from postoffice.cli.command import Refused
from postoffice.daemon import new_files

NAME = "postoffice.service"
#: The folder of an administrator's units.
UNITS = "/etc/systemd/system"
#: The folders of the units of packages.
OF_PACKAGES = ("/usr/lib/systemd/system", "/lib/systemd/system")
#: This folder exists while systemd runs the machine.
RUNNING = "/run/systemd/system"
#: Folders that the unit hides from the daemon (ProtectHome=, PrivateTmp=).
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
_PLAIN = re.compile(r"/[A-Za-z0-9._/+-]*\Z")

_TEXT = """\
# A post office under systemd.
#
# It never is root: systemd hands it the right to open ports below 1024, and keeps from it all
# that it does not need.  It expects the user $user, the post office installed in
# $prefix, and its configuration in $configuration, with
# `state: $folder`, and `user: $user` for the `postoffice` command.
# Where the accounts or the store lie elsewhere, name their folders in ReadWritePaths=.
[Unit]
Description=Mail post office (SMTP, POP3)
After=network-online.target
Wants=network-online.target

[Service]
# The daemon says when it is ready and when a reload has ended.  systemd before 253 ignores the
# second line.  `systemctl reload` does not show errors of the configuration; `postoffice reload`
# does.
Type=notify
Type=notify-reload
# A start may have to recover the journal of a large store.
TimeoutStartSec=infinity
# A daemon that hangs for so long is killed and started again.
WatchdogSec=60
User=$user
Group=$group
ExecStart=$programs/twistd --nodaemon --pidfile= postoffice --config $configuration
Restart=on-failure
RestartSec=2
# Sessions have 30 seconds to come to an end.
TimeoutStopSec=40
LimitNOFILE=65536
UMask=0077
$state
RuntimeDirectory=postoffice

AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# No ProcSubset=pid: the journal has to know from /proc/sys whether the machine was started anew.
ProtectProc=invisible
PrivateDevices=yes
PrivateTmp=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def text(
    prefix: str = "/opt/postoffice",
    configuration: str = "/etc/postoffice/postoffice.yaml",
    state: str = "/var/lib/postoffice",
    user: str = "postoffice",
    group: str = "postoffice",
) -> str:
    """Return the unit of a post office that is installed in ``prefix``, with these paths."""
    where = f"WorkingDirectory={state}\n"
    if os.path.dirname(state) == "/var/lib":
        where += f"StateDirectory={os.path.basename(state)}\nStateDirectoryMode=0700"
    else:
        where += f"ReadWritePaths={state}"
    return Template(_TEXT).substitute(
        prefix=prefix,
        programs=f"{prefix}/bin",
        configuration=configuration,
        folder=state,
        state=where,
        user=user,
        group=group,
    )


def trouble(*paths: str) -> str:
    """Return why a unit cannot use these paths; "" if it can."""
    for path in map(os.path.realpath, paths):
        if not _PLAIN.match(path):
            return f"the path {path} has characters that a unit cannot have"
        hiding = next((one for one in HIDDEN if f"{path}/".startswith(f"{one}/")), None)
        if hiding is not None:
            return f"the unit hides {hiding} from the daemon, and {path} is there"
    return ""


def runs() -> bool:
    """Return whether systemd runs this machine."""
    return os.path.isdir(RUNNING)


def install(folder: str, unit: str) -> tuple[str, bool]:
    """
    Write the unit into a folder and let systemd know; return its path, and whether it is new.

    A unit that is there stays, also one of a package.  Raises Refused.
    """
    path = os.path.join(folder, NAME)
    there = [f"{one}/{NAME}" for one in OF_PACKAGES if os.path.exists(f"{one}/{NAME}")]
    if folder == UNITS and there and not os.path.lexists(path):
        return there[0], False
    try:
        with new_files.file(path, 0o644) as file:
            file.write(unit.encode())
    except FileExistsError:
        return path, False
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from error
    if runs() and folder == UNITS:
        _reload()
    return path, True


def _reload() -> None:
    done = subprocess.run(["systemctl", "daemon-reload"], capture_output=True, text=True)  # noqa: S607
    if done.returncode:
        raise Refused(f"systemctl daemon-reload failed: {done.stderr.strip()}")
