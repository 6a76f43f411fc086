"""``postoffice directory``: the databases that accounts are kept in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.inline_executor import InlineExecutor
from postoffice.daemon import privileges
from postoffice.daemon.build_plugins import build_plugins
from postoffice.model.errors import TemporaryFailure


@click.group()
def directory() -> None:
    """Prepare the databases that accounts are kept in."""


@command("create-schema", directory)
@click.option("--print", "only_print", is_flag=True, help="Only print the SQL, for psql.")
def create_schema(context: CommandContext, only_print: bool) -> Answer:
    """
    Make our tables in a PostgreSQL database.

    The database is the one of the first directory of kind postgresql in the
    configuration that has no queries of its own.  The tables are in the
    schema postoffice; if that exists already, nothing is changed.

    With --json: created, or with --print: sql.
    """
    if only_print:
        from postoffice.accounts.postgresql_directory import script

        text = script()
        return Answer({"sql": text}, text.splitlines())
    settings = context.settings()
    executor = InlineExecutor(context.reactor)
    made = _directory(build_plugins(settings, context.reactor, executor).directories)
    privileges.become(settings.user, settings.state)

    async def whole() -> None:
        try:
            await made.create_schema()
        except TemporaryFailure as error:
            raise Refused(str(error)) from error
        finally:
            await made.stop()

    executor.finish(whole())
    return Answer({"created": True}, ["the tables are there now, in the schema postoffice"])


@runtime_checkable
class SchemaMaker(Protocol):
    """A directory that can make its tables; its module needs psycopg, which need not be there."""

    async def create_schema(self) -> None: ...
    async def stop(self) -> None: ...


def _directory(directories: Iterable[object]) -> SchemaMaker:
    for one in directories:
        if isinstance(one, SchemaMaker):
            return one
    raise Refused("no directory under accounts: is of kind postgresql, without queries of its own")
