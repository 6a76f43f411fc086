"""Finds mail that nobody gets: dead ends, maildrops without an account, mail that is set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from postoffice.config.settings import Settings
from postoffice.doctor.dead_ends import dead_ends, postmaster_trouble
from postoffice.doctor.findings import Finding, Report
from postoffice.doctor.maildrop_owners import owners_of
from postoffice.interfaces import IAccountDirectory, IStoreBackup
from postoffice.model.errors import PostOfficeError
from postoffice.store import set_aside
from postoffice.store.names import maildrop_of

#: Maildrops that are named.
SHOWN = 5


async def check_addresses(
    directories: Sequence[IAccountDirectory], settings: Settings
) -> list[Finding]:
    """Examine the postmaster and all targets of aliases, forwards and catch-alls."""
    report = Report("mail")
    try:
        why = await postmaster_trouble(directories, settings.postmaster)
        dead = await dead_ends(directories, settings.postmaster.normal)
    except PostOfficeError as error:
        report.error(
            f"a directory of accounts does not answer: {error}",
            "look at accounts: in the configuration, and whether its server runs",
        )
        return report.findings
    if why:
        report.error(why, "give the postmaster's mail a reader")
    else:
        report.ok(f"mail to the postmaster comes to {settings.postmaster}")
    for one in dead:
        report.warning(
            one, "change its targets: postoffice alias set, postoffice account set --forward"
        )
    if not dead:
        report.ok("all aliases and forwards lead somewhere")
    return report.findings


async def check_maildrops(
    directories: Sequence[IAccountDirectory], store: object, settings: Settings
) -> list[Finding]:
    """Examine whether there is mail that no account can fetch."""
    report = Report("mail")
    if not IStoreBackup.providedBy(store):
        return []
    try:
        folders = await store.folders()
        full = {maildrop_of(folder): messages for folder, messages in folders if messages}
        drops = await owners_of(directories, settings, list(full))
    except PostOfficeError as error:
        report.error(f"the maildrops cannot be looked at: {error}")
        return report.findings
    lost = {one.name: full[one.name] for one in drops if one.account is None}
    if lost:
        report.warning(
            f"no account can fetch the mail of {_named(lost)}",
            "give it an account (postoffice account add ADDRESS --adopt-mail), or remove the mail "
            "(postoffice maildrop purge ADDRESS)",
        )
    else:
        report.ok("every maildrop with mail has an account")
    return report.findings


def check_set_aside(path: str) -> list[Finding]:
    """Report the mail that could not be put into a maildrop of the store.  It blocks."""
    report = Report("mail", path)
    try:
        found = [
            finding for one in set_aside.maildrops(path) for finding in set_aside.findings(one)
        ]
    except OSError as error:
        report.error(f"the store cannot be looked at: {error}")
        return report.findings
    for one in found:
        report.error(
            one.what,
            "mend what the reason says (disk, owner, mode): the daemon tries again",
            where=one.path,
        )
    if not found:
        report.ok("nothing is set aside")
    return report.findings


def _named(lost: Mapping[str, int]) -> str:
    names = ", ".join([*lost][:SHOWN])
    more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    return f"{names}{more} ({sum(lost.values())} messages)"
