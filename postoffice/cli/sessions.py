"""``postoffice session``: list and end the sessions of the running daemon."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, iso, moment, table
from postoffice.cli.parameters import ADDRESS
from postoffice.daemon.control_socket import PATIENCE, place
from postoffice.model.address import Address


class NotRunning(Refused):
    """No daemon is running."""


@click.group()
def session() -> None:
    """List the sessions of the running daemon, and end them."""


@command("list", session)
def list_sessions(context: CommandContext) -> Answer:
    """
    List the sessions: account, client, since when, and what they do.

    With --json: sessions: each with id, service, account, client, tls, since, doing
    (handshake, waiting, working, sending or idle).
    """
    found = sorted(ask_daemon(context, {"command": "sessions"}), key=lambda one: str(one["since"]))
    rows = [("SERVICE", "ACCOUNT", "CLIENT", "TLS", "SINCE", "DOING")]
    rows += [
        (
            one["service"],
            one["account"] or "",
            one["client"] or "local",
            one["tls"] or "none",
            moment(one["since"]),
            one["doing"],
        )
        for one in found
    ]
    for one in found:
        one["since"] = iso(one["since"])
    total = counted(len(found), "session")
    return Answer({"sessions": found}, [*table(rows), "", total] if found else ["no sessions"])


@command("end", session)
@click.argument("address", type=ADDRESS)
def end(context: CommandContext, address: Address) -> Answer:
    """
    End the sessions of the account ADDRESS.

    A session has five seconds to finish the command in progress.  Its client may log in
    again at once.

    With --json: account, ended (how many sessions).
    """
    found = ask_daemon(context, {"command": "end", "account": address.normal})
    data = {"account": address.normal, "ended": len(found)}
    return Answer(data, [f"{counted(len(found), 'session')} of {address.normal} ended"])


def end_all(context: CommandContext, name: str, done: str) -> int:
    """End the sessions of an account; return how many.  ``done`` is for the text of Refused."""
    try:
        return len(ask_daemon(context, {"command": "end", "account": name}))
    except NotRunning:
        return 0
    except Refused as failure:
        raise Refused(
            f"{done}, but ending its sessions failed: {failure}; postoffice session end {name}"
        ) from failure


def ask_daemon(
    context: CommandContext, question: Mapping[str, object], patience: float = PATIENCE
) -> list[dict[str, Any]]:
    """Return the daemon's answer, within ``patience`` seconds.  Raises Refused."""
    path = place(context.settings().state)
    try:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(patience)
            daemon.connect(path)
            daemon.sendall(json.dumps(question).encode() + b"\n")
            with daemon.makefile("rb") as lines:
                answer = [json.loads(line) for line in lines]
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"the daemon is not running: nobody answers on {path}") from None
    except (OSError, ValueError) as error:
        raise Refused(f"asking the daemon on {path} failed: {error}") from error
    last = answer.pop() if answer else {}
    if "done" not in last:
        raise Refused(str(last.get("error", "the daemon refused to answer")))
    return answer
