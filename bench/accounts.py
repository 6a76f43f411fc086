#!/usr/bin/env python3
"""
What a directory of many accounts and aliases costs: to fill it, to look names up, to list it.

    bench/accounts.py [--accounts 100000] [--domains 100] [--postgresql CONNINFO]

In SQLite as everybody has it, on a disk that syncs; or in an empty PostgreSQL database.  Times of a look-up are those on the thread
that does it: the median and the 99th percentile of 2000 names drawn by lot.  Run by a Python that
has postoffice; as root, on ext4 with a journal on a loop device.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twisted.internet.task import Clock

from disk import disk  # noqa: E402
from postoffice.accounts import address_tables, tables  # noqa: E402
from postoffice.accounts.addresses import resolve, run  # noqa: E402
from postoffice.accounts.sealed_secrets import Seal  # noqa: E402
from postoffice.accounts.sql_directory import SQLDirectory  # noqa: E402
from postoffice.accounts.sqlite import SQLiteDirectory  # noqa: E402
from postoffice.model.address import Address  # noqa: E402
from postoffice.model.alias import Alias  # noqa: E402
from postoffice.testing import ImmediateExecutor, finish  # noqa: E402

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$" + "h" * 43
SCRAM = f"SCRAM-SHA-256$100000:c2FsdHNhbHRzYWx0c2FsdA==${'k' * 43}=:{'k' * 43}="
DRAWN = 2000
#: Rows of one transaction of the import.
BATCH = 10_000


class Names:
    """The names of accounts and aliases; every other alias leads to an account by another one."""

    def __init__(self, count: int, domains: int) -> None:
        self.count, self.domains = count, [f"d{number}.example.net" for number in range(domains)]

    def account(self, number: int) -> str:
        return f"user{number}@{self.domains[number % len(self.domains)]}"

    def alias(self, number: int) -> Alias:
        domain = self.domains[number % len(self.domains)]
        target = self.account(number) if number % 2 else f"alias{number ^ 1}@{domain}"
        if not number % 2:  # to the alias behind it, which is in the next domain
            target = f"alias{number + 1}@{self.domains[(number + 1) % len(self.domains)]}"
        return Alias(f"alias{number}@{domain}", (Address.parse(target),))

    def drawn(self, kind: str) -> list[str]:
        numbers = random.Random(kind).sample(range(0, self.count - 1, 2), DRAWN)
        if kind == "account":
            return [self.account(number) for number in numbers]
        return [self.alias(number + (kind == "one alias")).address for number in numbers]


def batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def fill(directory: SQLDirectory, names: Names) -> tuple[float, float]:
    """Seconds to add all accounts, and all aliases, in transactions of BATCH rows."""

    def accounts(database, numbers: range) -> None:
        for number in numbers:
            assert tables.add(database, names.account(number), HASH, SCRAM, None)

    def aliases(database, numbers: range) -> None:
        for number in numbers:
            assert address_tables.add_alias(database, names.alias(number))

    for domain in names.domains:
        finish(directory.add_domain(domain))
    took = []
    for add in (accounts, aliases):
        began = time.perf_counter()
        for numbers in batches(names.count):
            directory._database.write(add, numbers)
        took.append(time.perf_counter() - began)
    return took[0], took[1]


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


def lists(directory: SQLDirectory, names: Names) -> None:
    for what, ask in (
        ("accounts of one domain", lambda: directory.accounts(names.domains[1])),
        ("aliases of one domain", lambda: directory.aliases(names.domains[1])),
        ("all accounts", lambda: directory.accounts()),
        ("what points to an account", lambda: directory.pointing_to(names.account(1))),
        ("what points into a domain", lambda: directory.pointing_to(f"@{names.domains[1]}")),
    ):
        began = time.perf_counter()
        found = finish(ask())
        took = time.perf_counter() - began
        print(f"  {what:26} {len(found):7} in {took * 1e3:8.1f} ms")
        del found  # to free 100,000 accounts takes its time, too


def made(folder: Path, conninfo: str | None) -> SQLDirectory:
    if conninfo is None:
        return SQLiteDirectory(str(folder / "accounts.db"), ImmediateExecutor())
    from postoffice.accounts.postgresql import PostgreSQLDirectory

    seal = Seal(str(folder / "accounts.key"))
    directory = PostgreSQLDirectory(
        conninfo, ImmediateExecutor(), Clock(), seal=seal, timeout=60, stale=0
    )
    finish(directory.create_schema())
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
        accounts, aliases = fill(directory, names)
        print(f"  filled: accounts in {accounts:.1f} s, aliases in {aliases:.1f} s")
        look_ups(directory, names)
        lists(directory, names)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"  at most {held} MiB of memory")
        finish(directory.stop())


if __name__ == "__main__":
    main()
