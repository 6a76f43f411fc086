"""``postoffice domain import`` and ``export``: domains with all their settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import cast

from postoffice.accounts.address_checks import NO_SEPARATORS, AddressRefused, check_domain
from postoffice.cli.account_records import POLICY, QUOTA, policy_of, quota_of
from postoffice.cli.addresses import address_register, asked, check_no_aliases_of, domain_of
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.domain_settings import local_part
from postoffice.cli.import_groups import Saver, Values, Waits
from postoffice.cli.parameters import local_domain
from postoffice.cli.record_files import address_list, words_of
from postoffice.cli.transfer import export_file, import_file, import_options, transfer_options
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAddressRegister
from postoffice.model.address import Address, Quota
from postoffice.model.alias import Domain
from postoffice.model.mail_policy import UNSPECIFIED

#: The separators of a domain whose names have no tags, in a file.
NONE = "none"


def _separators(text: str) -> str:
    if text == NONE:
        return ""
    if not all("!" <= one <= "~" and one not in NO_SEPARATORS for one in text):
        raise ValueError(f"{text!r} are no separators, such as +-, nor {NONE!r}")
    return text


def _local_parts(text: str) -> frozenset[str]:
    return frozenset(map(local_part, words_of(text)))


#: The columns of ``Domain`` besides its name, and what parses each.
_ADDRESSES: dict[str, Callable[[str], object]] = {
    "same_as": local_domain,
    "separators": _separators,
    "catch_all": address_list,
    "except": _local_parts,
}
COLUMNS: dict[str, Callable[[str], object]] = {
    "domain": local_domain,
    **_ADDRESSES,
    **QUOTA,
    **POLICY,
}


@command("import")
@import_options
def import_(
    context: CommandContext, file: str, form: str | None, update: bool, dry_run: bool
) -> Answer:
    """
    Import domains from FILE, or from the standard input.

    FILE is CSV, with the names of the columns in its first line, or has a JSON object on
    each line.  Only domain is needed; the others are those of `domain export`: same_as (the
    domain of which it is an alias), separators (of tags, or none), catch_all (targets, with
    commas or spaces between them), except (local parts that the catch-all does not catch),
    the quota and the mail policy.

    A line that cannot be used is reported at the end, with its number, and all others are
    imported.  A new domain whose catch-all leads to accounts that are not here yet is
    imported without it, and reported: import the file again with --update after the
    accounts.  A domain that exists is an error, or with --update it gets the values that
    the line has.

    With --json: file, dry_run, added, updated, failed, errors and warnings (each with file,
    line, text).
    """

    def saver(plugins: Plugins, settings: Settings) -> Saver:
        return _DomainSaver(plugins, settings.postmaster.normal, update)

    return import_file(context, file, form, COLUMNS, saver, dry_run)


class _DomainSaver:
    """Saves the domains of an import, one by one; see ``import_groups.Saver``."""

    def __init__(self, plugins: Plugins, postmaster: str, update: bool) -> None:
        self._plugins = plugins
        self._postmaster = postmaster
        self._update = update
        self._added: set[str] = set()  # domains that are added without the catch-all they wait for

    async def begin(self, group: Sequence[Values]) -> None:
        """Ask for nothing beforehand: there are few domains."""

    async def flush(self) -> None:
        """Write nothing: ``save`` writes each domain at once."""

    async def save(self, values: Values) -> bool:
        name, known = _name(values), await self._known(values)
        now = _changed(known or Domain(name), values)
        if not _ADDRESSES.keys().isdisjoint(values):
            address_register(self._plugins)
            try:
                await asked(self._plugins, check_domain(now, self._postmaster))
            except AddressRefused as why:
                raise Waits(f"{why}{await self._added_without(values)}") from why
            if now.same_as:
                await check_no_aliases_of(self._plugins, name)
        await self._write(now, values)
        return known is None or name in self._added

    async def _added_without(self, values: Values) -> str:
        """Add a new domain without what it waits for: the accounts for its catch-all need it."""
        name = _name(values)
        if not await self._plugins.register.serves(name):
            rest = {key: one for key, one in values.items() if key not in ("same_as", "catch_all")}
            await self._write(_changed(Domain(name), rest), rest)
            self._added.add(name)
        return "; it is added without that" if name in self._added else ""

    async def _known(self, values: Values) -> Domain | None:
        """Return the domain, if it is here.  Raises Refused if it may not be changed."""
        name = _name(values)
        if not await self._plugins.register.serves(name):
            return None
        if not self._update and name not in self._added:
            raise Refused(f"{name} is here already; --update changes it")
        return await _record(self._plugins, name)

    async def _write(self, now: Domain, values: Values) -> None:
        register, name = self._plugins.register, now.name
        await register.add_domain(name)
        if not _ADDRESSES.keys().isdisjoint(values):
            await address_register(self._plugins).set_domain(now)
        if (quota := quota_of(values)) != Quota():
            known = await register.domain_quota(name) or Quota()
            await register.set_domain_quota(name, quota.or_else(known))
        if (policy := policy_of(values)) != UNSPECIFIED:
            before = await register.domain_mail_policy(name) or UNSPECIFIED
            await register.set_domain_mail_policy(name, policy.or_else(before))

    async def explain(self, waiting: Sequence[Values]) -> Sequence[str]:
        """Return nothing: ``save`` says it all."""
        return [""] * len(waiting)


def _name(values: Values) -> str:
    return str(values["domain"])


def _changed(known: Domain, values: Values) -> Domain:
    """Return the domain with what a record says."""
    return replace(
        known,
        same_as=str(values.get("same_as", known.same_as)),
        separators=str(values.get("separators", known.separators)),
        catch_all=cast(tuple[Address, ...], values.get("catch_all", known.catch_all)),
        uncaught=cast(frozenset[str], values.get("except", known.uncaught)),
    )


async def _record(plugins: Plugins, name: str) -> Domain:
    """Return what the register says of a domain."""
    if not IAddressRegister.providedBy(plugins.register):
        return Domain(name)
    return await domain_of(plugins, name) or Domain(name)


@command("export")
@transfer_options
def export(context: CommandContext, file: str, form: str | None) -> Answer:
    """
    Export the domains to FILE, a new file, or to the standard output.

    The format is CSV, or JSON lines for a name that ends in .jsonl.  `domain import` reads
    both.  A value that a domain does not set itself is left out.

    With --json: file, records (how many).
    """
    return export_file(context, file, form, tuple(COLUMNS), _all_domains)


async def _all_domains(plugins: Plugins) -> AsyncIterator[Mapping[str, object]]:
    register = plugins.register
    for name in await register.domains():
        known = await _record(plugins, name)
        quota = await register.domain_quota(name) or Quota()
        yield {
            "domain": name,
            "same_as": known.same_as or None,
            "separators": known.separators or NONE,
            "catch_all": [str(one) for one in known.catch_all] or None,
            "except": [str(Address(one, "")) for one in sorted(known.uncaught)] or None,
            "quota": quota.octets,
            "quota_messages": quota.messages,
            "over": quota.over,
            **asdict(await register.domain_mail_policy(name) or UNSPECIFIED),
        }
