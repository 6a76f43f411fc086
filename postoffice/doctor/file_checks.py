"""Examines who can read and change our files: state, configuration, secrets.  It blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from postoffice.config.settings import Settings
from postoffice.doctor.findings import Finding, Report
from postoffice.util.file_modes import may

#: Names in the state folder that hold secrets: keys, hashes of passwords.
_SECRET = (".key", ".db", ".secret")
#: Files of the state folder that are looked at, at most.
MOST = 10000


def check_modes(settings: Settings) -> list[Finding]:
    """Examine the modes of files and folders; this process need not own them."""
    report = Report("files")
    for path, secret in _files(settings):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue  # other checks report a missing file
        if mode & stat.S_IWOTH and not (mode & stat.S_ISVTX):
            report.error(f"every user can change {path}", f"chmod o-w {path}", where=path)
        elif secret and mode & (stat.S_IROTH | stat.S_IXOTH * stat.S_ISDIR(mode)):
            report.error(
                f"every user can read {path}, which holds secrets", f"chmod o= {path}", where=path
            )
    if not report.findings:
        report.ok("nobody else can read or change our files", where=settings.state)
    return report.findings


def _files(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Yield paths, and whether what is there is secret."""
    if not settings.first_run:
        yield settings.source.file, False
    yield settings.state, True
    if not _is_open(settings.state):
        return  # others cannot enter the folder
    for number, path in enumerate(_below(settings.state)):
        if number >= MOST:
            break
        yield path, path.endswith(_SECRET)


def _is_open(folder: str) -> bool:
    try:
        return bool(os.stat(folder).st_mode & stat.S_IXOTH)
    except OSError:
        return False


def _below(state: str) -> Iterator[str]:
    """Yield the files of the state folder and of its folders of keys, without the mail."""
    for folder in (state, os.path.join(state, "dkim")):
        try:
            with os.scandir(folder) as items:
                paths = [item.path for item in items]
        except OSError:
            continue
        yield from paths


def check_access(settings: Settings, me: str) -> list[Finding]:
    """Examine what ``me``, the user of the daemon and of this process, can read and write."""
    report = Report("files")
    state = settings.state
    if os.path.isdir(state):
        if may(state, os.R_OK | os.W_OK | os.X_OK):
            report.ok(f"{me} may write to the state folder", where=state)
        else:
            report.error(
                f"{me} may not write to the state folder {state}", f"chown -R {me} {state}",
                where=state,
            )  # fmt: skip
    for files in settings.tls.certificates:
        for path in (files.certificate, files.key):
            if os.path.exists(path) and not may(path, os.R_OK):
                report.warning(
                    f"{path} cannot be read by {me}: a renewed one is used only after a restart",
                    f"let {me} read it: setfacl -m u:{me}:r {path}",
                    where=path,
                )
    return [*report.findings, *_passwords(settings, me)]


def _passwords(settings: Settings, me: str) -> list[Finding]:
    report = Report("files")
    for one in settings.outbound.smarthosts.values() if settings.outbound else ():
        path = one.password_file
        if path is None or not os.path.exists(path):
            continue
        if not may(path, os.R_OK):
            report.warning(
                f"{path} cannot be read by {me}: a reload of the configuration fails",
                f"chown {me} {path}",
                where=path,
            )
    return report.findings
