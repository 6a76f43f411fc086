"""The floors of the house: a module imports from the floors below it, and from its own room."""

from __future__ import annotations

import ast
from configparser import ConfigParser
from pathlib import Path

import pytest

import postoffice

HOUSE = Path(postoffice.__file__).parent

#: From the ground up: each floor's rooms.  A module belongs to the longest name that fits it.
FLOORS = [
    {"": "the words"},
    {
        "smtp.dialogue": "smtp rules",
        "smtp.author": "smtp rules",
        "smtp.line_session": "smtp rules",
        "smtp.options": "smtp rules",
        "pop3.line_session": "pop3 rules",
        "pop3.options": "pop3 rules",
        "pop3.utf8": "pop3 rules",
        "smtp.grammar": "smtp rules",
        "smtp.header": "smtp rules",
        "smtp.paths": "smtp rules",
        "smtp.questions": "smtp rules",
        "smtp.session": "smtp rules",
        "smtp.terms": "smtp rules",
        "smtp.transaction": "smtp rules",
        "pop3.authorization": "pop3 rules",
        "pop3.dialogue": "pop3 rules",
        "pop3.languages": "pop3 rules",
        "pop3.questions": "pop3 rules",
        "pop3.session": "pop3 rules",
        "pop3.speech": "pop3 rules",
        "pop3.terms": "pop3 rules",
        "pop3.texts": "pop3 rules",
        "pop3.transaction": "pop3 rules",
    },
    {"maildrop": "maildrop", "store": "maildrop", "accounts": "accounts", "policy": "policy"},
    {
        "server": "conversation",
        "conversation": "conversation",
        "counter": "conversation",
        "entering": "conversation",
        "tls": "conversation",
        "turns": "conversation",
        "smtp": "smtp counter",
        "pop3": "pop3 counter",
    },
    {
        "office": "office",
        "config": "office",
        "daemon": "office",
        "backup": "office",
        "cli": "office",
    },
]
#: The conversation is what both counters stand on, on their own floor.
SHARED = {"conversation", "counter", "entering", "tls", "turns"}
OUTSIDE = {"testing"}


def modules() -> dict[str, Path]:
    """Every module by its name within the package; packages by theirs."""
    found = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name not in OUTSIDE:
            found[name] = path
    return found


def place(name: str) -> tuple[int, str]:
    """The floor and the room of a module."""
    fits = [
        (len(prefix), floor, room)
        for floor, plugins in enumerate(FLOORS)
        for prefix, room in plugins.items()
        if not prefix or name == prefix or name.startswith(prefix + ".")
    ]
    return max(fits)[1:]


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """The full names that a module imports, anywhere in it or only where it is imported."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(str(node.module))
    return found


def imported_modules(path: Path) -> set[str]:
    """The modules of the house that a module imports."""
    known = {name for name, path in modules().items() if path.name != "__init__.py"}
    names = {name.removeprefix("postoffice.") for name in imports(path) if "postoffice." in name}
    return names & known


@pytest.mark.parametrize("name", modules())
def test_imports_go_down(name):
    floor, room = place(name)
    for other in imported_modules(modules()[name]):
        their_floor, their_room = place(other)
        assert (
            their_floor < floor or their_room == room or (other in SHARED and their_floor == floor)
        ), f"{name} (floor {floor}, {room}) imports {other} (floor {their_floor}, {their_room})"


@pytest.mark.parametrize("name", [name for name in modules() if place(name)[0] < 2])
def test_the_two_lowest_floors_never_mention_twisted(name):
    used = {m for m in imports(modules()[name]) if m.split(".")[0] == "twisted"}
    assert not used or name.startswith("util.")


@pytest.mark.parametrize("name", modules())
def test_nobody_takes_the_reactor_from_the_air(name):
    taken = "twisted.internet.reactor" in imports(modules()[name])
    assert not taken or name in {"office.service", "office.admin", "daemon.service", "cli"}
    assert "twisted.internet.reactor" not in imports(modules()[name], at_import=True)


@pytest.mark.parametrize("name", modules())
def test_twisted_mail_is_no_base_to_build_on(name):
    used = {m for m in imports(modules()[name]) if m.startswith("twisted.mail")}
    assert used <= {"twisted.mail", "twisted.mail.interfaces"}


def test_only_one_module_asks_for_plugins():
    asking = {n for n, p in modules().items() if "twisted.plugin.getPlugins" in imports(p)}
    assert asking <= {"office.plugins", "daemon.plugin_makers"}


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name):
    assert ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8")))


def test_every_room_is_installed():
    """``setup.cfg`` names the packages; one that is forgotten is missing only elsewhere."""
    settings = ConfigParser()
    settings.read(HOUSE.parent / "setup.cfg")
    named = set(settings["options"]["packages"].split()) - {"twisted.plugins"}
    plugins = {path.parent.relative_to(HOUSE.parent) for path in HOUSE.rglob("*.py")}
    assert named == {".".join(room.parts) for room in plugins}
