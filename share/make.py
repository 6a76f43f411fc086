"""
Make what is installed beside the package, from the code: python share/make.py.

Man pages (postoffice(1), postoffice.yaml(5), postoffice(8)), what bash, zsh and
fish need to complete command lines, and the systemd unit in etc/.  tests/test_share.py
says when it is time.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import click  # noqa: E402
from click.shell_completion import get_completion_class  # noqa: E402

from postoffice.cli import main, systemd_unit  # noqa: E402
from postoffice.config.template import reference  # noqa: E402
from postoffice.daemon.twistd_plugin import Options  # noqa: E402
from twisted.plugins import postoffice_makers  # noqa: E402

COMPLETIONS = {
    "bash": "bash-completion/completions/postoffice",
    "zsh": "zsh/site-functions/_postoffice",
    "fish": "fish/vendor_completions.d/postoffice.fish",
}
FILES = """\
.TP
.I ./postoffice.yaml\\fR, \\fI/etc/postoffice/postoffice.yaml
The configuration, unless
.B \\-\\-config
names another."""
SIGNALS = {
    "SIGHUP": "Reloads the configuration, as `postoffice reload` does; opens the log file anew.",
    "SIGUSR1": "Opens the log file anew.",
    "SIGTERM": "Closes the post office; open sessions have half a minute to finish.",
}
HEADINGS = {"-": ".SS", "~": ".SS"}


def every() -> dict[str, str]:
    """What is made: by the places of the files."""
    made = {place: completion(shell) for shell, place in COMPLETIONS.items()}
    made["man/man1/postoffice.1"] = page("postoffice", 1, of_the_command())
    made["man/man5/postoffice.yaml.5"] = page("postoffice.yaml", 5, of_the_configuration())
    made["man/man8/postoffice.8"] = page("postoffice", 8, of_the_daemon())
    return made


def completion(shell: str) -> str:
    """What a shell reads to complete the words of a command line."""
    kind = get_completion_class(shell)
    assert kind is not None
    asks = kind(main, {}, "postoffice", "_POSTOFFICE_COMPLETE")
    made = (asks.source_template % asks.source_vars()).strip() + "\n"
    # zsh loads the file at the first TAB, and calls it as a function from the second on
    return made.replace("[-1] == loadautofunc", "[-1] == (loadautofunc|shfunc)")


def page(name: str, section: int, lines: Iterator[str]) -> str:
    """A man page."""
    title = f'.TH "{name.upper()}" "{section}" "" "Postoffice" "Postoffice"'
    return "\n".join([title, *(line for line in lines if line)]) + "\n"


# -- the pages ----------------------------------------------------------------------------


def of_the_command() -> Iterator[str]:
    """postoffice(1)."""
    context = click.Context(main, info_name="postoffice", **main.context_settings)
    yield from (".SH NAME", r"postoffice \- make a post office, and edit its domains and accounts")
    yield from (".SH SYNOPSIS", *usage(main, context))
    yield from (".SH DESCRIPTION", *text(main.help), ".SH OPTIONS", *options(main, context))
    yield ".SH COMMANDS"
    yield from commands(main, context)
    yield from (".SH FILES", FILES, ".SH SEE ALSO")
    yield r".BR postoffice.yaml (5), \ postoffice (8), \ twistd (1)"


def commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Every command of a group, and of the groups in it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from commands(command, inner)
            continue
        yield from (f'.SS "{escaped(inner.command_path)}"', *usage(command, inner))
        yield from (".PP", *text(command.help), *options(command, inner))


def usage(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield rf"\fB{escaped(context.command_path)}\fR {escaped(pieces)}"


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """What it takes; --config, --json and --help are told of once."""
    for option in command.get_params(context):
        told = option.get_help_record(context) if isinstance(option, click.Option) else None
        if told and not (context.parent and {"--help", "--config", "--json"} & {*option.opts}):
            yield from (".TP", rf"\fB{escaped(told[0])}\fR", *text(told[1]))


def of_the_configuration() -> Iterator[str]:
    """postoffice.yaml(5)."""
    keys = reference(vars(postoffice_makers).values())
    yield from (".SH NAME", r"postoffice.yaml \- the configuration of a post office")
    yield from (".SH DESCRIPTION", "A file in YAML; each key has a default, if it is not required.")
    yield from text("`postoffice check-config` says what is wrong in it.")
    yield from (".SH KEYS", *structured(keys), ".SH FILES", FILES)
    yield from (".SH SEE ALSO", r".BR postoffice (1), \ postoffice (8)")


def of_the_daemon() -> Iterator[str]:
    """postoffice(8)."""
    yield from (".SH NAME", r"postoffice \- the daemon of a post office")
    yield from (".SH SYNOPSIS", r"\fBtwistd\fR [OPTIONS] \fBpostoffice\fR [\-\-config FILE]")
    yield from (".SH DESCRIPTION", *text(Options.longdesc))
    yield from (".PP", *text("twistd runs it: `twistd -n` in the foreground, with its log on "))
    yield from text("standard output, as systemd and containers want it; `twistd` alone in the ")
    yield from text("background, with `--pidfile` and `--logfile`.")
    yield ".SH OPTIONS"
    for name, short, _, what in Options.optParameters:
        yield from (".TP", rf"\fB\-{short}\fR, \fB\-\-{escaped(name)}\fR FILE", *text(what))
    yield from (".SH SIGNALS", *signals())
    yield from (".SH FILES", FILES, ".SH SEE ALSO")
    yield r".BR postoffice (1), \ postoffice.yaml (5), \ twistd (1)"


def signals() -> Iterator[str]:
    for name, what in SIGNALS.items():
        yield from (".TP", rf"\fB{name}\fR", *text(what))


# -- roff ---------------------------------------------------------------------------------


def escaped(words: str) -> str:
    r"""As roff wants it: ``\`` and ``-`` as they are, and no request at the start."""
    words = words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    words = words.replace("“", '"').replace("”", '"').replace("§", "\\(sc")
    return f"\\&{words}" if words.startswith(".") else words


def text(words: str | None) -> Iterator[str]:
    """Paragraphs; what stands between backquotes, single or double, is bold."""
    for number, paragraph in enumerate(inspect.cleandoc(words or "").split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(escaped, paragraph.split("\n")[1:]), ".fi")
            continue
        for line in paragraph.split("\n"):
            parts = escaped(line.replace("``", "`").replace("\\*", "*").strip()).split("`")
            yield "".join(rf"\fB{p}\fR" if odd % 2 else p for odd, p in enumerate(parts))


def structured(page: str) -> Iterator[str]:
    """reStructuredText as ``reference`` writes it: headings, paragraphs, definitions."""
    lines = page.split("\n")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if after and after[0] in HEADINGS and set(after) == {after[0]}:
            yield f'{HEADINGS[after[0]]} "{escaped(line)}"'
        elif not line:
            yield ".sp" if after.startswith("    ") else ".PP" if after else ""
        elif line[0] not in HEADINGS or set(line) != {line[0]}:
            if line.startswith("``") and after.startswith("    "):
                yield ".TP"
            yield from text(line)


if __name__ == "__main__":
    for place, made in every().items():
        path = HERE / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
    (HERE.parent / "etc" / systemd_unit.NAME).write_text(systemd_unit.text())
