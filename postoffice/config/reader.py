"""From YAML to values, by tables of keys; all that is wrong is found, with its line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from postoffice.config.schema import KIND, Entry, Items, PluginSection, Section
from postoffice.config.source import ConfigurationError, Source, found, is_nothing, line_of, plain
from postoffice.interfaces import PluginContext
from postoffice.model.config_values import ENDPOINT, PATH, REQUIRED, Key, Kind
from postoffice.model.errors import SettingError

#: Finds the maker of an interface and a kind; raises LookupError, whose text says why not.
FindMaker = Callable[[Any, str], Any]
#: Tries an endpoint; raises ValueError, whose text says what is wrong with it.
TryEndpoint = Callable[[str], None]


@dataclass(frozen=True)
class ChosenPlugin:
    """A room that the configuration asks for: its maker, the options, and where they stand."""

    maker: Any  # IStoreMaker or IDirectoryMaker
    options: Mapping[str, Any]
    source: Source = field(compare=False)
    key: str = field(compare=False)

    def make(self, context: PluginContext) -> Any:
        """Make the room.  Raises ConfigurationError, whatever its maker raised."""
        try:
            return self.maker.make(self.options, context)
        except SettingError as error:
            key = f"{self.key}.{error.key}" if error.key else self.key
            raise ConfigurationError([self.source.problem(key, error.problem)]) from error
        except Exception as error:
            why = _failed(self.maker.kind, error)
            raise ConfigurationError([self.source.problem(self.key, why)]) from error


def reason(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _failed(kind: str, error: BaseException) -> str:
    return f"the plugin of kind {kind!r} failed: {reason(error)}"


class Reader:
    """
    Reads mappings by their tables; what is wrong goes into ``source.problems``.

    ``try_endpoint`` None leaves endpoints at a look at their form.
    """

    def __init__(
        self, source: Source, find_maker: FindMaker, try_endpoint: TryEndpoint | None = None
    ) -> None:
        self._source = source
        self._find_maker = find_maker
        self._try_endpoint = try_endpoint
        self._state = ""

    def read(self, node: MappingNode, table: Sequence[Entry], folder: str) -> dict[str, Any]:
        """All values of a configuration whose file lies in ``folder``."""
        self._state = folder
        return self._mapping(node, table, "", folder)

    def _mapping(
        self, node: MappingNode, table: Sequence[Entry], where: str, base: str
    ) -> dict[str, Any]:
        """
        The values of a mapping, in the order of the table.

        ``where`` is its own dotted key; paths are relative to ``base``.
        """
        nodes = self._nodes(node, table, where)
        values: dict[str, Any] = {}
        for entry in table:
            key = _dotted(where, entry.name)
            values[entry.name] = self._entry(nodes.get(entry.name), entry, key, base)
            if key == "state" and values[key]:
                self._state = values[key]
        return values

    def _nodes(self, node: MappingNode, table: Sequence[Entry], where: str) -> dict[str, Node]:
        """The nodes of the known keys; complains of all others."""
        known = [entry.name for entry in table]
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

    def _entry(self, node: Node | None, entry: Entry, key: str, base: str) -> Any:
        if isinstance(entry, Section):
            return self._section(node, entry, key, base)
        if isinstance(entry, Items):
            return self._items(node, entry, key, base)
        if isinstance(entry, PluginSection):
            return (
                self._plugin_sections(node, entry, key)
                if entry.several
                else self._plugin_section(node, entry, key)
            )
        if node is None:
            return self._default(entry, key, base)
        if entry.default is None and is_nothing(node):
            return None
        return self._value(node, entry.kind, key, base)

    def _section(self, node: Node | None, section: Section, key: str, base: str) -> dict[str, Any]:
        if node is None or is_nothing(node):
            node = _empty(node)
        elif not isinstance(node, MappingNode):
            names = ", ".join(entry.name for entry in section.keys)
            self._expected(node, f"a mapping of {names}", key)
            node = _empty(node)
        return self._mapping(node, section.keys, key, base)

    def _items(
        self, node: Node | None, items: Items, key: str, base: str
    ) -> tuple[dict[str, Any], ...] | None:
        """The mappings of a list; None where there is no list, and no fixed default."""
        if node is None or (items.default is None and is_nothing(node)):
            if items.default is None:
                return None
            node = SequenceNode("tag:yaml.org,2002:seq", [_word(one) for one in items.default])
        if not isinstance(node, SequenceNode):
            self._expected(node, f"a list, such as {items.example}", key)
            return ()
        return tuple(
            self._item(one, items, f"{key}[{number}]", base)
            for number, one in enumerate(node.value)
        )

    def _item(self, node: Node, items: Items, key: str, base: str) -> dict[str, Any]:
        if isinstance(node, MappingNode):
            self._source.lines.setdefault(key, line_of(node))
            return self._mapping(node, items.keys, key, base)
        if not items.short:
            names = ", ".join(one.name for one in items.keys)
            self._expected(node, f"a mapping of {names}", key)
            return {}
        self._source.lines.setdefault(key, line_of(node))
        values = {one.name: one for one in items.keys}
        short = values.pop(items.short)
        read = {items.short: self._value(node, short.kind, key, base)}
        return read | {
            name: self._default(one, _dotted(key, name), base) for name, one in values.items()
        }

    def _plugin_sections(
        self, node: Node | None, section: PluginSection, key: str
    ) -> tuple[ChosenPlugin | None, ...]:
        if node is None:
            return (self._plugin_section(None, section, key),) if section.default else ()
        if not isinstance(node, SequenceNode) or (section.default and not node.value):
            self._expected(node, f"a list of mappings, such as [{{{section.such}}}]", key)
            return ()
        return tuple(
            self._plugin_section(item, section, f"{key}[{n}]") for n, item in enumerate(node.value)
        )

    def _plugin_section(
        self, node: Node | None, section: PluginSection, key: str
    ) -> ChosenPlugin | None:
        if node is None:
            node = _kind_only(section.default)
        if not isinstance(node, MappingNode):
            self._expected(node, f"a mapping, such as {{{section.such}}}", key)
            return None
        self._source.lines.setdefault(key, line_of(node))
        kinds = [value for name, value in node.value if name.value == KIND.name]
        if not kinds:
            self._source.complain(key, f"its kind is missing; add {section.such}")
            return None
        kind = self._value(kinds[0], KIND.kind, _dotted(key, KIND.name), "")
        if kind is None:
            return None
        try:
            maker = self._find_maker(section.maker, kind)
        except LookupError as error:
            self._source.complain(_dotted(key, KIND.name), str(error.args[0]), line_of(kinds[0]))
            return None
        try:
            own = {one.name for one in maker.keys}
            common = [one for one in section.common if one.name not in own]
            options = self._mapping(node, (KIND, *maker.keys, *common), key, self._state)
        except Exception as error:  # what its keys are, and how they are read, is the plugin's
            self._source.complain(key, _failed(kind, error))
            return None
        del options[KIND.name]
        return ChosenPlugin(maker, options, self._source, key)

    def _default(self, entry: Key, key: str, base: str) -> Any:
        if entry.default is REQUIRED:
            example = f"; add {entry.name}: {entry.example}" if entry.example else ""
            self._source.complain(key, f"missing{example}")
            return None
        if entry.default is None:
            return None
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        return _absolute(entry.kind.read(default), entry.kind, base)

    def _value(self, node: Node, kind: Kind, key: str, base: str) -> Any:
        """A value of a kind; None, and a complaint, if it is none."""
        if kind.item is not None and isinstance(node, SequenceNode):
            for number, item in enumerate(node.value):
                self._source.lines[f"{key}[{number}]"] = line_of(item)
            items = enumerate(node.value)
            return tuple(self._value(one, kind.item, f"{key}[{n}]", base) for n, one in items)
        try:
            value = kind.read(plain(node))
            if kind is ENDPOINT and self._try_endpoint is not None:
                self._try_endpoint(value)
        except (ValueError, OverflowError, yaml.YAMLError) as error:
            why = "" if isinstance(error, yaml.YAMLError) else str(error)
            self._expected(node, kind.expects, key, why)
            return None
        return _absolute(value, kind, base)

    def _expected(self, node: Node, what: str, key: str, why: str = "") -> None:
        because = f" ({why})" if why else ""
        self._source.complain(key, f"found {found(node)}{because}; expected {what}", line_of(node))


def _empty(node: Node | None) -> MappingNode:
    """A mapping without keys, where none was given."""
    return MappingNode("tag:yaml.org,2002:map", [], node.start_mark if node else None)


def _word(text: str) -> ScalarNode:
    """A plain word, as a default has it."""
    return ScalarNode("tag:yaml.org,2002:str", text)


def _kind_only(kind: str) -> MappingNode:
    """A mapping that has a kind and nothing else."""
    return MappingNode("tag:yaml.org,2002:map", [(_word(KIND.name), _word(kind))])


def _absolute(value: Any, kind: Kind, base: str) -> Any:
    """A path, or each path of a list, made absolute."""
    if kind is PATH:
        return os.path.normpath(os.path.join(base, value))
    if kind.item is PATH:
        return tuple(_absolute(item, PATH, base) for item in value)
    return value


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return "known here: " + ", ".join(known)
