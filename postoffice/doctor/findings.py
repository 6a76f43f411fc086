"""Findings: how bad something is, what and where it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

#: How bad a finding is.  A note needs no action.
OK, NOTE, WARNING, ERROR = LEVELS = ("ok", "note", "warning", "error")
#: What is examined, in the order of the report, each with its heading.
KINDS = {
    "config": "Configuration",
    "daemon": "Daemon and ports",
    "tls": "Certificates",
    "system": "This machine",
    "files": "Files and permissions",
    "mail": "Mail that nobody gets",
    "queue": "Queue",
    "dns": "DNS",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """
    One finding: ``kind`` is one of KINDS, ``level`` of LEVELS.

    ``where`` is a domain, a file, a listener or "".  ``mend`` is the sentence that says what to do.
    """

    kind: str
    level: str
    what: str
    where: str = ""
    mend: str = ""

    def data(self) -> dict[str, str]:
        """Return the finding for JSON."""
        return asdict(self)


class Report:
    """Collects findings of one kind: ``report.warning("…", mend="…")``."""

    def __init__(self, kind: str, where: str = "") -> None:
        self.kind = kind
        self.where = where
        self.findings: list[Finding] = []

    def add(self, level: str, what: str, mend: str = "", where: str | None = None) -> None:
        where = self.where if where is None else where
        self.findings.append(
            Finding(kind=self.kind, level=level, what=what, where=where, mend=mend)
        )

    def ok(self, what: str, *, where: str | None = None) -> None:
        self.add(OK, what, "", where)

    def note(self, what: str, mend: str = "", *, where: str | None = None) -> None:
        self.add(NOTE, what, mend, where)

    def warning(self, what: str, mend: str = "", *, where: str | None = None) -> None:
        self.add(WARNING, what, mend, where)

    def error(self, what: str, mend: str = "", *, where: str | None = None) -> None:
        self.add(ERROR, what, mend, where)


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst level; OK without findings."""
    return max((one.level for one in findings), key=LEVELS.index, default=OK)


def status(findings: Iterable[Finding]) -> int:
    """Return the exit code for monitoring: 2 with errors, 1 with warnings, else 0."""
    return max(0, LEVELS.index(worst(findings)) - 1)
