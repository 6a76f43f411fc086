"""What is measured of one office: the stages of a round, each with the load tools it runs."""

from __future__ import annotations

import grp
import json
import os
import pwd
import resource
import subprocess
import sys
import time

from pathlib import Path
from statistics import median

import loadlib
from offices import DOMAIN, ELSEWHERE, PASSWORD, Office, free_port
from sink import Sink

HERE = Path(__file__).resolve().parent


class Measuring:
    """One office that runs, and the tools that drive it."""

    def __init__(self, office: Office, scale: float):
        self.office = office
        self.scale = scale
        self.busy = 0.0  # how much of a core the last load tool used

    def messages(self, count: int) -> int:
        return max(20, int(count * self.scale))

    def tool(self, name: str, *args: object) -> dict:
        """What the tool says; the end of everything where it says that anything was wrong."""
        command = [str(word) for word in [sys.executable, HERE / f"{name}.py", *args]]
        cpu, began = _cpu_of_tools(), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        said = json.loads(done.stdout.strip().splitlines()[-1])
        if said.get("seconds") and "generator_cpu_s" in said:
            self.busy = said["generator_cpu_s"] / said["seconds"]
        else:
            self.busy = (_cpu_of_tools() - cpu) / (time.monotonic() - began)
        return said

    def cpu(self) -> float:
        """CPU seconds that the office has used."""
        return sum(loadlib.cpu_seconds(pid) for pid in self.office.pids)

    def post(self, connections: int, messages: int, size: str, *more: object) -> dict:
        """Post, and wait until all lies in the Maildirs."""
        args = ["--port", self.office.post_port, "-c", connections, "-m", messages]
        args += ["--size", size, "--domain", DOMAIN]
        args += ["--maildir", self.office.maildir, "--wait", 300]
        if self.office.lmtp:
            args.append("--lmtp")
        return self.tool("smtpload", *args, *more)

    def submit(self, connections: int, messages: int, domain: str = ELSEWHERE) -> dict:
        """Submit messages of 4 KiB."""
        args = ["-c", connections, "-m", messages, "--size", "4k", "--domain", domain]
        return self.tool("smtpload", *self.office.submit_args, *args)

    def post_to(self, first: int, users: int, messages: int, size: str) -> None:
        """Mail for a few, brought by the office itself: it lies as it lies every day."""
        self.post(10, messages, size, "--first-user", first, "--users", users)

    def collect(self, mode: str, *args: object) -> dict:
        common = ["--port", self.office.pop3_port, "--mode", mode, "--password", PASSWORD]
        return self.tool("popload", *common, "--user-format", self.office.login, *args)

    def log_all_in(self) -> None:
        """Each account logs in once: what is measured is not the first login of the day."""
        self.collect("login", "-c", 4, "-n", 200, "--users", 200)

    def fill(self, first: int, users: int, messages: int, size: str) -> None:
        """Lay mail into maildrops by hand."""
        args = ["--maildir", self.office.maildir, "--users", users, "-m", messages]
        args += ["--size", size, "--first-user", first, "--eol", self.office.eol]
        if self.office.owner:
            user, group = self.office.owner.split(":")
            args += ["--owner", f"{pwd.getpwnam(user).pw_uid}:{grp.getgrnam(group).gr_gid}"]
        self.tool("fillmaildir", *args)


