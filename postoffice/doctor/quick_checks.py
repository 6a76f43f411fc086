"""The checks that take a moment, for the overview of the web page.  They block."""

from __future__ import annotations

import os

from postoffice.config.settings import Settings
from postoffice.doctor.certificate_checks import check_certificates
from postoffice.doctor.file_checks import check_modes
from postoffice.doctor.findings import Finding
from postoffice.doctor.mail_checks import check_set_aside
from postoffice.doctor.system_checks import check_system


def quick_findings(settings: Settings, store: str = "") -> list[Finding]:
    """Examine certificates, this machine and files; ``store`` is the folder of the maildrops."""
    connections = settings.limits.connections
    return [
        *check_certificates(settings.tls.certificates, settings.hostname),
        *check_system(settings.state, connections, os.getpid()),
        *check_modes(settings),
        *(check_set_aside(store) if store else ()),
    ]
