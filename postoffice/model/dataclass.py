"""
The decorator ``dataclass`` of the standard library, at a quarter of its cost.

A start of the daemon or the command makes some 200 such classes.  The standard library compiles
each method of each class by itself (0.8 ms a class in Python 3.11, 0.6 ms in 3.13), which was
a fifth of the CPU of a start.  Here the fields are still the standard library's; only
``__init__``, ``__eq__`` and ``__hash__`` are compiled, together, and all classes share the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from dataclasses import dataclass as standard
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

#: Names in the source of methods; no field has them.
_DEFAULT, _SET, _LEFT_OUT = "__default_", "__object_set__", "__left_out__"


class _Factory:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _make(cls: type, frozen: bool, eq: bool, slots: bool, kw_only: bool) -> type:
    own = dict(cls.__dict__)
    if not cls.__doc__:
        cls.__doc__ = cls.__name__  # else the standard library works out a signature
    parts = {"init": False, "repr": False, "eq": False}
    made: type = standard(slots=slots, kw_only=kw_only, **parts)(cls)
    those = fields(made)
    methods = _compiled(made, those, own, frozen, eq)
    methods["__repr__"] = _repr
    if frozen:
        methods |= _frozen(made, frozenset(one.name for one in those))
        if slots:
            methods |= {"__getstate__": _getstate, "__setstate__": _setstate}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    if eq and not frozen and "__hash__" not in own:
        made.__hash__ = None  # type: ignore[assignment]
    return made


def _compiled(
    cls: type, those: Sequence[Field[Any]], own: dict[str, object], frozen: bool, eq: bool
) -> dict[str, Any]:
    """Compile the methods that read the fields by name."""
    names = {_SET: object.__setattr__, _LEFT_OUT: _FACTORY}
    source = list(_init(cls, those, frozen, names))
    wanted = ["__init__"]
    if eq:
        ours, theirs = (
            "".join(f"{of}.{one.name}," for one in those if one.compare) for of in ("self", "other")
        )
        wanted.append("__eq__")
        source += [
            " def __eq__(self, other):",
            f"  if other.__class__ is self.__class__: return ({ours}) == ({theirs})",
            "  return NotImplemented",
        ]
        if frozen and own.get("__hash__") is None:  # that of a class with __eq__ alone is None
            own.pop("__hash__", None)
            wanted.append("__hash__")
            source.append(f" def __hash__(self): return hash(({ours}))")
    text = "\n".join([f"def make({', '.join(names)}):", *source, f" return {', '.join(wanted)},"])
    made: dict[str, Any] = {}
    exec(  # noqa: S102 - as the standard library does
        compile(text, f"<dataclass {cls.__qualname__}>", "exec"),
        sys.modules[cls.__module__].__dict__,
        made,
    )
    methods = dict(zip(wanted, made["make"](**names), strict=True))
    for name, method in methods.items():
        method.__qualname__ = f"{cls.__qualname__}.{name}"
    annotations = {one.name: one.type for one in those if one.init}
    methods["__init__"].__annotations__ = {**annotations, "return": None}
    return methods


def _init(
    cls: type, those: Sequence[Field[Any]], frozen: bool, names: dict[str, Any]
) -> Iterator[str]:
    """The lines of ``__init__``; ``names`` gets what they use."""
    places: list[str] = []
    keywords: list[str] = []
    body: list[str] = []
    for one in those:
        default, made = f"{_DEFAULT}{one.name}", one.default_factory is not MISSING
        parameter, value = one.name, one.name
        if made:
            names[default] = one.default_factory
            parameter = f"{one.name}={_LEFT_OUT}"
            value = f"{default}() if {one.name} is {_LEFT_OUT} else {one.name}"
        elif one.default is not MISSING:
            names[default] = one.default
            parameter = f"{one.name}={default}"
        if one.init:
            (keywords if one.kw_only else places).append(parameter)
        elif default not in names:
            continue  # __post_init__ sets it
        else:
            value = f"{default}()" if made else default
        body.append(
            f"  {_SET}(self, {one.name!r}, {value})" if frozen else f"  self.{one.name} = {value}"
        )
    if hasattr(cls, "__post_init__"):
        body.append("  self.__post_init__()")
    if keywords:
        places += ["*", *keywords]
    yield f" def __init__({', '.join(['self', *places])}):"
    yield from body or ["  pass"]


@recursive_repr()
def _repr(self: Any) -> str:
    values = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(values)})"


def _frozen(cls: Any, names: frozenset[str]) -> dict[str, Any]:
    """Methods that refuse changes of fields; subclasses that are no dataclass may add others."""

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _getstate(self: Any) -> list[object]:
    """What ``pickle`` and ``copy`` take of a frozen object with slots."""
    return [getattr(self, one.name) for one in fields(self)]


def _setstate(self: Any, state: list[object]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        slots: bool = False,
        kw_only: bool = False,
    ) -> type | Callable[[type], type]:
        """Make a class one of values, as ``dataclasses.dataclass`` does; no ``InitVar``."""

        def make(cls: type) -> type:
            return _make(cls, frozen, eq, slots, kw_only)

        return make if cls is None else make(cls)
