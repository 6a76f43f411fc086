"""The ``postoffice`` command: sets up a post office and administers it, also while it runs."""

from __future__ import annotations

from typing import Any

import click
from twisted.logger import globalLogBeginner

from postoffice import __version__
from postoffice.cli import account_transfer, alias_transfer, domain_transfer
from postoffice.cli import queue_changes as queue_changes
from postoffice.cli.account_list import list_accounts
from postoffice.cli.account_removal import remove
from postoffice.cli.account_states import disable, enable, set_state
from postoffice.cli.accounts import account
from postoffice.cli.aliases import alias
from postoffice.cli.app_passwords import device
from postoffice.cli.auth_failures import auth_failures
from postoffice.cli.backup import backup
from postoffice.cli.check_config import check_config
from postoffice.cli.command import WRONG, shared_options
from postoffice.cli.directories import directory
from postoffice.cli.dkim_keys import dkim
from postoffice.cli.doctor import doctor
from postoffice.cli.domain_aliases import domain_alias
from postoffice.cli.domain_records import print_records
from postoffice.cli.domains import domain
from postoffice.cli.expiry import expire
from postoffice.cli.explain import explain
from postoffice.cli.explain_login import login as explain_login
from postoffice.cli.init import init
from postoffice.cli.maildrop_compare import compare
from postoffice.cli.maildrop_export import export as export_maildrop
from postoffice.cli.maildrop_import import import_ as import_maildrop
from postoffice.cli.maildrop_list import list_ as list_maildrops
from postoffice.cli.maildrops import maildrop
from postoffice.cli.output import say_object
from postoffice.cli.queue import queue
from postoffice.cli.quickstart import quickstart
from postoffice.cli.reload import reload
from postoffice.cli.rename import rename
from postoffice.cli.report import report
from postoffice.cli.restore import restore
from postoffice.cli.sessions import session
from postoffice.cli.trace import trace
from postoffice.cli.web import web


class CommandLine(click.Group):
    """
    The top-level command; if a person runs it, the daemon's log messages are not shown.

    If the command line is wrong and has --json anywhere, the error is a JSON object too.
    """

    def main(self, args: Any = None, *rest: Any, **more: Any) -> Any:
        if args is None:
            globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
        return super().main(args, *rest, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["--json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if not ctx.meta["--json"]:
                raise
            say_object({"error": error.format_message()})
            ctx.exit(WRONG)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@shared_options
@click.version_option(__version__, prog_name="postoffice")
@click.pass_context
def main(context: click.Context, /, **_: object) -> None:
    """
    Set up a post office, and administer its domains and accounts, also while it runs.

    The configuration is FILE, or ./postoffice.yaml, or
    /etc/postoffice/postoffice.yaml.  The exit code is 0 for success, 1 if the
    command was refused or something was not found, 2 if the command line or
    the configuration is wrong.

    With --json every command prints one object to the standard output.  The
    help of each command lists the names in the object; they do not change.
    For a command that was refused the object has error; for a wrong
    configuration also problems, each with file, line, key, text.
    """
    from twisted.internet import reactor

    context.obj = reactor


def _add(group: click.Group, *commands: click.Command) -> None:
    for one in commands:
        group.add_command(one)


_add(main, quickstart, init, check_config, doctor, domain, directory, account, alias)
_add(main, maildrop, session, queue, dkim, web, reload, explain, auth_failures, report, trace)
_add(main, backup, restore)
_add(domain, domain_alias, print_records, domain_transfer.import_, domain_transfer.export)
_add(maildrop, expire, list_maildrops, import_maildrop, export_maildrop, compare)
_add(account, device, remove, list_accounts, rename, disable, enable, set_state)
_add(account, account_transfer.import_, account_transfer.export)
_add(explain, explain_login)
_add(alias, alias_transfer.import_, alias_transfer.export)
