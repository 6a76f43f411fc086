"""Long lists on the standard output: page by page, so that none is held in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from textwrap import indent
from typing import NoReturn, TypeVar

import click

from postoffice.cli.command import CommandContext
from postoffice.cli.output import say, table, widths_of

T = TypeVar("T")

#: Rows that are printed at once.
PAGE = 1000
Row = tuple[Sequence[str], Mapping[str, object]]


class ListOutput:
    """
    A table, or with --json an object with one list under ``key``.

    If there are no rows, the text ``nothing`` is printed.

    Nothing is printed before a page is full or ``end`` is called: a command that fails early prints
    only its error.  A later page may be wider than those before it.
    """

    def __init__(
        self, context: CommandContext, heads: Sequence[str], key: str, nothing: str = ""
    ) -> None:
        self._heads = heads
        self._key = key
        self._nothing = nothing
        self._as_json = context.as_json
        self._page: list[Row] = []
        self._widths: Sequence[int] = ()
        self.count = 0

    def add(self, cells: Sequence[str], data: Mapping[str, object]) -> None:
        """Add a row, which is one object in JSON."""
        if len(self._page) == PAGE:
            self._print()
        self._page.append((cells, data))

    def end(self, *lines: str) -> NoReturn:
        """Print the rest, and for people these lines after it; the command is done."""
        self._print()
        if self._as_json:
            click.echo("\n  ]\n}" if self.count else f'{{\n  "{self._key}": []\n}}')
        for line in () if self._as_json else lines:
            say(line)
        raise click.exceptions.Exit(0)

    def _print(self) -> None:
        page, self._page = self._page, []
        if self._as_json:
            texts = [json.dumps(data, indent=2, ensure_ascii=False) for _, data in page]
            start = ",\n" if self.count else f'{{\n  "{self._key}": [\n'
            if texts:
                click.echo(start + indent(",\n".join(texts), "    "), nl=False)
        else:
            rows = [cells for cells, _ in page]
            if not self.count:
                rows.insert(0, self._heads if page or not self._nothing else (self._nothing,))
            if rows:
                self._widths = widths_of(rows, self._widths)
                for line in table(rows, self._widths):
                    say(line)
        self.count += len(page)


async def paged(each: AsyncIterator[T], size: int = PAGE) -> AsyncIterator[list[T]]:
    """Yield what an iterator yields, in lists of ``size``."""
    page: list[T] = []
    async for one in each:
        page.append(one)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
