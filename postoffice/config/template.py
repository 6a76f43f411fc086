"""The table of keys in a form for people: a commented postoffice.yaml, and the reference."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from postoffice.config.reader import FindMaker
from postoffice.config.schema import TABLE, Entry, Items, PluginSection, Section
from postoffice.interfaces import IMaker
from postoffice.model.config_values import REQUIRED, Key

_HEAD = """\
# The configuration of a post office.  This file has every key, with its default value
# unless `postoffice init` was told otherwise.  `postoffice check-config` reports every mistake
# in it; a change needs a restart.
"""


def template(values: Mapping[str, Any], find_maker: FindMaker) -> str:
    """
    Return a postoffice.yaml in which a comment explains each key.

    ``values`` has the values that differ from the defaults: by dotted key, written as in
    the file.
    """
    lines = _HEAD.splitlines()
    for entry in TABLE:
        lines += ["", *_entry(entry, values, find_maker)]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry, values: Mapping[str, Any], find_maker: FindMaker) -> Iterator[str]:
    if isinstance(entry, Key):
        yield from _key(entry, values, "", "")
        return
    yield from _comment(entry.text, "")
    if isinstance(entry, PluginSection) and not entry.default:
        yield f"{entry.name}: []"
        return
    yield f"{entry.name}:"
    if isinstance(entry, Section):
        for key in entry.keys:
            lines = _items if isinstance(key, Items) else _key
            yield from lines(key, values, entry.name, "  ")  # type: ignore[arg-type]
    elif isinstance(entry, PluginSection):
        yield f"  {'- ' if entry.several else ''}kind: {entry.default}"
        indent = "    " if entry.several else "  "
        for key in find_maker(entry.maker, entry.default).keys:
            yield from _key(key, values, entry.name, indent)


def _items(items: Items, values: Mapping[str, Any], where: str, indent: str) -> Iterator[str]:
    """The lines of a list; its keys stand in the reference."""
    yield from _comment(items.text, indent)
    value = values.get(f"{where}.{items.name}", items.default)
    if value is None:
        yield from _comment(f"Default: {items.otherwise}.".replace("`", ""), indent)
        yield f"{indent}# {items.name}: {items.example}"
        return
    if not items.short and items.example:
        yield from _comment(f"Such as {items.example}", indent)
    yield f"{indent}{items.name}: {_list(value)}"


def _list(value: Sequence[Any]) -> str:
    """A list as it stands in YAML, in one line."""
    return f"[{', '.join(_item(one) for one in value)}]"


def _item(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_scalar(one)}" for key, one in value.items()) + "}"
    return _scalar(value, quoted=True)


def _key(key: Key, values: Mapping[str, Any], where: str, indent: str) -> Iterator[str]:
    """A key's lines: its text, and it; commented out where it has no value."""
    yield from _comment(key.text, indent)
    value = values.get(f"{where}.{key.name}" if where else key.name, key.default)
    if value is None or value is REQUIRED:
        yield f"{indent}# {key.name}: {key.example}"
    elif isinstance(value, list | tuple):
        yield f"{indent}{key.name}: {_list(value)}"
    else:
        yield f"{indent}{key.name}: {_scalar(value)}"


def _scalar(value: Any, *, quoted: bool = False) -> str:
    """A value as it stands in YAML, in one line."""
    style = '"' if quoted and isinstance(value, str) else None
    text = yaml.safe_dump(value, default_style=style, width=1 << 20, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, 96 - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"


def reference(makers: Mapping[str, Sequence[IMaker]]) -> str:
    """The configuration reference, in reStructuredText; ``makers`` are those of each room."""
    lines: list[str] = []
    for entry in TABLE:
        lines += _heading(entry.name, "-")
        if isinstance(entry, Key):
            lines += _facts(entry)
            continue
        lines += [_literal(entry.text), ""]
        if isinstance(entry, Section):
            for key in entry.keys:
                lines += _heading(f"{entry.name}.{key.name}", "~")
                lines += _item_facts(key) if isinstance(key, Items) else _facts(key)
        elif isinstance(entry, PluginSection):
            lines += _kinds(entry, makers[entry.name])
    return "\n".join(lines) + "\n"


def _kinds(section: PluginSection, makers: Sequence[IMaker]) -> Iterator[str]:
    shape = "A list of mappings, each" if section.several else "A mapping"
    default = f"{{kind: {section.default}}}" if section.default else ""
    default = f"[{default}]" if section.several else default
    yield from (f"{shape} with its ``kind``.  Default: ``{default}``.", "")
    for maker in sorted(makers, key=lambda maker: str(maker.kind)):
        yield from _heading(f"{section.name}: kind {maker.kind}", "~")
        own = {key.name for key in maker.keys}
        keys = [*maker.keys, *(key for key in section.common if key.name not in own)]
        if not keys:
            yield from ("It has no further keys.", "")
        for key in keys:
            yield from _defined(key)


def _defined(key: Key) -> Iterator[str]:
    """A key as an entry of a definition list."""
    yield from (f"``{key.name}``", *(f"    {line}".rstrip() for line in _facts(key)))


def _item_facts(items: Items) -> Iterator[str]:
    """What a list is for, the keys of its mappings, and its default."""
    if items.default is None:
        default = f"Default: {_literal(items.otherwise)}."
    else:
        default = f"Default: ``{_list(items.default)}``."
    short = f"; a plain value stands for its ``{items.short}``" if items.short else ""
    yield from (_literal(items.text), "", f"Takes a list of mappings{short}.  {default}", "")
    for key in items.keys:
        yield from _defined(key)


def _facts(key: Key) -> list[str]:
    """What a key is for, what it takes, and its default."""
    if key.default is REQUIRED:
        default = "Required."
    elif key.default is None:
        default = "Default: none."
    elif isinstance(key.default, tuple):
        default = f"Default: ``{list(key.default)}``.".replace("'", '"')
    else:
        default = f"Default: ``{_scalar(key.default)}``."
    return [_literal(key.text), "", f"Takes {key.kind.expects}.  {default}", ""]


def _literal(text: str) -> str:
    """What stands between single backquotes is literal in reStructuredText too."""
    return text.replace("`", "``").replace("*", "\\*")


def _heading(text: str, underline: str) -> list[str]:
    return [text, underline * len(text), ""]
