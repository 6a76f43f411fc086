"""How a settings class is a table of keys: each field says what the file may have there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from inspect import cleandoc
from keyword import iskeyword
from typing import Never, NoReturn, TypeVar

from postoffice.config.chosen_plugin import ChosenPlugin, P
from postoffice.interfaces import IMaker
from postoffice.model.config_values import REQUIRED, TEXT, Key, Kind

T = TypeVar("T")

#: The first key of each mapping that selects a plugin.
KIND = Key("kind", TEXT, REQUIRED, "The name of the plugin.")
_KEY = "key"  # where a field's metadata has its Key
_TEXT = re.compile(r"(\w+): ")


class WithCertificate(tuple[str, ...]):
    """A default that holds only if there is a certificate; without one the list is empty."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Section(Kind[T]):
    """
    A mapping with keys of its own, which is read into a settings class.

    If ``short`` is set, a plain value stands for a mapping with this one key.
    """

    settings: Callable[..., T]
    keys: tuple[Key, ...]
    short: str = ""

    def make(self, values: Mapping[str, object]) -> T:
        """Make the settings from the values of the keys."""
        return self.settings(**{f"{n}_" if iskeyword(n) else n: v for n, v in values.items()})


@dataclass(frozen=True, kw_only=True)
class Named(Kind[Mapping[str, T]]):
    """A mapping from names, which the administrator chooses, to sections."""

    section: Section[T]


@dataclass(frozen=True, kw_only=True)
class Plugin(Kind[ChosenPlugin[P]]):
    """
    A mapping with ``kind``, which selects a plugin, and the keys of that plugin's maker.

    ``maker`` is the interface of the makers. Every kind has the keys in ``common``; a
    maker's key of the same name replaces the common one.
    """

    maker: type[IMaker]
    example: str
    common: tuple[Key, ...] = ()

    def keys_with(self, maker: IMaker) -> list[Key]:
        """The keys of a maker, and the common ones."""
        own = {one.name for one in maker.keys}
        return [*maker.keys, *(one for one in self.common if one.name not in own)]


def key(kind: Kind[T], default: object, example: str | None = None, *, also: str = "") -> T:
    """
    A field of a settings class that is a key of the file.

    The key's text is in the docstring of the class; ``also`` is added to it.  A field whose
    name would be a word of Python has a ``_`` at its end: ``from_``.
    """
    found: T = field(metadata={_KEY: Key("", kind, default, also, example)})
    return found


def section(settings: Callable[..., T]) -> T:
    """A field that is a section: its text is the start of the docstring of its class."""
    found: T = field(metadata={_KEY: Key("", section_of(settings), {}, _intro(settings))})
    return found


def optional_section(settings: Callable[..., T]) -> T | None:
    """A field that is a section, and None if the file does not have it."""
    found: T = field(metadata={_KEY: Key("", section_of(settings), None, _intro(settings))})
    return found


def list_of_sections(
    settings: Callable[..., T], example: str, short: str = ""
) -> Kind[tuple[T, ...]]:
    """A list of mappings, each read into a settings class."""
    return Kind(f"a list, such as {example}", _empty_list, section_of(settings, short))


def named_sections(settings: Callable[..., T], example: str) -> Named[T]:
    """A mapping from names to mappings, each read into a settings class."""
    expects = f"a mapping, such as {example}"
    return Named(expects, _empty_mapping, section=section_of(settings))


def plugin(maker: type[IMaker], example: str, common: tuple[Key, ...] = ()) -> Plugin[P]:
    """A mapping that selects a plugin."""
    expects = f"a mapping, such as {{kind: {example}}}"
    return Plugin(expects, _no_value, maker=maker, example=example, common=common)


def plugins(kind: Plugin[P], *, required: bool = False) -> Kind[tuple[ChosenPlugin[P], ...]]:
    """A list of mappings that select plugins; ``required``: at least one."""
    expects = f"a list of mappings, such as [{{kind: {kind.example}}}]"
    return Kind(expects, _no_value if required else _empty_list, kind)


@lru_cache
def section_of(settings: Callable[..., T], short: str = "") -> Section[T]:
    """The mapping that is read into a settings class."""
    keys = keys_of(settings)
    names = ", ".join(one.name for one in keys)
    return Section(f"a mapping of {names}", _no_value, settings=settings, keys=keys, short=short)


@lru_cache
def keys_of(settings: Callable[..., object]) -> tuple[Key, ...]:
    """The keys of a settings class, with their names and texts."""
    assert isinstance(settings, type)
    texts: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        texts |= _texts(base)
    found = []
    for one in fields(settings):
        if _KEY in one.metadata:
            key: Key = one.metadata[_KEY]
            text = f"{texts.get(one.name, '')} {key.text}".strip()
            found.append(replace(key, name=one.name.removesuffix("_"), text=text))
    return tuple(found)


def _paragraphs(settings: object) -> list[str]:
    """A docstring's paragraphs, and its "name: text" entries, each in one line."""
    doc = re.sub(r"\n +", " ", cleandoc(vars(settings).get("__doc__") or ""))
    return doc.split("\n")


def _intro(settings: object) -> str:
    """The first paragraph."""
    lines = _paragraphs(settings)
    return " ".join(lines[: lines.index("")] if "" in lines else lines)


def _texts(settings: object) -> dict[str, str]:
    """What the docstring of a class says of its fields."""
    lines = _paragraphs(settings)
    return {m[1]: one[m.end() :] for one in lines if (m := _TEXT.match(one))}


def _empty_list(value: object) -> tuple[Never, ...]:
    """Whole lists are read item by item; this is for all else."""
    if value == []:
        return ()
    raise ValueError


def _empty_mapping(value: object) -> dict[str, Never]:
    """Whole mappings are read name by name; this is for all else."""
    if value == {}:
        return {}
    raise ValueError


def _no_value(_: object) -> NoReturn:
    raise ValueError
