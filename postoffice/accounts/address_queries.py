"""The queries about aliases, forwards and domains.  They block; each runs in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from postoffice.accounts.address_resolution import catch_all_name
from postoffice.accounts.sql_connection import Connection, Row
from postoffice.model.address import Address
from postoffice.model.alias import Alias, Domain

#: Names in one statement of ``rows_for`` at most.
CHUNK = 500
ADD_ALIAS = "INSERT INTO alias VALUES (?, ?, ?, ?, ?)"
_ALIAS = "SELECT address, kind, words, send FROM alias"
_DOMAIN = "SELECT name, same_as, separators, uncaught FROM domain"
Targets = tuple[Address, ...]


def domain(database: Connection, name: str) -> Domain | None:
    row = database.execute(f"{_DOMAIN} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _domain(row, targets(database, catch_all_name(name)))


def domains(database: Connection, names: Iterable[str]) -> dict[str, Domain]:
    """Return those of these domains that are local."""
    rows = list(rows_for(database, f"{_DOMAIN} WHERE name", names))
    caught = targets_of(database, [catch_all_name(row[0]) for row in rows])
    return {row[0]: _domain(row, caught.get(catch_all_name(row[0]), ())) for row in rows}


def _domain(row: tuple[str, str, str, str], catch_all: Targets) -> Domain:
    name, same_as, separators, uncaught = row
    return Domain(name, same_as, separators, catch_all, frozenset(uncaught.splitlines()))


def alias(database: Connection, name: str) -> Alias | None:
    row = database.execute(f"{_ALIAS} WHERE address = ?", (name,)).fetchone()
    return None if row is None else _alias(row, targets(database, name))


def aliases_of(database: Connection, names: Iterable[str]) -> dict[str, Alias]:
    """Return those of these names that are aliases."""
    found = _with_targets(database, list(rows_for(database, f"{_ALIAS} WHERE address", names)))
    return {one.address: one for one in found}


def _with_targets(database: Connection, rows: list[tuple[str, str, str, int]]) -> list[Alias]:
    found = targets_of(database, [row[0] for row in rows])
    return [_alias(row, found.get(row[0], ())) for row in rows]


def _alias(row: tuple[str, str, str, int], targets: Targets) -> Alias:
    address, kind, words, send = row
    return Alias(address, targets, kind, words, bool(send))


def rows_for(database: Connection, ask: str, names: Iterable[str]) -> Iterator[Row]:
    """Yield the rows in which the column at the end of a query has one of these names."""
    rest = iter(names)
    while chunk := list(islice(rest, CHUNK)):
        marks = ", ".join("?" for _ in chunk)
        yield from database.execute(f"{ask} IN ({marks})", chunk).fetchall()


def targets(database: Connection, name: str) -> Targets:
    """Return the targets of an alias, an account or a catch-all, in their order."""
    ask = "SELECT local, domain FROM target WHERE name = ? ORDER BY place"
    return tuple(Address(*row) for row in database.execute(ask, (name,)))


def targets_of(database: Connection, names: Iterable[str]) -> dict[str, Targets]:
    """Return the targets of each of these names that has any."""
    found: dict[str, dict[int, Address]] = {}
    ask = "SELECT name, place, local, domain FROM target WHERE name"
    for name, place, *address in rows_for(database, ask, names):
        found.setdefault(name, {})[place] = Address(*address)
    return {name: tuple(at[place] for place in sorted(at)) for name, at in found.items()}


def aliases(database: Connection, domain: str | None, after: str, most: int) -> list[Alias]:
    which = "" if domain is None else " AND domain = ?3"
    ask = f"{_ALIAS} WHERE address > ?1{which} ORDER BY address LIMIT ?2"
    values = (after, most) if domain is None else (after, most, domain)
    return _with_targets(database, database.execute(ask, values).fetchall())


def aliases_like(database: Connection, after: str, most: int, match: str) -> list[Alias]:
    """Return aliases as ``aliases`` does: those with ``match`` in their address or a target."""
    if not match:
        return aliases(database, None, after, most)
    ask = (
        f"{_ALIAS} WHERE address > ? AND (address LIKE ? ESCAPE '\\' OR address IN "  # noqa: S608
        "(SELECT name FROM target WHERE normal LIKE ? ESCAPE '\\')) ORDER BY address LIMIT ?"
    )
    part = pattern_of(match)
    return _with_targets(database, database.execute(ask, (after, part, part, most)).fetchall())


def pattern_of(part: str) -> str:
    """Return the pattern for ``LIKE ? ESCAPE '\\'`` that finds texts with this part."""
    for special in ("\\", "%", "_"):
        part = part.replace(special, f"\\{special}")
    return f"%{part}%"


def add_alias(database: Connection, alias: Alias) -> bool:
    domain = alias.address.rpartition("@")[2]
    if not database.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone():
        raise LookupError(f"{domain} is not a domain of ours")
    if database.execute("SELECT 1 FROM account WHERE address = ?", (alias.address,)).fetchone():
        return False
    if not database.execute(f"{ADD_ALIAS} ON CONFLICT DO NOTHING", alias_row(alias)).rowcount:
        return False
    add_targets(database, [(alias.address, alias.targets)])
    return True


def alias_row(alias: Alias) -> tuple[object, ...]:
    """Return the values for ADD_ALIAS."""
    domain = alias.address.rpartition("@")[2]
    return alias.address, domain, alias.kind, alias.words, alias.send


def set_alias(database: Connection, alias: Alias) -> bool:
    change = "UPDATE alias SET kind = ?, words = ?, send = ? WHERE address = ?"
    row = (alias.kind, alias.words, alias.send, alias.address)
    if not database.execute(change, row).rowcount:
        return False
    set_targets(database, alias.address, alias.targets)
    return True


def remove_alias(database: Connection, name: str) -> bool:
    found = database.execute("DELETE FROM alias WHERE address = ?", (name,)).rowcount > 0
    if found:
        set_targets(database, name, ())
    return found


def set_forward(
    database: Connection, name: str, forward: Iterable[Address], keep_copy: bool
) -> bool:
    change = "UPDATE account SET keep_copy = ? WHERE address = ?"
    found = database.execute(change, (keep_copy, name)).rowcount > 0
    if found:
        set_targets(database, name, forward)
    return found


def set_domain(database: Connection, domain: Domain) -> bool:
    change = "UPDATE domain SET same_as = ?, separators = ?, uncaught = ? WHERE name = ?"
    uncaught = "\n".join(sorted(domain.uncaught))
    row = (domain.same_as, domain.separators, uncaught, domain.name)
    found = database.execute(change, row).rowcount > 0
    if found:
        set_targets(database, catch_all_name(domain.name), domain.catch_all)
    return found


def set_targets(database: Connection, name: str, targets: Iterable[Address]) -> None:
    """Replace the targets of an alias, an account or a catch-all."""
    database.execute("DELETE FROM target WHERE name = ?", (name,))
    add_targets(database, [(name, targets)])


def add_targets(database: Connection, new: Iterable[tuple[str, Iterable[Address]]]) -> None:
    """Add the targets of names that have none."""
    rows = [
        (name, place, one.local, one.domain, one.normal)
        for name, targets in new
        for place, one in enumerate(targets)
    ]
    if rows:
        database.executemany("INSERT INTO target VALUES (?, ?, ?, ?, ?)", rows)


def rename_targets(database: Connection, name: str, new: str) -> None:
    """Rename an account in its own forward, and wherever it is a target."""
    database.execute("UPDATE target SET name = ? WHERE name = ?", (new, name))
    local, _, domain = new.rpartition("@")
    change = "UPDATE target SET local = ?, domain = ?, normal = ? WHERE normal = ?"
    database.execute(change, (local, domain, new, name))


def pointing_to(database: Connection, name: str) -> list[str]:
    if not name.startswith("@"):
        ask = "SELECT DISTINCT name FROM target WHERE normal = ? ORDER BY name"
        return [row[0] for row in database.execute(ask, (name,))]
    same = "SELECT '@' || name FROM domain WHERE same_as = ?"
    inside = "SELECT name FROM target WHERE substr(normal, length(normal) - length(?2) + 1) = ?2"
    rows = database.execute(f"{same} UNION {inside} ORDER BY 1", (name[1:], name))
    return [row[0] for row in rows]


def counts(database: Connection, domain: str) -> dict[str, int]:
    """Return how many accounts, aliases and domain aliases a domain still has."""
    asked = {
        "accounts": "SELECT count(*) FROM account WHERE domain = ?",
        "aliases": "SELECT count(*) FROM alias WHERE domain = ?",
        "domains": "SELECT count(*) FROM domain WHERE same_as = ?",
    }
    return {one: many for one, ask in asked.items() for (many,) in database.execute(ask, (domain,))}


def drop_strays(database: Connection) -> None:
    """Remove the targets of names that are no longer there."""
    database.execute(
        "DELETE FROM target WHERE name NOT IN (SELECT address FROM account UNION ALL"
        " SELECT address FROM alias UNION ALL SELECT '*@' || name FROM domain)"
    )
