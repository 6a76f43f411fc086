"""
Checks of the configuration on this machine, for startup and for check-config.

They run as the user of the daemon, and block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from postoffice.config.outbound import OutboundSettings
from postoffice.daemon.privileges import name, nearest
from postoffice.server.certificates import CertificateFiles
from postoffice.util.file_modes import may


def state_problem(state: str) -> str:
    """Return why the state folder cannot be used or created; "" if it can."""
    me = name()
    there = nearest(state, os.path.lexists)
    if not os.path.isdir(there):
        return f"{there} is not a folder"
    if may(there, os.R_OK | os.W_OK | os.X_OK if there == state else os.W_OK | os.X_OK):
        return ""
    if there == state:
        return f"{me} may not write to the folder {state}: chown -R {me} {state}"
    return (
        f"{state} cannot be made: {me} may not write to {there}; make it, and let it belong to {me}"
    )


def key_warnings(certificates: Iterable[CertificateFiles]) -> list[str]:
    """Return warnings for certificates and keys whose renewals the current user cannot read."""
    return [
        f"{path} cannot be read by {name()}: a renewed one is used only after a restart"
        for files in certificates
        for path in (files.certificate, files.key)
        if os.geteuid() != 0 and not may(path, os.R_OK)
    ]


def password_warnings(outbound: OutboundSettings) -> list[str]:
    """Return warnings for password files that the current user cannot read."""
    return [
        f"{path} cannot be read by {name()}: a reload of the configuration will fail"
        for one in outbound.smarthosts.values()
        if (path := one.password_file) is not None and not may(path, os.R_OK)
    ]
