"""The directories as an import sees them: read in groups, together with what it adds."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import TypeVar, cast

from zope.interface import implementer

from postoffice.accounts.address_checks import AddressRefused
from postoffice.accounts.address_resolution import DEPTH, Asking, run
from postoffice.accounts.directories import Directories, look_up_of
from postoffice.cli.addresses import check_above
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountDirectory, IAddresses, IBulkRegister
from postoffice.model.address import Account, Address
from postoffice.model.alias import Alias, Found

T = TypeVar("T")


@implementer(IAddresses)
class ImportView:
    """
    The directories as they will be when a group of an import is written.

    ``bulk`` is the register if it can write many names at once, else None: then each entry is
    written at once.
    """

    def __init__(self, plugins: Plugins) -> None:
        register = plugins.register
        self._plugins = plugins
        self._ask = look_up_of(register)
        self.bulk = cast(IBulkRegister, register) if IBulkRegister.providedBy(register) else None
        mine = cast(IAccountDirectory, self)
        self._all = Directories([mine if one is register else one for one in plugins.directories])
        self._known: dict[str, Found] = {}
        self._maildrops: set[str] = set()
        self._pointed_to: set[str] = set()

    async def begin(
        self, names: Collection[str], targets: Iterable[str], maildrops: Iterable[str] = ()
    ) -> None:
        """Begin a group, with its names, its targets, and the maildrops that it asks for."""
        self._known.clear()
        if self.bulk is None:
            return
        self._pointed_to = set(await self.bulk.pointed_to(names))
        self._maildrops = set(await self.bulk.maildrops({*names, *maildrops}))
        wanted = {*names, *targets}
        for _ in range(DEPTH):
            found = await self.bulk.look_ups(wanted)
            self._known.update(found)
            wanted = {name for one in found.values() for name in _leads_to(one)} - set(self._known)
            if not wanted:
                break

    def add(self, entry: Account | Alias) -> None:
        """Add an entry that the import saves."""
        domain = self._known[entry.address].domain
        self._known[entry.address] = Found(domain, entry)
        self._pointed_to.update(one.normal for one in _targets(entry))
        if isinstance(entry, Account):
            self._maildrops.add(entry.maildrop)

    async def suppose(self, entry: Account | Alias) -> None:
        """Assume this entry until the next group; an alias does not replace an account."""
        found, _ = await self.find(entry.address)
        if not isinstance(found.entry, Account) or isinstance(entry, Account):
            self._known[entry.address] = found._replace(entry=entry)

    def look_up(self, name: str) -> Found | Awaitable[Found]:
        """See ``IAddresses``: what the register has, and what the import adds to it."""
        return self._known.get(name) or self._remember(name)

    async def _remember(self, name: str) -> Found:
        answer = self._ask(name)
        found = answer if isinstance(answer, Found) else await answer
        self._known[name] = found
        return found

    async def find(self, name: str) -> tuple[Found, Found]:
        """Return what the register has, and what all directories have."""
        mine = self.look_up(name)
        mine = mine if isinstance(mine, Found) else await mine
        anywhere = self._all.look_up(name)
        return mine, anywhere if isinstance(anywhere, Found) else await anywhere

    async def asked(self, asking: Asking[T]) -> T:
        """Let a generator of ``accounts.address_resolution`` ask all directories."""
        result = run(asking, self._all.look_up)
        return await result if isinstance(result, Awaitable) else result

    def is_used(self, maildrop: str) -> bool:
        """Whether an account has this maildrop, one of those named to ``begin``."""
        return maildrop in self._maildrops

    def is_target(self, name: str) -> bool:
        """Whether something may have this address as a target."""
        return self.bulk is None or name in self._pointed_to

    async def check_above(self, changed: Alias | Account, postmaster: str) -> None:
        """Check what leads to a changed entry; all must be written.  Raises AddressRefused."""
        await check_above(self._plugins, changed, postmaster)


async def explained(
    view: ImportView, waiting: Sequence[tuple[Account | Alias, Asking[None]]]
) -> list[str]:
    """
    Return why each of these entries is refused even if all others exist; "" if it is not.

    A loop inside one file is found in this way: each of its aliases waits for the next one.
    """
    for entry, _ in waiting:
        await view.suppose(entry)
    texts = []
    for _, check in waiting:
        try:
            await view.asked(check)
            texts.append("")
        except AddressRefused as why:
            texts.append(str(why))
    return texts


def _targets(entry: Account | Alias | None) -> tuple[Address, ...]:
    if entry is None:
        return ()
    return entry.forward if isinstance(entry, Account) else entry.targets


def _leads_to(found: Found) -> Iterable[str]:
    catch_all = found.domain.catch_all if found.domain is not None else ()
    return [one.normal for one in (*_targets(found.entry), *catch_all)]
