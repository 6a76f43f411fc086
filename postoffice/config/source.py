"""The text of a configuration: parsed with line numbers, and the problems found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from postoffice.model.errors import StartupError

#: Mappings and lists inside one another.
DEPTH_MAXIMUM = 20
#: The most octets of a file.
SIZE_MAXIMUM = 1 << 20
#: The problem of an empty configuration.
_EMPTY = "empty; `postoffice init` writes a configuration to begin with"

_STANDARD = "tag:yaml.org,2002:"
_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq"}


@dataclass(frozen=True, order=True)
class Problem:
    """One problem: its file, line and key, and what is expected instead."""

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigurationError(StartupError):
    """The configuration cannot be used; ``problems`` has all that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Source:
    """The file of a configuration, the lines of its keys, and the problems found in it."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, key: str, text: str, line: int = 0) -> Problem:
        """A problem with a key; if the key has no line, it gets that of the mapping around it."""
        around = key
        while not line and around:
            line = self.lines.get(around, 0)
            around = around.rpartition(".")[0]
        return Problem(self.file, line, key, text)

    def complain(self, key: str, text: str, line: int = 0) -> None:
        """Note a problem."""
        self.problems.append(self.problem(key, text, line))


class _Composer(yaml.SafeLoader):
    """Composes nodes. Aliases and deep nesting are errors, so that no small text grows large."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        self._depth += 1
        if self._depth > DEPTH_MAXIMUM:
            raise yaml.MarkedYAMLError(problem="too deeply nested", problem_mark=mark)
        node: Node | None = super().compose_node(parent, index)
        if node is not None and node.tag.removeprefix(_STANDARD) not in _TAGS:
            raise yaml.MarkedYAMLError(
                problem=f"the tag {node.tag} is not allowed", problem_mark=mark
            )
        self._depth -= 1
        return node


def text_of(octets: bytes, source: Source) -> str:
    """Decode the octets of a file, at most SIZE_MAXIMUM.  Raises ConfigurationError."""
    line = 0
    try:
        if len(octets) <= SIZE_MAXIMUM:
            return octets.decode("utf-8-sig")
        why = f"over {SIZE_MAXIMUM >> 20} MiB; a configuration is smaller"
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        why = f"not UTF-8: the octet 0x{octets[error.start]:02X}; save the file as UTF-8"
    raise ConfigurationError([source.problem("", why, line)])


def compose(text: str, source: Source, empty: str = _EMPTY) -> MappingNode | None:
    """Parse a text to a mapping. None if it is none: the source has the problem."""
    try:
        node = yaml.compose(text, Loader=_Composer)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(part for part in (error.problem, error.context) if part)
        source.complain("", f"not YAML: {why}", mark.line + 1 if mark else 0)
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        source.complain("", f"not YAML: a character that is not allowed: {error.reason}", line)
        return None
    if node is None:
        source.complain("", empty)
        return None
    if not isinstance(node, MappingNode):
        source.complain("", f"found {found(node)}; expected a mapping of keys", line_of(node))
        return None
    return node


def found(node: Node) -> str:
    """Describe a node in a few words, for an error text."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list" if node.value else "an empty list"
    if is_nothing(node):
        return "nothing"
    text = str(node.value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return repr(text) if node.tag.endswith(":str") or not text.isprintable() else text


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark else 0


def is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == f"{_STANDARD}null"


def plain(node: Node) -> object:
    """
    Convert a node to a Python value: text, number, list, dictionary.

    Raises ValueError or a YAMLError if that is impossible.
    """
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.value]
    if isinstance(node, MappingNode):
        return {str(found(name)): plain(value) for name, value in node.value}
    return yaml.SafeLoader("").construct_object(node)
