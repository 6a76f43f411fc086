"""``postoffice alias import`` and ``export``."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import cast

import click

from postoffice.accounts.address_checks import AddressRefused, check_alias
from postoffice.accounts.address_resolution import Asking
from postoffice.accounts.directories import all_aliases
from postoffice.cli.addresses import address_register
from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.import_groups import Saver, Values, Waits
from postoffice.cli.import_view import ImportView, explained
from postoffice.cli.parameters import DOMAIN
from postoffice.cli.record_files import address_list, one_of, truth, written_address
from postoffice.cli.transfer import export_file, import_file, import_options, transfer_options
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.alias import FORWARD, KINDS, Alias


def _address(text: str) -> Address:
    if text.startswith("@"):
        raise ValueError(f"{text} is a catch-all, which a domain has: postoffice domain import")
    return Address.parse(text)


#: The columns, and what parses each.
COLUMNS: dict[str, Callable[[str], object]] = {
    "address": _address,
    "targets": address_list,
    "kind": one_of(*KINDS),
    "words": str,
    "send": truth,
}


@command("import")
@import_options
def import_(
    context: CommandContext, file: str, form: str | None, update: bool, dry_run: bool
) -> Answer:
    """
    Import aliases from FILE, or from the standard input.

    FILE is CSV, with the names of the columns in its first line, or has a JSON object on
    each line.  The columns are address, targets (with commas or spaces between them),
    kind (forward, refuse or discard), words, send (yes or no).  A target may be an alias
    that comes later.

    A line that cannot be used is reported at the end, with its number, and all others are
    imported.  An alias that exists is an error, or with --update it is replaced; so an
    interrupted import can be repeated with --update.

    With --json: file, dry_run, added, updated, failed, errors and warnings (each with file,
    line, text).
    """

    def saver(plugins: Plugins, settings: Settings) -> Saver:
        return _AliasSaver(plugins, settings, update)

    return import_file(context, file, form, COLUMNS, saver, dry_run)


class _AliasSaver:
    """Saves the aliases of an import; see ``import_groups.Saver``."""

    def __init__(self, plugins: Plugins, settings: Settings, update: bool) -> None:
        self._register = address_register(plugins)
        self._view = ImportView(plugins)
        self._postmaster = settings.postmaster.normal
        self._way_out = settings.way_out
        self._update = update
        self._unwritten: dict[str, Alias] = {}

    def _asking(self, alias: Alias) -> Asking[None]:
        return check_alias(alias, self._postmaster, way_out=self._way_out)

    async def begin(self, group: Sequence[Values]) -> None:
        aliases = [_alias(values) for values in group]
        targets = {target.normal for one in aliases for target in one.targets}
        await self._view.begin({one.address for one in aliases}, targets)

    async def save(self, values: Values) -> bool:
        alias = _alias(values)
        try:
            await self._check(alias)
        except AddressRefused as why:
            raise Waits(str(why)) from why  # a target may come later
        found, _ = await self._view.find(alias.address)
        if found.domain is None:
            raise Refused(f"{alias.address.rpartition('@')[2]} is in another directory")
        if found.entry is not None and not self._update:
            raise Refused(f"{alias.address} is here already; --update replaces it")
        self._view.add(alias)
        if self._view.bulk is not None:
            self._unwritten[alias.address] = alias
        elif not await self._register.add_alias(alias):
            await self._register.set_alias(alias)
        return found.entry is None

    async def _check(self, alias: Alias) -> None:
        await self._view.asked(self._asking(alias))
        if self._view.is_target(alias.address):
            await self.flush()
            await self._view.check_above(alias, self._postmaster)

    async def flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        if self._view.bulk is not None and unwritten:
            await self._view.bulk.put_aliases(list(unwritten.values()))

    async def explain(self, waiting: Sequence[Values]) -> Sequence[str]:
        await self.begin(waiting)
        return await explained(
            self._view,
            [(alias := _alias(one), self._asking(alias)) for one in waiting],
        )


def _alias(values: Values) -> Alias:
    return Alias(
        cast(Address, values["address"]).normal,
        cast(tuple[Address, ...], values.get("targets", ())),
        str(values.get("kind", FORWARD)),
        str(values.get("words", "")),
        bool(values.get("send", False)),
    )


@command("export")
@transfer_options
@click.option("--domain", type=DOMAIN, help="Export only the aliases of this domain.")
def export(context: CommandContext, file: str, form: str | None, domain: str | None) -> Answer:
    """
    Export the aliases to FILE, a new file, or to the standard output.

    The format is CSV, or JSON lines for a name that ends in .jsonl.  `alias import` reads
    both.

    With --json: file, records (how many).
    """
    return export_file(context, file, form, tuple(COLUMNS), functools.partial(_all_aliases, domain))


async def _all_aliases(domain: str | None, plugins: Plugins) -> AsyncIterator[Mapping[str, object]]:
    if domain is not None and domain not in await plugins.register.domains():
        raise Refused(f"there is no domain {domain} here")
    async for one in all_aliases(address_register(plugins), domain):
        yield {
            "address": written_address(one.address),
            "targets": [str(target) for target in one.targets] or None,
            "kind": one.kind,
            "words": one.words or None,
            "send": one.send,
        }
