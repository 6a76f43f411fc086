"""Reads YAML into values, by tables of keys; finds all that is wrong, with its line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from postoffice.config.chosen_plugin import ChosenPlugin, failed
from postoffice.config.schema import KIND, Named, Plugin, Section, WithCertificate
from postoffice.config.source import Source, found, is_nothing, line_of, plain
from postoffice.interfaces import IMaker
from postoffice.model.config_values import ENDPOINT, PATH, REQUIRED, Key, Kind, Secret

#: Finds the maker for an interface and a kind; raises LookupError, whose text says what is wrong.
FindMaker = Callable[[type[IMaker], str], IMaker]
#: Checks an endpoint; raises ValueError, whose text says what is wrong.
TryEndpoint = Callable[[str], None]


class Reader:
    """
    Reads mappings by their keys; what is wrong goes into ``source.problems``.

    Paths are relative to ``folder``, those of plugins to the state folder.  Without
    ``try_endpoint``, only the form of endpoints is checked.
    """

    def __init__(
        self,
        source: Source,
        folder: str,
        find_maker: FindMaker,
        try_endpoint: TryEndpoint | None = None,
    ) -> None:
        self._source = source
        self._state = self._base = folder
        self._find_maker = find_maker
        self._try_endpoint = try_endpoint

    def mapping(self, node: MappingNode, keys: Sequence[Key], where: str) -> dict[str, Any]:
        """The values of a mapping, in the order of its keys; ``where`` is its own dotted key."""
        nodes = self.nodes(node, keys, where)
        values: dict[str, Any] = {}
        for one in keys:
            values[one.name] = self._entry(nodes.get(one.name), one, _dotted(where, one.name))
            if where == "" and one.name == "state":
                self._state = str(values["state"] or self._state)
        return values

    def nodes(self, node: MappingNode, keys: Sequence[Key], where: str) -> dict[str, Node]:
        """The nodes of the known keys; unknown keys and keys given twice are problems."""
        known = [one.name for one in keys]
        nodes: dict[str, Node] = {}
        for key_node, value in node.value:
            name = key_node.value if isinstance(key_node, ScalarNode) else found(key_node)
            key = _dotted(where, name)
            if name in nodes:
                first = self._source.lines[key]
                why = f"given twice, first in line {first}; remove one of them"
                self._source.complain(key, why, line_of(key_node))
            elif name in known:
                nodes[name] = value
                self._source.lines[key] = line_of(key_node)
            else:
                self._source.complain(key, f"unknown key; {_hint(name, known)}", line_of(key_node))
        return nodes

    def _entry(self, node: Node | None, entry: Key, key: str) -> object:
        """The value of a key, or its default; None if it is required and missing."""
        if node is not None and is_nothing(node) and _may_be_nothing(entry):
            del self._source.lines[key]
            node = None
        if node is None and entry.default is REQUIRED:
            example = f"; add {entry.name}: {entry.example}" if entry.example else ""
            self._source.complain(key, f"missing{example}")
            return None
        if node is None and entry.default is None:
            return None
        return self._value(_node(entry.default) if node is None else node, entry.kind, key)

    def _value(self, node: Node, kind: Kind[object], key: str) -> object:
        """The value of a node; None if it is not of this kind: that is a problem."""
        self._source.lines.setdefault(key, line_of(node))
        if isinstance(node, MappingNode) and isinstance(kind, Section):
            return kind.make(self.mapping(node, kind.keys, key))
        if isinstance(node, MappingNode) and isinstance(kind, Named):
            scalars = (name.value for name, _ in node.value if isinstance(name, ScalarNode))
            keys = [Key(name, kind.section, REQUIRED, "") for name in dict.fromkeys(scalars)]
            return self.mapping(node, keys, key)
        if isinstance(node, MappingNode) and isinstance(kind, Plugin):
            return self._plugin(node, kind, key)
        if isinstance(kind, Section) and kind.short:
            return self._short(node, kind, key)
        if kind.item is not None and isinstance(node, SequenceNode) and node.value:
            items = [(f"{key}[{number}]", item) for number, item in enumerate(node.value)]
            self._source.lines.update((name, line_of(item)) for name, item in items)
            return tuple(self._value(item, kind.item, name) for name, item in items)
        try:
            value = kind.read(plain(node))
            if kind is ENDPOINT and self._try_endpoint is not None:
                self._try_endpoint(str(value))
        except (ValueError, OverflowError, yaml.YAMLError) as error:
            why = "" if isinstance(error, yaml.YAMLError) else str(error)
            because = f" ({why})" if why else ""
            what = "what is not shown" if isinstance(kind, Secret) else found(node)
            expected = f"found {what}{because}; expected {kind.expects}"
            self._source.complain(key, expected, line_of(node))
            return None
        return os.path.normpath(os.path.join(self._base, str(value))) if kind is PATH else value

    def _short(self, node: Node, section: Section[object], key: str) -> object:
        """A section that is written as the value of one of its keys; the rest are defaults."""
        keys = {one.name: one for one in section.keys}
        value = self._value(node, keys.pop(section.short).kind, key)
        rest = self.mapping(_node({}), list(keys.values()), key)
        return section.make({section.short: value, **rest})

    def _plugin(
        self, node: MappingNode, kind: Plugin[object], key: str
    ) -> ChosenPlugin[object] | None:
        """The plugin that a mapping selects, with its options; None if there is a problem."""
        kinds = [value for name, value in node.value if name.value == KIND.name]
        if not kinds:
            self._source.complain(key, f"its kind is missing; add kind: {kind.example}")
            return None
        name = self._value(kinds[0], KIND.kind, _dotted(key, KIND.name))
        if name is None:
            return None
        try:
            maker = self._find_maker(kind.maker, str(name))
        except LookupError as error:
            self._source.complain(_dotted(key, KIND.name), str(error.args[0]), line_of(kinds[0]))
            return None
        outside, self._base = self._base, self._state
        try:
            options = self.mapping(node, (KIND, *kind.keys_with(maker)), key)
        except Exception as error:  # a plugin's keys, and what reads them, are code of the plugin
            self._source.complain(key, failed(maker.kind, error))
            return None
        finally:
            self._base = outside
        del options[KIND.name]
        return ChosenPlugin(maker, options, self._source, key)


def _may_be_nothing(entry: Key) -> bool:
    """Whether a key without a value counts as a missing key."""
    return (
        entry.default is None
        or isinstance(entry.default, WithCertificate)
        or isinstance(entry.kind, Section)
    )


def _node(default: object) -> Any:
    """Make a node of YAML, without a line, of a default; defaults are written as in the file."""
    plainly = list(default) if isinstance(default, tuple) else default
    return yaml.representer.SafeRepresenter().represent_data(plainly)


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return "known here: " + ", ".join(known)
