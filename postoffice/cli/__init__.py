"""The ``postoffice`` command: sets up a post office and administers it, also while it runs."""

from __future__ import annotations

from typing import Any

import click
from twisted.logger import globalLogBeginner

from postoffice import __version__
from postoffice.cli.lazy_group import LazyGroup
from postoffice.cli.options import shared_options
from postoffice.cli.output import say_object
from postoffice.util.process_tuning import tune_command

#: Where the commands are; see ``LazyGroup``.
COMMANDS = {
    "quickstart": ["quickstart:quickstart"],
    "init": ["init:init"],
    "check-config": ["check_config:check_config"],
    "doctor": ["doctor:doctor"],
    "domain": [
        "domains:domain",
        "domain_aliases:domain_alias",
        "domain_records:print_records",
        "domain_transfer:import_",
        "domain_transfer:export",
    ],
    "directory": ["directories:directory"],
    "account": [
        "accounts:account",
        "app_passwords:device",
        "account_removal:remove",
        "account_list:list_accounts",
        "rename:rename",
        "account_states:disable",
        "account_states:enable",
        "account_states:set_state",
        "account_transfer:import_",
        "account_transfer:export",
    ],
    "alias": ["aliases:alias", "alias_transfer:import_", "alias_transfer:export"],
    "maildrop": [
        "maildrops:maildrop",
        "expiry:expire",
        "maildrop_list:list_",
        "maildrop_import:import_",
        "maildrop_export:export",
        "maildrop_compare:compare",
    ],
    "session": ["sessions:session"],
    "queue": [
        "queue:queue",
        "queue_changes:retry",
        "queue_changes:hold",
        "queue_changes:release",
        "queue_changes:remove",
        "queue_changes:bounce",
        "queue_changes:pause",
        "queue_changes:resume",
    ],
    "dkim": ["dkim_keys:dkim"],
    "web": ["web:web"],
    "reload": ["reload:reload"],
    "explain": ["explain:explain", "explain_login:login"],
    "auth-failures": ["auth_failures:auth_failures"],
    "report": ["report:report"],
    "trace": ["trace:trace"],
    "backup": ["backup:backup"],
    "restore": ["restore:restore"],
}


class CommandLine(LazyGroup):
    """
    The top-level command; if a person runs it, the daemon's log messages are not shown.

    If the command line is wrong and has --json anywhere, the error is a JSON object too.
    """

    def main(self, args: Any = None, *rest: Any, **more: Any) -> Any:
        if args is None:
            tune_command()
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
            ctx.exit(error.exit_code)


@click.group(
    cls=CommandLine, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
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