def _cpu_of_tools() -> float:
    """Of all children that ended: the tools, as the office still runs."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def posting(m: Measuring, wanted: set[str]) -> dict:
    figures = {}
    for connections in (10, 50):
        name = f"post{connections}"
        if name in wanted:
            before, messages = m.cpu(), m.messages(4000)
            said = m.post(connections, messages, "4k", "--users", 200)
            figures[name] = said["delivered_per_s"]
            figures[f"{name}cpu"] = (m.cpu() - before) / messages * 1000
            figures[f"{name}p99"] = said["latency_ms"]["p99"]
            figures[f"{name}tool"] = m.busy
    if "mix" in wanted:
        said = m.post(20, m.messages(400), "realistic", "--users", 200)
        figures |= {"mix": said["delivered_mb_per_s"], "mixtool": m.busy}
    if "large" in wanted:
        said = m.post(8, 8, "20m" if m.scale >= 1 else "2m", "--users", 200)
        figures |= {"large": said["delivered_mb_per_s"], "largetool": m.busy}
    return figures


def encrypted(m: Measuring, wanted: set[str]) -> dict:
    """CPU of the server for a message, by the same tool with TLS and without."""
    figures: dict[str, float] = {}
    if m.office.lmtp:  # which has no TLS here
        return figures
    kinds = {"plain": ["--plain"], "tls": [], "handshakes": ["--per-connection", 1]}
    for name, args in kinds.items():
        if name in wanted:
            before, messages = m.cpu(), m.messages(2000)
            where = ["--port", m.office.post_port, "--domain", DOMAIN]
            m.tool("tlsload", *where, "-c", 10, "-m", messages, *args)
            # what is accepted is not yet all of the work
            m.office.wait_until_idle()
            figures[name] = (m.cpu() - before) / messages * 1000
    return figures


def both(m: Measuring, wanted: set[str]) -> dict:
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
        "steadytool": m.busy,
    }


def logging_in(m: Measuring, wanted: set[str]) -> dict:
    m.post_to(0, 200, m.messages(1000), "4k")
    m.log_all_in()
    before, sessions = m.cpu(), m.messages(4000)
    said = m.collect("login", "-c", 20, "-n", sessions, "--users", 200)
    return {
        "login": said["sessions_per_s"],
        "logincpu": (m.cpu() - before) / sessions * 1000,
        "logintool": m.busy,
    }


def collecting(m: Measuring, wanted: set[str]) -> dict:
    figures = {}
    few = ["--users", 10, "--first-user", 310]
    if wanted & {"fetch", "pipelined"}:
        m.post_to(310, 10, m.messages(1000), "4k")
        m.collect("login", "-c", 1, "-n", 10, *few)
    if "fetch" in wanted:
        said = m.collect("fetch", "-c", 1, "-n", m.messages(40), *few)
        figures |= {"fetch": said["messages_per_s"], "fetchtool": m.busy}
    if "pipelined" in wanted:
        said = m.collect("fetch", "-c", 4, "-n", m.messages(200), "--window", 50, *few)
        figures |= {"pipelined": said["messages_per_s"], "pipelinedtool": m.busy}
    if "retr" in wanted:
        m.post_to(300, 1, 1, "25m")
        said = m.collect("fetch", "-c", 1, "-n", 5, "--users", 1, "--first-user", 300)
        figures |= {"retr": said["retr_mb_per_s"], "retrtool": m.busy}
    if "uidl" in wanted:
        m.fill(301, 1, m.messages(10_000), "1k")
        args = ["-c", 1, "-n", 7, "--users", 1, "--first-user", 301]
        m.collect("uidl", *args)
        figures["uidl"] = m.collect("uidl", *args)["ms"]["session"]["p50"]
    if "quit" in wanted:
        m.fill(302, 1, m.messages(10_000), "4k")
        args = ["-c", 1, "--users", 1, "--first-user", 302, "--window", 50]
        m.collect("uidl", "-n", 1, *args)
        figures["quit"] = m.collect("delete", "-n", 1, *args)["ms"]["quit"]["p50"]
    return figures


def sending(m: Measuring, wanted: set[str]) -> dict:
    """Mail for another domain, to a sink: let go when all of it waits, and right through."""
    figures: dict[str, float] = {}
    if m.office.lmtp:  # which sends nothing
        return figures
    with Sink(m.office.sends_to) as sink:
        m.submit(20, m.messages(100))  # all processes are there
        sink.wait_for(m.messages(100))
        if "sent" in wanted:
            count = m.messages(5000)
            m.office.hold_back()
            m.submit(20, count)
            m.office.wait_until_idle()
            before, began = m.cpu(), time.monotonic()
            m.office.let_go()
            sink.wait_for(count)
            figures["sent"] = count / (time.monotonic() - began)
            m.office.wait_until_idle()
            figures["sentcpu"] = (m.cpu() - before) / count * 1000
        if "through" in wanted:
            count = m.messages(5000)
            before, began = m.cpu(), time.monotonic()
            m.submit(20, count)
            figures["throughtool"] = m.busy
            sink.wait_for(count)
            figures["through"] = count / (time.monotonic() - began)
            m.office.wait_until_idle()
            figures["throughcpu"] = (m.cpu() - before) / count * 1000
    return figures


def taking(m: Measuring, wanted: set[str]) -> dict:
    """Submitted mail, for accounts and, held back, for another domain."""
    if m.office.lmtp:
        return {}
    count = m.messages(4000)
    m.office.hold_back()
    m.submit(20, m.messages(200), DOMAIN)
    m.submit(20, m.messages(200))
    figures = {"taken": m.submit(20, count, DOMAIN)["accept_per_s"]}
    m.office.wait_until_idle()
    return figures | {"takenaway": m.submit(20, count)["accept_per_s"], "takentool": m.busy}


MAILDROPS = ("in", "stat", "both", "new", "list", "one")


def maildrops(m: Measuring, wanted: set[str]) -> dict:
    """The same few questions to maildrops of all sizes."""
    figures: dict[str, float] = {}
    for user, count in enumerate((10, 10_000, 100_000), 330):
        names = [f"{name}{count}" for name in MAILDROPS]
        if not wanted & set(names):
            continue
        m.fill(user, 1, min(count, m.messages(count)), "1k")
        who = ["-c", 1, "--users", 1, "--first-user", user]
        m.collect("uidl", "-n", 1, *who)  # the first login of the day
        said = m.collect("uidl", "-n", 9, *who)["ms"]
        one = m.collect("fetch", "-n", 5, "--limit", 10, *who)["ms"]["retr"]["p50"]
        changed = []
        for _ in range(3):
            m.post_to(user, 1, 1, "1k")
            new = m.collect("login", "-n", 1, *who)["ms"]
            changed.append(new["login"]["p50"] + new["stat"]["p50"])
        login, stat = said["login"]["p50"], said["stat"]["p50"]
        found = [login, stat, login + stat, median(changed), said["uidl"]["p50"], one]
        figures |= dict(zip(names, found, strict=True))
    return figures


def idling(m: Measuring, wanted: set[str]) -> dict:
    # where there are two trees of processes, the sessions are in the first
    args = ["-n", m.messages(1000), "--users", 1000, "--server-pid", m.office.pids[0]]
    return {"idle": m.collect("idle", *args)["pss_kib_per_session"]}


#: Each stage, and what it can measure.
STAGES = {
    posting: {"post10", "post50", "mix", "large"},
    encrypted: {"plain", "tls", "handshakes"},
    both: {"steady"},
    logging_in: {"login"},
    collecting: {"fetch", "pipelined", "retr", "uidl", "quit"},
    maildrops: {f"{name}{count}" for name in MAILDROPS for count in (10, 10_000, 100_000)},
    idling: {"idle"},
    sending: {"sent", "through"},
    taking: {"taken", "takenaway"},
}
#: Those for which the office sends mail.
OUTBOUND = {sending, taking}


def measure(kind: type[Office], folder: Path, scale: float, wanted: set[str]) -> dict:
    """All wanted figures of one office, each stage in an office of its own."""
    figures: dict[str, float] = {}
    for stage, measured in STAGES.items():
        if not wanted & measured:
            continue
        office = kind(folder / stage.__name__)
        try:
            office.sends_to = free_port() if stage in OUTBOUND else 0
            office.start()
            figures |= stage(Measuring(office, scale), wanted)
        finally:
            office.stop()
        os.sync()  # what this one left unwritten is not the next one's burden
    return figures
