"""``postoffice reload``: lets the running daemon read its configuration again."""

from __future__ import annotations

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.sessions import NotRunning, ask_daemon
from postoffice.config.source import ConfigurationError, Problem

#: Seconds that a reload may take: a policy may have to wait for something when it starts.
PATIENCE = 120.0


@command("reload")
def reload(context: CommandContext) -> Answer:
    """
    Let the running daemon read its configuration again.

    New sessions get the new configuration; open sessions keep the old one until they
    end.  A listener whose endpoint has not changed stays open.  If anything is wrong,
    nothing changes, and the errors are shown; the exit code is 2 if they are in the
    configuration.  These keys need a restart: hostname, state, user, accounts, store,
    quota.warnings and quota.warning_text.

    With --json: configuration (the daemon's file), opened and closed (listeners, each
    with its service and address) and warnings.
    """
    try:
        (done,) = ask_daemon(context, {"command": "reload"}, PATIENCE)
    except NotRunning as failure:
        raise NotRunning(f"{failure} (if `state` was changed, restart the daemon)") from failure
    if "problems" in done:
        raise ConfigurationError(Problem(**problem) for problem in done["problems"])
    if "failed" in done:
        raise Refused(f"the reload failed, the old configuration stays: {done['failed']}")
    lines = [f"opened: {one}" for one in done["opened"]]
    lines += [f"closed: {one}" for one in done["closed"]]
    lines += [f"warning: {one}" for one in done["warnings"]]
    return Answer(done, [f"{done['configuration']} was reloaded", *lines])
