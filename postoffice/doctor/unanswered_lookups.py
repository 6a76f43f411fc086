"""Look-ups without an answer: a finding for each, or one finding if the DNS is down."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.doctor.findings import WARNING, Finding, Report
from postoffice.model.dns_answer import Ask, DNSUnavailable, Outcome

_SILENT, _SLOW = "the DNS does not answer", "timed out"


def unavailable(report: Report, what: str, why: str) -> None:
    """Report a look-up without an answer."""
    report.warning(f"{what}: {_SILENT} ({why})", "try again, or see outbound: dns:")


def too_slow(report: Report, what: str) -> None:
    """Report an examination that did not end in time."""
    report.warning(f"examining {what} {_SLOW}", "try again, or see outbound: dns:")


class CountingResolver:
    """Asks with ``ask``, and counts the answers; "no such name" is an answer, too."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._asked = self._answered = 0
        self._why: dict[str, None] = {}

    async def ask(self, name: str, kind: str) -> Outcome:
        """Ask; raises DNSUnavailable."""
        self._asked += 1
        try:
            outcome = await self._ask(name, kind)
        except DNSUnavailable as error:
            self._why[str(error)] = None
            raise
        self._answered += 1
        return outcome

    @property
    def silent(self) -> bool:
        """Whether the DNS was asked, and never answered."""
        return self._asked > 1 and not self._answered

    def merged(
        self, findings: Sequence[Finding], servers: Sequence[tuple[str, int]]
    ) -> list[Finding]:
        """
        Return the findings, with one finding in place of those about look-ups without an answer.

        ``servers`` are the name servers of the configuration, if it names any.
        """
        report = Report("dns")
        why = f" ({next(iter(self._why))})" if self._why else ""
        where = ", ".join(host if port == 53 else f"{host}:{port}" for host, port in servers)
        report.error(
            f"the DNS is down: none of {self._asked} look-ups was answered{why}",
            f"see whether {where} can be reached from here: outbound: dns: servers:"
            if where
            else "see whether the name servers in /etc/resolv.conf can be reached from here, or "
            "name others at outbound: dns: servers:",
        )
        return [*report.findings, *(one for one in findings if not _unanswered(one))]


def _unanswered(finding: Finding) -> bool:
    """Whether a finding says only that a look-up had no answer."""
    what = finding.what
    return finding.level == WARNING and (f": {_SILENT} (" in what or what.endswith(f" {_SLOW}"))
