"""Writes the keys for people: a commented postoffice.yaml, and the reference of the manual."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from postoffice.config.reader import FindMaker
from postoffice.config.schema import Named, Plugin, Section, WithCertificate, keys_of
from postoffice.config.settings import Settings
from postoffice.interfaces import IMaker
from postoffice.model.config_values import REQUIRED, Key, Kind

_HEAD = """\
# The configuration of a post office.  This file has every key, with its default value
# unless `postoffice init` was told otherwise.  `postoffice check-config` reports every mistake
# in it; `postoffice reload` lets the daemon use a changed file.
"""


def template(values: Mapping[str, object], find_maker: FindMaker) -> str:
    """
    Return a postoffice.yaml in which a comment explains each key.

    ``values`` has the values that differ from the defaults: by dotted key, written as in
    the file.
    """
    lines = _HEAD.splitlines()
    for entry in keys_of(Settings):
        lines += ["", *_entry(entry, values, find_maker)]
    return "\n".join(lines) + "\n"


def _entry(entry: Key, values: Mapping[str, object], find_maker: FindMaker) -> Iterator[str]:
    """A key of the whole file, and the keys below it."""
    keys, first = _below(entry, find_maker)
    if not first:
        yield from _key(entry, values, "", "")
        return
    if entry.default is None and not any(name.startswith(f"{entry.name}.") for name in values):
        yield from _comment(entry.text, "")
        yield f"# {entry.name}:"
        for one in keys:
            yield from (f"# {line}" for line in _key(one, {}, "", "  "))
        return
    yield from _comment(entry.text, "")
    yield from first
    indent = "    " if first[-1].startswith("  - ") else "  "
    for one in keys:
        yield from _key(one, values, f"{entry.name}.", indent)


def _below(entry: Key, find_maker: FindMaker) -> tuple[Sequence[Key], list[str]]:
    """The keys of a section or a default plugin, and the lines above them; none of a plain key."""
    if isinstance(entry.kind, Section):
        return entry.kind.keys, [f"{entry.name}:"]
    kind = entry.kind.item or entry.kind
    if isinstance(kind, Plugin) and entry.default:
        item = "- " if entry.kind.item else ""
        keys = kind.keys_with(find_maker(kind.maker, kind.example))
        return keys, [f"{entry.name}:", f"  {item}kind: {kind.example}"]
    return (), []


def _key(key: Key, values: Mapping[str, object], where: str, indent: str) -> Iterator[str]:
    """A key's lines: its text, and it; commented out where it has no value."""
    yield from _comment(key.text, indent)
    if isinstance(key.kind, Section):
        yield f"{indent}{key.name}:"
        for one in key.kind.keys:
            yield from _key(one, values, f"{where}{key.name}.", f"{indent}  ")
        return
    value = values.get(where + key.name, key.default)
    if isinstance(value, WithCertificate):
        yield from _comment(f"Default: {_in_words(value)}.".replace("`", ""), indent)
    elif _shown(key):
        yield from _comment(f"Such as {key.example}", indent)
    if value is None or value is REQUIRED or isinstance(value, WithCertificate):
        yield f"{indent}# {key.name}: {key.example}"
    else:
        yield f"{indent}{key.name}: {_value(value)}"


def _shown(key: Key) -> bool:
    """Whether the file shows an example of the key beside its default."""
    item = key.kind.item
    return isinstance(key.kind, Named) or (isinstance(item, Section) and not item.short)


def _value(value: object) -> str:
    """Format a value in YAML, in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_item(one) for one in value)}]"
    return _scalar(value)


def _in_words(default: WithCertificate) -> str:
    return f"{_value(default)} where `tls.certificates` has one, else closed"


def _item(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_scalar(one)}" for key, one in value.items()) + "}"
    return _scalar(value, quoted=True)


def _scalar(value: object, *, quoted: bool = False) -> str:
    """Format a value in YAML, in one line."""
    style = '"' if quoted and isinstance(value, str) else None
    text = yaml.safe_dump(value, default_style=style, width=1 << 20, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, 96 - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"


def reference(makers: Iterable[object]) -> str:
    """The configuration reference, in reStructuredText, with the kinds of these makers."""
    ours: list[IMaker] = [one for one in makers if IMaker.providedBy(one)]
    ours.sort(key=lambda maker: str(maker.kind))
    lines: list[str] = []
    for entry in keys_of(Settings):
        lines += _heading(entry.name, "-")
        kind = entry.kind.item or entry.kind
        if isinstance(entry.kind, Section):
            lines += [_literal(entry.text), ""]
            for key in entry.kind.keys:
                lines += [*_heading(f"{entry.name}.{key.name}", "~"), *_facts(key)]
        elif isinstance(kind, Plugin):
            lines += [_literal(entry.text), "", *_kinds(entry, kind, ours)]
        else:
            lines += _facts(entry)
    return "\n".join(lines) + "\n"


def _kinds(entry: Key, plugin: Plugin[object], makers: Iterable[IMaker]) -> Iterator[str]:
    """How a plugin is selected, and the keys of each kind."""
    shape = "A list of mappings, each" if entry.kind.item else "A mapping"
    default = f"{{kind: {plugin.example}}}" if entry.default else ""
    default = f"[{default}]" if entry.kind.item else default
    yield from (f"{shape} with its ``kind``.  Default: ``{default}``.", "")
    for maker in filter(plugin.maker.providedBy, makers):
        yield from _heading(f"{entry.name}: kind {maker.kind}", "~")
        keys = plugin.keys_with(maker)
        yield from _defined(keys) if keys else ("It has no further keys.", "")


def _defined(keys: Iterable[Key]) -> Iterator[str]:
    """Keys as a definition list."""
    for key in keys:
        yield from (f"``{key.name}``", *(f"    {line}".rstrip() for line in _facts(key)))


def _facts(key: Key) -> Iterator[str]:
    """What a key is for, what it takes, its default, and the keys of the mappings in a list."""
    item, takes = _items(key.kind)
    if item and item.short:
        takes += f"; a plain value stands for its ``{item.short}``"
    if key.default is REQUIRED:
        default = "Required."
    elif isinstance(key.kind, Section):
        default = ""
    elif key.default is None:
        default = "Default: none."
    elif isinstance(key.default, WithCertificate):
        default = f"Default: {_literal(_in_words(key.default))}."
    else:
        default = f"Default: ``{_value(key.default)}``."
    yield from (_literal(key.text), "", f"Takes {takes}.  {default}".rstrip(), "")
    yield from _defined(item.keys if item else ())


def _items(kind: Kind[object]) -> tuple[Section[object] | None, str]:
    """The section whose keys stand below a key, if any, and what the key takes."""
    if isinstance(kind, Section):
        return kind, "a mapping"
    if isinstance(kind, Named):
        return kind.section, "a mapping of names to mappings"
    return (
        (kind.item, "a list of mappings")
        if isinstance(kind.item, Section)
        else (None, kind.expects)
    )


def _literal(text: str) -> str:
    """Make text between single backquotes literal in reStructuredText, too."""
    return text.replace("`", "``").replace("*", "\\*")


def _heading(text: str, underline: str) -> list[str]:
    return [text, underline * len(text), ""]
