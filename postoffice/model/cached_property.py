"""A property that is computed once; before Python 3.12 that of ``functools`` takes a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


class cached_property(Generic[S, T]):  # noqa: N801
    """A property whose value is computed once, and then kept in the object's ``__dict__``."""

    def __init__(self, method: Callable[[S], T]) -> None:
        self._method = method
        self._name = method.__name__
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type[object]) -> cached_property[S, T]: ...
    @overload
    def __get__(self, instance: S, owner: type[object]) -> T: ...
    def __get__(self, instance: S | None, owner: type[object]) -> cached_property[S, T] | T:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._method(instance)
        return value
