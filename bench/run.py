#!/usr/bin/env python3
"""
Measure the post office, beside Postfix + Dovecot on the same machine in the same run.

    bench/run.py                     all figures, three rounds, the peers that are installed
    bench/run.py --short             a smoke test: ours alone, small, under two minutes
    bench/run.py post10 steady       only these figures

Every figure is the median of the rounds; the peers take turns within a round,
each in folders of its own.  Run it as root for a disk of its own and for the
peers; see README.rst.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import loadlib
from disk import disk, syncs_per_second
from offices import DOMAIN, OFFICES, PASSWORD, Office, Ours

HERE = Path(__file__).resolve().parent

#: name: (what it is, unit, whether more is better)
FIGURES = {
    "post10": ("SMTP, 4 KiB, 10 connections, until in the Maildirs", "msgs/s", True),
    "post10cpu": ("… CPU of the server", "s/1000", False),
    "post50": ("SMTP, 4 KiB, 50 connections, until in the Maildirs", "msgs/s", True),
    "post50p99": ("… p99 of the answer", "ms", False),
    "post50cpu": ("… CPU of the server", "s/1000", False),
    "mix": ("SMTP, realistic mix, 20 connections, until in the Maildirs", "MB/s", True),
    "large": ("SMTP, 20 MiB on each of 8 connections, until in the Maildirs", "MB/s", True),
    "steady": ("posted and collected at once, right through", "msgs/s", True),
    "steadycpu": ("… CPU of the server", "s/1000", False),
    "login": ("POP3 logins, small maildrop, 20 clients", "sessions/s", True),
    "fetch": ("POP3, collected one by one, 1 client", "msgs/s", True),
    "pipelined": ("POP3, collected pipelined, 4 clients", "msgs/s", True),
    "retr": ("POP3, one RETR of 25 MiB", "MB/s", True),
    "uidl": ("POP3, login and UIDL of 10,000 messages, unchanged maildrop", "ms", False),
    "idle": ("memory of an idle POP3 session (1,000 of them)", "KiB", False),
}


class Measuring:
    """One office, measured in one round."""

    def __init__(self, office: Office, scale: float):
        self.office = office
        self.scale = scale

    def messages(self, count: int) -> int:
        return max(20, int(count * self.scale))

    def tool(self, name: str, *args: object) -> dict:
        command = [sys.executable, HERE / f"{name}.py", *args]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def cpu(self) -> float:
        pids = getattr(self.office, "pids", [self.office.pid])
        return sum(loadlib.cpu_seconds(pid) for pid in pids)

    def post(self, connections: int, messages: int, size: str, wait: int = 300) -> tuple:
        """What smtpload says, megabytes a second until all is there, CPU seconds."""
        before = self.cpu()
        args = ["--port", self.office.post_port, "-c", connections, "-m", messages]
        args += ["--size", size, "--users", 200, "--domain", DOMAIN]
        args += ["--maildir", self.office.maildir, "--wait", wait]
        if self.office.lmtp:
            args.append("--lmtp")
        said = self.tool("smtpload", *args)
        accepted = said["accept_mb_per_s"] / said["accept_per_s"]
        return said, said["delivered_per_s"] * accepted, self.cpu() - before

    def collect(self, mode: str, *args: object) -> dict:
        common = ["--port", self.office.pop3_port, "--mode", mode, "--password", PASSWORD]
        return self.tool("popload", *common, "--user-format", self.office.login, *args)

    def log_all_in(self) -> None:
        """Each account logs in once: what is measured is not the first login of the day."""
        self.collect("login", "-c", 4, "-n", 200, "--users", 200)

    def post_to(self, first: int, users: int, messages: int, size: str) -> None:
        """Mail for a few, brought by the office itself: it lies as it lies every day."""
        args = ["--port", self.office.post_port, "-c", 10, "-m", messages, "--size", size]
        args += ["--first-user", first, "--users", users, "--domain", DOMAIN]
        args += ["--maildir", self.office.maildir, "--wait", 300]
        self.tool("smtpload", *args, *(["--lmtp"] if self.office.lmtp else []))

    def fill(self, users: int, messages: int, size: str, first: int = 0) -> None:
        args = ["--maildir", self.office.maildir, "--users", users, "-m", messages]
        args += ["--size", size, "--first-user", first, "--eol", self.office.eol]
        if self.office.owner:
            args += ["--owner", "{}:{}".format(*_ids(self.office.owner))]
        subprocess.run(
            [sys.executable, str(HERE / "fillmaildir.py"), *map(str, args)],
            check=True,
            capture_output=True,
        )


def _ids(owner: str) -> tuple[int, int]:
    import grp
    import pwd

    user, group = owner.split(":")
    return pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid


def posting(m: Measuring, wanted: set[str]) -> dict:
    figures = {}
    for connections in (10, 50):
        if f"post{connections}" in wanted:
            messages = m.messages(4000)
            said, _, cpu = m.post(connections, messages, "4k")
            figures[f"post{connections}"] = said["delivered_per_s"]
            figures[f"post{connections}cpu"] = cpu / messages * 1000
            figures[f"post{connections}p99"] = said["latency_ms"]["p99"]
    if "mix" in wanted:
        figures["mix"] = m.post(20, m.messages(400), "realistic")[1]
    if "large" in wanted:
        figures["large"] = m.post(8, 8, "20m" if m.scale >= 1 else "2m")[1]
    return figures


def both(m: Measuring, wanted: set[str]) -> dict:
    if "steady" not in wanted:
        return {}
    m.log_all_in()
    before, messages = m.cpu(), m.messages(10_000)
    args = ["--smtp", m.office.post_port, "--pop3", m.office.pop3_port, "-m", messages]
    args += ["--login-format", m.office.login, "--domain", DOMAIN, "--password", PASSWORD]
    if m.office.lmtp:
        args.append("--lmtp")
    said = m.tool("steady", *args)
    return {
        "steady": said["through_per_s"],
        "steadycpu": (m.cpu() - before) / messages * 1000,
    }


def collecting(m: Measuring, wanted: set[str]) -> dict:
    figures = {}
    m.post_to(0, 200, m.messages(1000), "4k")
    if wanted & {"login", "fetch", "pipelined"}:
        m.log_all_in()
    if "login" in wanted:
        said = m.collect("login", "-c", 20, "-n", m.messages(4000), "--users", 200)
        figures["login"] = said["sessions_per_s"]
    m.post_to(310, 10, m.messages(1000), "4k")
    if "fetch" in wanted:
        said = m.collect("fetch", "-c", 1, "-n", m.messages(40), "--users", 10, "--first-user", 310)
        figures["fetch"] = said["messages_per_s"]
    if "pipelined" in wanted:
        said = m.collect(
            "fetch",
            "-c",
            4,
            "-n",
            m.messages(100),
            "--users",
            10,
            "--first-user",
            310,
            "--window",
            50,
        )
        figures["pipelined"] = said["messages_per_s"]
    if "retr" in wanted:
        m.post_to(300, 1, 1, "25m")
        said = m.collect("fetch", "-c", 1, "-n", 5, "--users", 1, "--first-user", 300)
        figures["retr"] = said["retr_mb_per_s"]
    if "uidl" in wanted:
        m.fill(1, m.messages(10_000), "1k", 301)
        args = ["-c", 1, "-n", 7, "--users", 1, "--first-user", 301]
        m.collect("uidl", *args)
        figures["uidl"] = m.collect("uidl", *args)["ms"]["session"]["p50"]
    return figures


def idling(m: Measuring, wanted: set[str]) -> dict:
    if "idle" not in wanted:
        return {}
    sessions = m.messages(1000)
    said = m.collect(
        "idle", "-n", sessions, "--users", 1000, "--server-pid", m.office.pid or m.office.pids[0]
    )
    return {"idle": said["pss_kib_per_session"]}


def measure(kind: type[Office], folder: Path, scale: float, wanted: set[str]) -> dict:
    """All wanted figures of one office, each stage in an office of its own."""
    figures = {}
    for stage in (posting, both, collecting, idling):
        office = kind(folder / stage.__name__)
        office.start()
        try:
            figures |= stage(Measuring(office, scale), wanted)
        finally:
            office.stop()
    return figures


def table(results: dict[str, list[dict]], names: list[str]) -> str:
    kinds = list(results)
    lines = [
        [
            "",
            "",
            *(OFFICES[kind].name for kind in kinds),
            *(f"to {OFFICES[k].name}" for k in kinds[1:]),
        ]
    ]
    for name in names:
        text, unit, more = FIGURES[name]
        medians = [
            statistics.median(values)
            if (values := [r[name] for r in results[kind] if name in r])
            else None
            for kind in kinds
        ]
        row = [text, unit, *("-" if value is None else f"{value:.4g}" for value in medians)]
        for other in medians[1:]:
            if other is None or medians[0] is None or not other or not medians[0]:
                row.append("-")
            else:
                row.append(f"{medians[0] / other if more else other / medians[0]:.2f} x")
        lines.append(row)
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="with postoffice installed")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    options = parser.parse_args()
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    Ours.python = options.python
    wanted = set(options.figures or FIGURES)
    wanted |= {name.removesuffix("cpu").removesuffix("p99") for name in wanted}
    rounds, scale = (1, 0.05) if options.short else (options.rounds, 1.0)
    kinds = {"ours": Ours}
    for kind, office in list(OFFICES.items())[1:]:
        if options.short or options.no_peers:
            continue
        if missing := office.missing():
            print(f"{office.name} is left out: {missing}", flush=True)
        else:
            kinds[kind] = office
    results: dict[str, list[dict]] = {kind: [] for kind in kinds}
    with disk(8, wanted=os.geteuid() == 0 and not options.short) as (folder, what):
        print(f"on {what}; {os.cpu_count()} cores", flush=True)
        limits = {n: syncs_per_second(folder, n) for n in (1, 4)}
        print(
            f"the disk: {limits[1]:.0f} files and folders synced a second by one thread, {limits[4]:.0f} by four",
            flush=True,
        )
        for number in range(rounds):
            for kind, office in kinds.items():
                print(f"round {number + 1} of {rounds}: {office.name}", flush=True)
                results[kind].append(measure(office, folder / f"{kind}-{number}", scale, wanted))
    names = [name for name in FIGURES if name in wanted]
    print()
    print(table(results, names))
    print("\nMedians. Ratios over 1 are in our favour. Logins: each account had logged in before.")
    if options.json:
        options.json.write_text(
            json.dumps({"disk": what, "syncs": limits, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
