"""Sizes, numbers and times for people, in their language."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from postoffice.web.languages import Translations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def iso(seconds: float) -> str:
    """Return a time in ISO 8601, for machines."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


#: For each unit the singular and the plural: how long ago, and how long.
_AGO = {
    _DAY: ("%(num)s day ago", "%(num)s days ago"),
    _HOUR: ("%(num)s hour ago", "%(num)s hours ago"),
    _MINUTE: ("%(num)s minute ago", "%(num)s minutes ago"),
}
_LONG = {
    _DAY: ("%(num)s day", "%(num)s days"),
    _HOUR: ("%(num)s hour", "%(num)s hours"),
    _MINUTE: ("%(num)s minute", "%(num)s minutes"),
    1: ("%(num)s second", "%(num)s seconds"),
}
#: All of them, for the catalogues.
COUNTED = (*_AGO.values(), *_LONG.values())
#: Seconds after which a date is shown instead.
_LONG_AGO = 60 * _DAY


class Formats:
    """The formats of one language.  Times are seconds since 1970; ``now`` returns the present."""

    def __init__(self, language: str, now: Callable[[], float]) -> None:
        self._language = language
        self._now = now
        self._translations = Translations(language)

    def number(self, value: int) -> str:
        """Return a whole number with its thousands apart."""
        return f"{value:,}".replace(",", "." if self._language == "de" else ",")

    def size(self, octets: float) -> str:
        """Return a size with at most three digits and its unit, as the command does."""
        value, unit = float(octets), 0
        while value >= 999.5 and unit < len(_UNITS) - 1:
            value, unit = value / 1024, unit + 1
        text = f"{value:.1f}".removesuffix(".0") if unit and value < 99.5 else f"{value:.0f}"
        if self._language == "de":
            text = text.replace(".", ",")
        name = self._translations.gettext("bytes") if unit == 0 else _UNITS[unit]
        return f"{text}\N{NO-BREAK SPACE}{name}"

    def moment(self, seconds: float) -> str:
        """Return a day and a time of day, in the time zone of the machine."""
        local = datetime.fromtimestamp(seconds).astimezone()
        return f"{local:%d.%m.%Y, %H:%M}" if self._language == "de" else f"{local:%-d %b %Y, %H:%M}"

    def ago(self, seconds: float) -> str:
        """Return how long ago a time is, in words; the date if it is long ago, or in the future."""
        passed = self._now() - seconds
        if passed >= _LONG_AGO or passed < -_MINUTE:
            return self.moment(seconds)
        for unit, words in _AGO.items():
            if passed >= unit:
                return self._counted(words, int(passed // unit))
        return self._translations.gettext("just now")

    def duration(self, seconds: float) -> str:
        """Return a length of time in words, in its largest unit without a rest."""
        whole = int(seconds)
        unit = next(unit for unit in _LONG if (whole >= unit and whole % unit == 0) or unit == 1)
        return self._counted(_LONG[unit], whole // unit)

    def _counted(self, words: tuple[str, str], count: int) -> str:
        return self._translations.ngettext(*words, count) % {"num": self.number(count)}
