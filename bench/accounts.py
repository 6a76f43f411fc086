#!/usr/bin/env python3
"""
What a directory of many accounts and aliases costs: to import, to look up, to list them.

    bench/accounts.py [--accounts 100000] [--domains 100] [--postgresql CONNINFO]

In SQLite, on a disk that syncs, or in an empty PostgreSQL database.  The import is that of the
command.  Times of a look-up are those on the thread that does it: the median and the 99th percentile
of 2000 names drawn by lot.  Run by a Python that has postoffice; as root, on ext4 with a journal on a
loop device.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twisted.internet.task import Clock

from disk import disk  # noqa: E402
from postoffice.accounts.address_resolution import resolve, run  # noqa: E402
from postoffice.accounts.sealed_secrets import Seal  # noqa: E402
from postoffice.accounts.sql_directory import SQLDirectory  # noqa: E402
from postoffice.accounts.sqlite_directory import SQLiteDirectory  # noqa: E402
from postoffice.model.address import Account, Address  # noqa: E402
from postoffice.model.alias import Alias  # noqa: E402
from postoffice.testing import ImmediateExecutor, finish  # noqa: E402

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$" + "h" * 43
DRAWN = 2000


class Names:
    """The names of accounts and aliases; every other alias leads to an account by another one."""

    def __init__(self, count: int, domains: int) -> None:
        self.count, self.domains = count, [f"d{number}.example.net" for number in range(domains)]

    def account(self, number: int) -> str:
        return f"user{number}@{self.domains[number % len(self.domains)]}"

    def alias(self, number: int) -> Alias:
        target = self.account(number) if number % 2 else self._alias(number + 1)
        return Alias(self._alias(number), (Address.parse(target),))

    def _alias(self, number: int) -> str:
        return f"alias{number}@{self.domains[number % len(self.domains)]}"

    def drawn(self, kind: str) -> list[str]:
        numbers = random.Random(kind).sample(range(0, self.count - 1, 2), DRAWN)
        if kind == "account":
            return [self.account(number) for number in numbers]
        return [self.alias(number + (kind == "one alias")).address for number in numbers]


def imported(folder: Path, kind: str, table: str, rows: Iterator[str]) -> float:
    """Seconds that the command needs to import a table."""
    (folder / f"{kind}.csv").write_text("\n".join([table, *rows]))
    command = [Path(sys.executable).with_name("postoffice"), kind, "import", f"{kind}.csv"]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def fill(folder: Path, names: Names) -> tuple[float, float]:
    """Seconds to import all accounts, and all aliases: those with one target come first."""
    accounts = (f'{names.account(number)},"{HASH}",1 GiB' for number in range(names.count))
    numbers = [*range(1, names.count, 2), *range(0, names.count - 1, 2)]
    aliases = (names.alias(number) for number in numbers)
    rows = (f"{one.address},{one.targets[0]}" for one in aliases)
    return (
        imported(folder, "account", "address,hash,quota", accounts),
        imported(folder, "alias", "address,targets", rows),
    )


def answered(found: object) -> object:
    return finish(found) if isinstance(found, Awaitable) else found


def timed(names: list[str], ask: Callable[[str], object]) -> str:
    """The median and the 99th percentile of a question."""
    took = []
    for name in names:
        began = time.perf_counter()
        ask(name)
        took.append(time.perf_counter() - began)
    took.sort()
    return f"{took[len(took) // 2] * 1e6:7.0f} µs, 99 % under {took[len(took) * 99 // 100] * 1e6:7.0f} µs"


def look_ups(directory: SQLDirectory, names: Names) -> None:
    def account(name: str) -> None:
        assert answered(directory.look_up(name)).entry is not None

    def recipient(name: str) -> None:
        found = run(resolve(name, "postmaster@d0.example.net"), directory.look_up)
        assert len(answered(found).accounts) == 1

    time.sleep(0.1)  # until a change could not look like none
    for kind, ask in (("account", account), ("one alias", recipient), ("two aliases", recipient)):
        drawn = names.drawn(kind)
        print(f"  {kind:12} from the database  {timed(drawn, ask)}")
        print(f"  {kind:12} remembered         {timed(drawn, ask)}")
    nobody = [f"nobody{number}@{names.domains[0]}" for number in range(DRAWN)]
    print(
        f"  {'nobody':12} from the database  {timed(nobody, lambda n: answered(directory.look_up(n)))}"
    )


async def gathered(each: AsyncIterator[Account]) -> list[Account]:
    return [one async for one in each]


async def counted(each: AsyncIterator[Account]) -> int:
    """How many there are; they are read page by page, as the command lists them."""
    count = 0
    async for _ in each:
        count += 1
    return count


def lists(directory: SQLDirectory, names: Names) -> None:
    for what, ask in (
        ("accounts of one domain", lambda: gathered(directory.each_account(names.domains[1]))),
        ("aliases of one domain", lambda: directory.aliases(names.domains[1])),
        ("all accounts", lambda: counted(directory.each_account())),
        ("what points to an account", lambda: directory.pointing_to(names.account(1))),
        ("what points into a domain", lambda: directory.pointing_to(f"@{names.domains[1]}")),
    ):
        began = time.perf_counter()
        found = finish(ask())
        took = time.perf_counter() - began
        many = found if isinstance(found, int) else len(found)
        print(f"  {what:26} {many:7} in {took * 1e3:8.1f} ms")


CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@d0.example.net
state: .
accounts: [{accounts}]
"""


def made(folder: Path, conninfo: str | None) -> SQLDirectory:
    """An empty directory, and a configuration with it."""
    kind = "{kind: sqlite}"
    directory: SQLDirectory = SQLiteDirectory(str(folder / "accounts.db"), ImmediateExecutor())
    if conninfo is not None:
        from postoffice.accounts.postgresql_directory import PostgreSQLDirectory

        kind = f"{{kind: postgresql, connection: '{conninfo}'}}"
        seal = Seal(str(folder / "accounts.key"))
        directory = PostgreSQLDirectory(
            conninfo, ImmediateExecutor(), Clock(), seal=seal, timeout=60, stale=0
        )
        finish(directory.create_schema())
    (folder / "postoffice.yaml").write_text(CONFIGURATION.format(accounts=kind))
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--postgresql", metavar="CONNINFO")
    options = parser.parse_args()
    names = Names(options.accounts, options.domains)
    with disk(2, wanted=os.geteuid() == 0 and not options.postgresql) as (folder, what):
        what = "in PostgreSQL" if options.postgresql else f"in SQLite, on {what}"
        print(f"{names.count} accounts and aliases in {options.domains} domains, {what}")
        directory = made(folder, options.postgresql)
        finish(directory.start())
        for domain in names.domains:
            finish(directory.add_domain(domain))
        accounts, aliases = fill(folder, names)
        print(f"  imported: accounts in {accounts:.1f} s, aliases in {aliases:.1f} s", flush=True)
        look_ups(directory, names)
        lists(directory, names)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"  at most {held} MiB of memory")
        finish(directory.stop())


if __name__ == "__main__":
    main()
