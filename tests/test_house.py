"""The floors of the house: a folder is a room, and imports go down."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import postoffice

HOUSE = Path(postoffice.__file__).parent

#: The rooms of each floor, from the ground up.  A room imports from the floors below.
FLOORS = [
    ["model", "util", "protocol", "interfaces"],
    ["smtp", "pop3", "outbound"],
    ["store", "accounts", "policy", "queue", "dns"],
    ["server"],
    ["config", "logs", "doctor", "metrics", "web", "moving", "daemon", "backup", "cli"],
]
#: On these floors a room also imports from those that stand before it.
IN_ORDER = {0, 4}
#: Beside the house: stand-ins for tests, and the old names of modules.
OUTSIDE = {"testing", "moved", ""}
#: Imports that still go up or across: each goes when the two are rearranged.
EXCEPTIONS: set[tuple[str, str]] = set()


@functools.cache
def modules() -> dict[str, Path]:
    """Every module by its name within the package; packages by theirs."""
    found = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name.partition(".")[0] not in OUTSIDE:
            found[name] = path
    return found


def place(name: str) -> tuple[int, int]:
    """The floor of a module, and its room there, by their numbers."""
    room = name.partition(".")[0]
    return next((n, floor.index(room)) for n, floor in enumerate(FLOORS) if room in floor)


def may_import(name: str, other: str) -> bool:
    (floor, room), (their_floor, their_room) = place(name), place(other)
    if their_floor != floor:
        return their_floor < floor
    return their_room == room or (floor in IN_ORDER and their_room < room)


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module, read once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement of a module, also those within others; no expressions."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, block, None) or ()


@functools.cache
def imports(path: Path, *, at_import: bool = False) -> frozenset[str]:
    """The full names that a module imports, anywhere in it or only where it is imported."""
    found = set()
    tree = parsed(path)
    for node in tree.body if at_import else statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(str(node.module))
    return frozenset(found)


@functools.cache
def plain_modules() -> frozenset[str]:
    """All modules but packages, by their names."""
    return frozenset(name for name, path in modules().items() if path.name != "__init__.py")


@functools.cache
def imported_modules(path: Path) -> frozenset[str]:
    """The modules of the house that a module imports, packages too."""
    names = {name.removeprefix("postoffice.") for name in imports(path) if "postoffice." in name}
    return modules().keys() & names


def test_every_folder_is_a_room():
    rooms = {path.stem for path in HOUSE.iterdir() if path.stem[0] not in "_."} - {"py"}
    assert rooms - OUTSIDE == {room for floor in FLOORS for room in floor}


def test_imports_go_down():
    wrong = {
        (name, other)
        for name, path in modules().items()
        for other in imported_modules(path)
        if not may_import(name, other)
    }
    assert wrong == EXCEPTIONS


def test_no_module_imports_another_in_a_circle():
    """Also not for the type checker alone: each module can be read with those it builds on."""
    left = {name: imported_modules(path) & plain_modules() for name, path in modules().items()}
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        for name in ready:
            del left[name]
    assert not left


def importers(wanted: str, *, at_import: bool = False) -> set[str]:
    """The modules of the house that import this, or something in it."""
    return {
        name
        for name, path in modules().items()
        for used in imports(path, at_import=at_import)
        if f"{used}.".startswith(f"{wanted}.")
    }


def test_the_two_lowest_floors_never_mention_twisted():
    low = {name for name in modules() if place(name)[0] < 2}
    using = importers("twisted") & low
    assert {name for name in using if name.partition(".")[0] != "util"} == set()


def test_nobody_takes_the_reactor_from_the_air():
    assert importers("twisted.internet.reactor") <= {"daemon.twistd_plugin", "cli"}
    assert importers("twisted.internet.reactor", at_import=True) == set()


def test_twisted_mail_is_no_base_to_build_on():
    used = {used for path in modules().values() for used in imports(path)}
    of_mail = {one for one in used if f"{one}.".startswith("twisted.mail.")}
    assert of_mail <= {"twisted.mail", "twisted.mail.interfaces"}


def test_only_one_module_asks_for_plugins():
    asking = {n for n, p in modules().items() if "twisted.plugin.getPlugins" in imports(p)}
    assert asking <= {"daemon.plugin_makers"}


def test_every_module_says_what_it_is_for():
    assert [n for n, path in modules().items() if not ast.get_docstring(parsed(path))] == []


def test_every_room_is_installed():
    """``setup.cfg`` names the packages; one that is forgotten is missing only elsewhere."""
    settings = ConfigParser()
    settings.read(HOUSE.parent / "setup.cfg")
    named = set(settings["options"]["packages"].split()) - {"twisted.plugins"}
    plugins = {path.parent.relative_to(HOUSE.parent) for path in HOUSE.rglob("*.py")}
    assert named == {".".join(room.parts) for room in plugins}


def test_no_module_is_longer_than_a_reader_bears():
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}
