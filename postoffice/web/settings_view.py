"""The configuration as a table: each key, its value, and where the value comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass

from postoffice.config.chosen_plugin import ChosenPlugin
from postoffice.config.schema import keys_of
from postoffice.config.settings import Settings

#: Options of plugins whose values may hold a secret.
_SECRET = ("password", "secret", "dsn", "conninfo", "uri", "url", "key")


@dataclass(frozen=True)
class SettingLine:
    """One key: its path, its value as text, the line of the file (0: the default), its meaning."""

    key: str
    value: str
    line: int
    text: str


def settings_view(settings: Settings) -> dict[str, list[SettingLine]]:
    """Return the keys of each section; "" has keys outside of sections.  Secrets are hidden."""
    sections: dict[str, list[SettingLine]] = {"": []}
    for line in _lines(settings, settings.source.lines, ""):
        section = line.key.partition(".")[0] if "." in line.key or "[" in line.key else ""
        sections.setdefault(section.partition("[")[0], []).append(line)
    return {name: lines for name, lines in sections.items() if lines}


def _lines(settings: object, lines: Mapping[str, int], prefix: str) -> Iterator[SettingLine]:
    """Yield a line for each key of a settings class, and of those inside it."""
    made: Callable[..., object] = type(settings)
    for key in keys_of(made):
        value = getattr(settings, key.name, getattr(settings, f"{key.name}_", None))
        yield from _of_value(value, lines, f"{prefix}{key.name}", key.text)


def _of_value(
    value: object, lines: Mapping[str, int], path: str, text: str
) -> Iterator[SettingLine]:
    if isinstance(value, ChosenPlugin):
        yield SettingLine(path, _plugin(value), _line(lines, path), text)
    elif _is_section(value):
        yield from _lines(value, lines, f"{path}.")
    elif isinstance(value, tuple) and value and all(map(_has_keys, value)):
        for number, one in enumerate(value):
            yield from _of_value(one, lines, f"{path}[{number}]", text)
    elif isinstance(value, Mapping) and value and all(map(_has_keys, value.values())):
        for name, one in value.items():
            yield from _of_value(one, lines, f"{path}.{name}", text)
    else:
        yield SettingLine(path, _shown(value), _line(lines, path), text)


def _has_keys(value: object) -> bool:
    return isinstance(value, ChosenPlugin) or _is_section(value)


def _is_section(value: object) -> bool:
    """Return whether it is an object of a settings class, which has keys of its own."""
    made: Callable[..., object] = type(value)
    return is_dataclass(made) and bool(keys_of(made))


def _plugin(chosen: ChosenPlugin[object]) -> str:
    options = [
        f"{name}: {'…' if any(word in name for word in _SECRET) else _shown(value)}"
        for name, value in chosen.options.items()
        if value not in (None, (), "")
    ]
    return "; ".join([str(chosen.maker.kind), *options])


def _line(lines: Mapping[str, int], path: str) -> int:
    """Return the line of a key; an item of a list may have only the list's."""
    path = path if path in lines else path.removesuffix(".endpoint")  # its short form
    while path not in lines and path.endswith("]"):
        path = path.rpartition("[")[0]
    return lines.get(path, 0)


def _shown(value: object) -> str:
    if value is None or value == () or value == {}:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
