"""``postoffice maildrop import`` from live POP3 servers: several accounts at once, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self, TypeVar, cast

import click

from postoffice.cli import import_gone
from postoffice.cli.command import Refused
from postoffice.cli.maildrop_list import named
from postoffice.cli.old_server_options import OldServerOptions, is_url, old_server_options
from postoffice.cli.options import with_options
from postoffice.cli.output import counted, problem_lines, reason, say, sized
from postoffice.cli.progress import Progress
from postoffice.cli.quotas import over_quota
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.maildrop_owners import OwnedMaildrop
from postoffice.interfaces import IMaildropIntake
from postoffice.model.address import Address
from postoffice.model.errors import MaildropLocked, PostOfficeError
from postoffice.moving.old_server_sessions import OldAccount, Stop, Stopped
from postoffice.moving.parallel_imports import run_all
from postoffice.moving.pop3_import import (
    DATES,
    RECEIVED,
    ImportOptions,
    LiveResult,
    POP3Import,
)

T = TypeVar("T")


@dataclass(frozen=True)
class LiveOptions:
    """The values of the options of ``live_options``."""

    old: OldServerOptions
    how: ImportOptions
    age_real: bool
    parallel: int
    delete: bool
    watch: int | None

    @classmethod
    def read(cls, *, age_real: bool, dry: bool, values: dict[str, Any]) -> Self:
        """Take them from a command's arguments; the others are those of ``OldServerOptions``."""
        dates, patience = values.pop("dates"), values.pop("patience")
        parallel, watch = values.pop("parallel"), values.pop("watch")
        delete = values.pop("delete_after_verify")
        if dry and (delete or watch):
            raise click.UsageError("--dry-run excludes --delete-after-verify and --watch")
        how = ImportOptions(dates=dates, dry=dry, patience=patience)
        return cls(OldServerOptions(**values), how, age_real, parallel, delete, watch)


def live_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add the options of an import from a POP3 server."""
    function = with_options(
        function,
        click.option(
            "--dates",
            type=click.Choice(DATES),
            default=RECEIVED,
            help="Which dates messages from a POP3 server get.",
        ),
        click.option(
            "--delete-after-verify",
            is_flag=True,
            help="Delete at the POP3 server what is here and has the same text.",
        ),
        click.option(
            "--watch",
            type=click.IntRange(1, 86400),
            metavar="SECONDS",
            help="Import again after each so many seconds, until Ctrl-C.",
        ),
    )
    return old_server_options(parallel_options(function))


def parallel_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --parallel and --patience."""
    return with_options(
        function,
        click.option(
            "--parallel", type=click.IntRange(1, 64), default=4, help="Accounts at once (4)."
        ),
        click.option(
            "--patience",
            type=click.IntRange(0, 86400),
            default=1800,
            metavar="SECONDS",
            help="How long to wait for a server that refuses for the moment (1800).",
        ),
    )


@dataclass
class LiveImport:
    """One account of an import from a POP3 server, with its result or error."""

    address: str
    source: str
    account: OldAccount
    drop: OwnedMaildrop | None = None
    result: LiveResult = field(default_factory=LiveResult)
    error: str = ""
    done: int = 0
    all: int = 0

    @property
    def well(self) -> bool:
        return not self.error and not self.result.left


def live_import(
    options: LiveOptions, address: Address, source: str, password: str
) -> LiveImport | None:
    """Return the import from a POP3 server; None for another source.  Raises NotAServer."""
    if not is_url(source):
        return None
    name = address.normal
    return LiveImport(name, source, options.old.account(source, name, password))


async def run(
    plugins: Plugins,
    settings: Settings,
    imports: Sequence[LiveImport],
    options: LiveOptions,
    progress: Progress,
    *,
    gone: bool = False,
) -> None:
    """Import all, several at once, and with --watch again and again; each keeps its own error."""
    store = plugins.store
    if not IMaildropIntake.providedBy(store):
        raise Refused("a store of this kind does not support this command")
    for one in imports:
        try:
            one.drop = await named(plugins, settings, Address.parse(one.address))
        except (Refused, PostOfficeError) as why:
            one.error = reason(why)
    able = [one for one in imports if one.drop is not None]
    stop = Stop()
    intake = cast(IMaildropIntake, store)
    _pass(intake, able, options, stop, progress)
    for one in able:
        if one.drop is not None and not one.error:
            if gone:
                await _remove_gone(plugins, one, one.drop.name, dry=options.how.dry)
            more = (one.result.messages, one.result.octets) if options.how.dry else (0, 0)
            one.result.warnings += await over_quota(plugins, one.drop, *more)
    while options.watch is not None and _paused(options.watch, stop):
        before = [(one.result.messages, one.error) for one in able]
        _pass(intake, able, options, stop, progress)
        for one, (messages, error) in zip(able, before, strict=True):
            if one.result.messages > messages:
                more_here = counted(one.result.messages - messages, "new message")
                say(f"{one.address}: {more_here} imported from {one.source}", err=True)
            if one.error and one.error != error:
                say(f"{one.address}: import failed: {one.error}", err=True)


