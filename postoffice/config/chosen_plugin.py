"""A plugin as the configuration selects it: its maker and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from postoffice.config.source import ConfigurationError, Source
from postoffice.interfaces import IMaker, PluginContext
from postoffice.interfaces.plugins import Options
from postoffice.model.errors import SettingError

#: What the maker makes: a store, a directory or a policy.
P = TypeVar("P", covariant=True)


@dataclass(frozen=True)
class ChosenPlugin(Generic[P]):
    """A plugin that the configuration selects: its maker, its options, and their lines."""

    maker: IMaker
    options: Options
    source: Source = field(compare=False)
    key: str = field(compare=False)

    def make(self, context: PluginContext) -> P:
        """Make the store, directory or policy.  Raises ConfigurationError, whatever fails."""
        try:
            # It is a maker of the interface that the key asks for.
            return self.maker.make(self.options, context)  # type: ignore[return-value]
        except SettingError as error:
            key = f"{self.key}.{error.key}" if error.key else self.key
            raise ConfigurationError([self.source.problem(key, error.problem)]) from error
        except Exception as error:
            why = failed(self.maker.kind, error)
            raise ConfigurationError([self.source.problem(self.key, why)]) from error


def reason(error: BaseException) -> str:
    """Describe an exception in one line."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def failed(kind: str, error: BaseException) -> str:
    """Say that a plugin failed, which is not our fault."""
    return f"the plugin of kind {kind!r} failed: {reason(error)}"
