"""How the manual is built: python -m sphinx docs docs/_build."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import click  # noqa: E402

import postoffice  # noqa: E402
from postoffice.cli import main  # noqa: E402
from postoffice.config.template import reference  # noqa: E402
from postoffice.metrics.table import METRICS  # noqa: E402
from postoffice.model.log_events import EVENTS, FIELDS  # noqa: E402
from twisted.plugins import postoffice_makers  # noqa: E402

project = "postoffice"
author = "the postoffice developers"
copyright = f"2026 {author}"  # noqa: A001
version = release = postoffice.__version__

exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False
highlight_language = "none"  # shells, configurations, lines of the log: Python says so itself
html_theme = "alabaster"  # comes with Sphinx
html_theme_options = {
    "description": "Receives mail over SMTP, keeps it in maildrops, serves it over POP3",
    "page_width": "min(62em, 96vw)",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False
html_show_copyright = False


def configuration() -> str:
    """The reference of all keys, with those of our own makers."""
    return reference(vars(postoffice_makers).values())


def commands() -> str:
    """What ``--help`` says, of every command."""
    return "\n".join(_command(main, click.Context(main, info_name="postoffice")))


def events() -> str:
    """Every event of the log."""
    fields = [f"``{name}``\n    {meaning}" for name, meaning in FIELDS.items()]
    every = [
        f"``{one.name}`` ({one.level})\n    {one.meaning}\n\n    {_literals(one.fields)}"
        for one in EVENTS.values()
    ]
    return "\n\n".join([*every, "Fields\n------", *fields])


def metrics() -> str:
    """Every metric."""
    return "\n\n".join(
        f"``{one.name}`` ({one.kind})\n    {one.meaning}"
        + (f"\n\n    Labels: {_literals(one.labels)}" if one.labels else "")
        for one in METRICS.values()
    )


def _literals(words: tuple[str, ...]) -> str:
    return " ".join(f"``{word}``" for word in words)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    title = context.command_path
    if context.parent is not None:
        yield from ("", title, "-" * len(title))
    yield from ("", "::", "", f"    {command.get_usage(context).removeprefix('Usage: ')}", "")
    yield inspect.cleandoc(command.help or "").replace("\b\n", "")
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not _everywhere(option, context):
            names, what = option.get_help_record(context) or ("", "")
            yield from ("", f"``{names}``", f"    {what}")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context))


def _everywhere(option: click.Option, context: click.Context) -> bool:
    """Whether each command has it: it is told of once."""
    return context.parent is not None and bool({"--help", "--config", "--json"} & {*option.opts})


def fill(_app: object, _page: str, source: list[str]) -> None:
    """Put what comes from the code where a page says ``.. from the code: NAME``."""
    for made in (configuration, commands, events, metrics):
        mark = f".. from the code: {made.__name__}\n"
        if mark in source[0]:
            source[0] = source[0].replace(mark, made() + "\n")


def setup(app: object) -> None:
    app.connect("source-read", fill)  # type: ignore[attr-defined]
