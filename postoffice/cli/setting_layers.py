"""Settings in layers: of an account, of its domain, and of the configuration."""

from __future__ import annotations

import functools
from collections.abc import (
    Iterable,
)
from typing import Protocol, Self, TypeVar


class Layer(Protocol):
    """Settings of an account, of a domain, or of the configuration; None where not set."""

    def or_else(self, other: Self, /) -> Self:
        """Return these settings, completed with those of ``other``."""


Settable = TypeVar("Settable", bound=Layer)


def effective(values: Iterable[str], **layers: Settable) -> tuple[Settable, dict[str, str]]:
    """Return the settings, each from the first layer that sets it, and the name of that layer."""
    sources = {
        value: next(name for name, one in layers.items() if getattr(one, value) is not None)
        for value in values
    }
    return functools.reduce(lambda one, other: one.or_else(other), layers.values()), sources
