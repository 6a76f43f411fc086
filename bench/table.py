"""The figures of all rounds, as a table that a person reads."""

from __future__ import annotations

import statistics

#: name: (what it is, unit, whether more is better)
FIGURES = {
    "post10": ("SMTP, 4 KiB, 10 connections, until in the Maildirs", "msgs/s", True),
    "post10cpu": ("… CPU of the server", "s/1000", False),
    "post50": ("SMTP, 4 KiB, 50 connections, until in the Maildirs", "msgs/s", True),
    "post50p99": ("… p99 of the answer", "ms", False),
    "post50cpu": ("… CPU of the server", "s/1000", False),
    "mix": ("SMTP, realistic mix, 20 connections, until in the Maildirs", "MB/s", True),
    "large": ("SMTP, 20 MiB on each of 8 connections, until in the Maildirs", "MB/s", True),
    "plain": ("SMTP, 4 KiB, 10 long sessions, CPU of the server", "s/1000", False),
    "tls": ("… the same over TLS", "s/1000", False),
    "handshakes": ("… over TLS, a session for each message", "s/1000", False),
    "steady": ("posted and collected at once, right through", "msgs/s", True),
    "steadycpu": ("… CPU of the server", "s/1000", False),
    "sent": ("sent to another server over 20 connections, from a full queue", "msgs/s", True),
    "sentcpu": ("… CPU of the server", "s/1000", False),
    "through": ("submitted and sent at once, right through", "msgs/s", True),
    "throughcpu": ("… CPU of the server", "s/1000", False),
    "taken": ("submitted for accounts, 20 connections, until accepted", "msgs/s", True),
    "takenaway": ("… for another domain", "msgs/s", True),
    "login": ("POP3 logins, small maildrop, 20 clients", "sessions/s", True),
    "logincpu": ("… CPU of the server", "s/1000", False),
    "fetch": ("POP3, collected one by one, 1 client", "msgs/s", True),
    "pipelined": ("POP3, collected pipelined, 4 clients", "msgs/s", True),
    "retr": ("POP3, one RETR of 25 MiB", "MB/s", True),
    "uidl": ("POP3, login and UIDL of 10,000 messages, unchanged maildrop", "ms", False),
    "quit": ("POP3, QUIT behind DELE of 10,000 messages", "ms", False),
    **{
        f"{name}{count}": (f"POP3, maildrop of {count:,} messages: {what}", "ms", False)
        for count in (10, 10_000, 100_000)
        for name, what in (
            ("in", "login, unchanged since the last"),
            ("stat", "STAT after it"),
            ("both", "login and STAT"),
            ("new", "login and STAT, a message has come since"),
            ("list", "UIDL"),
            ("one", "one RETR of 1 KiB"),
        )
    },
    "idle": ("memory of an idle POP3 session (1,000 of them)", "KiB", False),
}

#: From this share of a core on, the load tool may be what limits.
BUSY = 0.7


def _values(rounds: list[dict], name: str) -> list[float]:
    return [figures[name] for figures in rounds if name in figures]


def _median(rounds: list[dict], name: str) -> float | None:
    values = _values(rounds, name)
    return statistics.median(values) if values else None


def _cell(rounds: list[dict], name: str) -> str:
    """The median, and how far the rounds lay from it at most."""
    values, median = _values(rounds, name), _median(rounds, name)
    if median is None:
        return "-"
    text = f"{median:.0f}" if median >= 100 else f"{median:.3g}"
    if len(values) < 2 or not median:
        return text
    return f"{text} ±{100 * max(abs(value - median) for value in values) / median:2.0f} %"


def _ratio(ours: float | None, theirs: float | None, more: bool) -> str:
    if not ours or not theirs:
        return "-"
    return f"{ours / theirs if more else theirs / ours:.2f} x"


def table(results: dict[str, list[dict]], names: list[str]) -> str:
    """``results`` has the rounds of each office by its name, ours first."""
    ours, *peers = results
    lines = [["", "", *results, *(f"to {peer}" for peer in peers)]]
    for name in names:
        text, unit, more = FIGURES[name]
        row = [text, unit, *(_cell(rounds, name) for rounds in results.values())]
        for peer in peers:
            row.append(_ratio(_median(results[ours], name), _median(results[peer], name), more))
        lines.append(row)
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )


def busy_tools(results: dict[str, list[dict]], names: list[str]) -> list[str]:
    """A line for each figure at which the load tool itself was nearly a whole core's work."""
    return [
        f"{name}, {office}: the load tool used {100 * share:.0f} % of a core"
        for name in names
        for office, rounds in results.items()
        if (share := _median(rounds, f"{name}tool")) and share >= BUSY
    ]