async def _remove_gone(plugins: Plugins, one: LiveImport, name: str, *, dry: bool) -> None:
    if one.result.doubtful:
        one.error = (
            "nothing is removed: the lists of the old server contradict one another, or may not be "
            "whole (the warnings say why), so that a message that is not in them may still be there"
        )
        return
    try:
        await import_gone.remove_gone(plugins, name, one.result, dry=dry)
    except MaildropLocked:
        one.error = "a POP3 session is open; try again later"
    except (Refused, PostOfficeError) as why:
        one.error = reason(why)


def _paused(seconds: int, stop: Stop) -> bool:
    """Wait for the next pass; False if we were stopped."""
    try:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            stop.wait(min(left, 1.0))
    except (KeyboardInterrupt, Stopped):
        return False
    return True


def _pass(
    store: IMaildropIntake,
    imports: Sequence[LiveImport],
    options: LiveOptions,
    stop: Stop,
    progress: Progress,
) -> None:
    """Import each once."""
    before = progress.done
    groups = dict[str, list[LiveImport]]()
    for one in imports:
        assert one.drop is not None
        groups.setdefault(one.drop.name, []).append(one)
    jobs = [partial(_import_each, store, group, options, stop) for group in groups.values()]

    def step() -> None:
        done, everything = (sum(getattr(one, of) for one in imports) for of in ("done", "all"))
        progress.at(before + done, before + everything)

    run_all(jobs, options.parallel, stop, step)
    step()
    for one in imports:
        one.done = one.all = 0


def _import_each(
    store: IMaildropIntake, group: Sequence[LiveImport], options: LiveOptions, stop: Stop
) -> None:
    """Import into one maildrop, from one server after another: each import locks it."""
    for one in group:
        _import(store, one, options, stop)


def _import(store: IMaildropIntake, one: LiveImport, options: LiveOptions, stop: Stop) -> None:
    """Import one account, on a thread of its own."""
    assert one.drop is not None

    def step(done: int, of: int) -> None:
        one.done, one.all = done, of

    writer = store.import_writer(one.drop.name, options.age_real)
    reader = store.reader(one.drop.name) if options.delete else None
    work = POP3Import(one.account, writer, options.how, stop, step, reader=reader)
    try:
        if stop.is_set:
            raise Stopped
        work.run()
        one.error = ""
    except Stopped:
        one.error = "" if options.watch else "it was stopped; import again to go on"
    except MaildropLocked:
        one.error = "a POP3 session is open; try again later"
    except PostOfficeError as error:
        one.error = reason(error)
    _add(one.result, work.result)


def _add(whole: LiveResult, more: LiveResult) -> None:
    """Add the counts of a pass; replace what is left, and the warnings, by those of the pass."""
    whole.messages += more.messages
    whole.octets += more.octets
    whole.there = more.there
    whole.deleted += more.deleted
    whole.left, whole.warnings = more.left, more.warnings
    whole.listed, whole.doubtful = more.listed, more.doubtful


def lines(one: LiveImport, *, dry: bool) -> Iterator[str]:
    """Yield the result of an import, for people."""
    said, verb = one.result, "would be imported" if dry else "imported"
    if one.error:
        yield f"{one.address}: import failed: {one.error}"
    if said.messages or said.there or not one.error:
        deleted = f", {said.deleted} deleted there" if said.deleted else ""
        yield (
            f"{one.address}: {counted(said.messages, 'message')}, {sized(said.octets)}, {verb} "
            f"from {one.account.server}; {said.there} were there before{deleted}"
            f"{import_gone.removed_words(said, dry=dry)}"
        )
    yield from (f"{one.address}: warning: {why}" for why in said.warnings)
    yield from problem_lines(one.address, "left", said.left, "were left")


def data(one: LiveImport) -> dict[str, object]:
    """Return the result of an import for --json."""
    result = asdict(one.result)
    del result["listed"], result["doubtful"]
    return {
        "address": one.address,
        "source": one.source,
        **result,
        "error": one.error or None,
    }
