#!/usr/bin/env python3
"""
Where the post office's CPU time goes under one kind of load.

    bench/hotspots.py post50            posting 4 KiB on 50 connections
    bench/hotspots.py login             POP3 logins
    bench/hotspots.py --raw out.txt …   keep the stacks, for a flame graph

Needs py-spy (``pip install py-spy``) beside --python, and root or the right to
trace.  Shares are of the time that our threads were on a CPU; what waits for
the disk is not in them.
"""

from __future__ import annotations

import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from disk import disk
from offices import Ours, free_port
from sink import Sink
from stages import Measuring


def posting(connections: int, messages: int, size: str):
    def load(m: Measuring) -> int:
        m.post(connections, m.messages(messages), size, "--users", 200)
        return m.messages(messages)

    return lambda m: None, load


def collecting(sessions: int, *args: object):
    def load(m: Measuring) -> int:
        return m.collect("fetch", "-n", m.messages(sessions), *args)["messages"]

    return lambda m: m.post_to(310, 10, 1000, "4k"), load


def _some_mail(m: Measuring) -> None:
    m.post_to(0, 200, 1000, "4k")
    m.log_all_in()


def _large_mail(m: Measuring) -> None:
    m.post_to(300, 1, 1, "25m")


def _large_fetches(m: Measuring) -> int:
    args = ["-n", m.messages(40), "--users", 1, "--first-user", 300]
    return m.collect("fetch", "-c", 1, *args)["messages"]


def _logins(m: Measuring) -> int:
    return m.collect("login", "-c", 20, "-n", m.messages(10_000), "--users", 200)["sessions"]


def sending(*, held: bool):
    """Mail for another domain: submitted and sent at once, or all of it waits before."""

    def before(m: Measuring) -> None:
        m.sink = Sink(m.office.sends_to)
        if held:
            m.office.hold_back()
            m.submit(20, m.messages(5000))
            m.office.wait_until_idle()

    def load(m: Measuring) -> int:
        count = m.messages(5000)
        if held:
            m.office.let_go()
        else:
            m.submit(20, count)
        with m.sink as sink:
            sink.wait_for(count)
            m.office.wait_until_idle()
        return count

    return before, load


TEN = ("--users", 10, "--first-user", 310)
#: name: (what is done before, the load; it says how many messages or sessions it was)
LOADS = {
    "post10": posting(10, 10_000, "4k"),
    "post50": posting(50, 10_000, "4k"),
    "mix": posting(20, 400, "realistic"),
    "large": posting(8, 24, "20m"),
    "login": (_some_mail, _logins),
    "fetch": collecting(200, "-c", 1, *TEN),
    "pipelined": collecting(600, "-c", 4, "--window", 50, *TEN),
    "sent": sending(held=True),
    "through": sending(held=False),
    "retr": (_large_mail, _large_fetches),
}


def watch(python: str, pid: int, raw: Path, *, native: bool) -> subprocess.Popen:
    """py-spy, writing the stacks of all threads that are on a CPU until it is interrupted."""
    command = [Path(python).parent / "py-spy", "record", "--pid", pid, "--threads"]
    command += ["--rate", 200, "--format", "raw", "--output", raw]
    spy = subprocess.Popen(
        [str(word) for word in [*command, *(["--native"] if native else [])]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)  # it reads the symbols first
    return spy


def summary(raw: str, top: int, microseconds: float) -> str:
    """The threads, and the functions by their own time and with all they call."""
    threads: collections.Counter[str] = collections.Counter()
    own: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        frames = [frame for frame in frames if not frame.startswith("<module>")]
        if not frames or "wait (threading" in frames[-1] or "poll" in frames[-1]:
            continue
        threads[thread.split("(")[-1].strip(')" ')] += int(count)
        # a function is one line of the table, whichever of its lines was running
        names = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in frames]
        own[names[-1]] += int(count)
        for name in set(names):
            within[name] += int(count)
    whole = sum(threads.values()) or 1

    def lines(title: str, found: collections.Counter[str]) -> list[str]:
        return ["", title] + [
            f"  {100 * count / whole:5.1f} %  {microseconds * count / whole:7.1f} us  {name[-95:]}"
            for name, count in found.most_common(top)
        ]

    return "\n".join(
        lines("threads", threads) + lines("own time", own) + lines("with what it calls", within)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("--python", default=sys.executable, help="with postoffice and py-spy")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--scale", type=float, default=1.0, help="longer or shorter")
    parser.add_argument("--native", action="store_true", help="C functions, too")
    parser.add_argument("--raw", type=Path, help="keep the stacks here")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    Ours.python = options.python
    before, load = LOADS[options.load]
    with disk(4, wanted=os.geteuid() == 0) as (folder, what), tempfile.TemporaryDirectory() as tmp:
        office, raw = Ours(folder / "office"), options.raw or Path(tmp, "raw")
        office.sends_to = free_port() if options.load in ("sent", "through") else 0
        office.start()
        try:
            measuring = Measuring(office, options.scale)
            before(measuring)
            spy = watch(options.python, office.pids[0], raw, native=options.native)
            cpu, began = measuring.cpu(), time.monotonic()
            count = load(measuring)
            cpu, took = measuring.cpu() - cpu, time.monotonic() - began
            spy.send_signal(signal.SIGINT)
            spy.wait(60)
        finally:
            office.stop()
        each = 1e6 * cpu / count
        print(f"on {what}: {count} in {took:.1f} s under the profiler, {each:.0f} us of CPU each")
        print(summary(raw.read_text(), options.top, each))


if __name__ == "__main__":
    main()
