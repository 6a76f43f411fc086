"""A progress bar for long commands, on standard error if it is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

#: Seconds that a command may take before a bar is shown.
PATIENCE = 2.0
#: Seconds from one drawing of the bar to the next.
REDRAW = 0.2


class Progress:
    """
    A context manager; each ``step`` in it counts work done, of ``length`` if that is known.

    The bar appears after PATIENCE, and only if standard error is a terminal: in scripts,
    and in quick commands, nothing is written.
    """

    def __init__(
        self, label: str, length: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = label
        self.length = length
        self._clock = clock
        self._begun = self._drawn = clock()
        self.done = 0
        self._bar: ProgressBar[object] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *why: object) -> None:
        if self._bar is not None:
            self._draw(self._clock())
            self._bar.render_finish()

    def step(self, more: int = 1) -> None:
        """Count ``more`` steps as done."""
        self.at(self.done + more, self.length)

    def at(self, done: int, length: int | None) -> None:
        """Set how many steps are done, and of how many."""
        self.done, self.length = done, length
        now = self._clock()
        if self._bar is None:
            if now - self._begun > PATIENCE and sys.stderr.isatty():
                self._show(now)
        elif now - self._drawn >= REDRAW:
            self._draw(now)

    def _show(self, now: float) -> None:
        self._bar = click.progressbar(
            iter(()),
            length=self.length,
            label=self._label,
            file=sys.stderr,
            show_pos=self.length is None,
            width=24,
        )
        self._bar.start -= now - self._begun  # what is left is estimated from the whole time
        self._draw(now)

    def _draw(self, now: float) -> None:
        self._drawn = now
        assert self._bar is not None
        self._bar.length = self.length
        self._bar.update(self.done - self._bar.pos)
        self._bar.render_progress()
