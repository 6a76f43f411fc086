#!/usr/bin/env python3
"""
What a post office costs whose queue is full: start, memory and ``postoffice queue list``.

    bench/waiting.py [--messages 100000] [--domains 5000] [--rounds 3] [--json FILE]

The messages lie in the queue's folder, for domains whose server does not answer.  The first start
finds no ``queue.db`` and reads each message; the next one finds all in it.  Beside it stands an
office with an empty queue.  Run by a Python that has postoffice; as root, on ext4 with a journal
on a loop device.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import loadlib
from disk import disk
from offices import Ours, end, free_port

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postoffice.model.queued_message import QueuedMessage, QueuedRecipient  # noqa: E402
from postoffice.store import names, queue_files  # noqa: E402

TEXT = b"Return-Path: <u0@example.test>\r\nSubject: it waits\r\n\r\nHello\r\n"
HOLE = (0, TEXT.index(b"\n") + 1)

#: name: what it is, and its unit
FIGURES = {
    "empty": ("start, nothing waits", "s"),
    "first": ("first start, all is read, until it answers", "s"),
    "start": ("later start, until it answers", "s"),
    "startcpu": ("… CPU until it has nothing to do", "s"),
    "listempty": ("postoffice queue list, nothing waits", "s"),
    "list": ("postoffice queue list --to DOMAIN", "s"),
    "listall": ("postoffice queue list --json: the oldest 1000, and how many", "s"),
    "memory": ("memory after it (PSS), MiB more than with an empty queue", "MiB"),
    "memoryfirst": ("… after the first start", "MiB"),
}


def fill(state: Path, messages: int, domains: int) -> None:
    """Lay messages into the queue."""
    store = str(state / "maildrops")
    queue_files.prepare(store)
    now = time.time()
    for number in range(messages):
        message = QueuedMessage(
            id=f"id{number}",
            sender="u0@example.test",
            login="u0@example.test",
            recipients=(QueuedRecipient(address=f"joe{number}@d{number % domains}.example"),),
            came=now - 60,
            size=len(TEXT),
            hole=HOLE,
        )
        octets = TEXT + message.encode()
        name = names.with_size(names.new_name("mail.example.test"), len(octets))
        Path(queue_files.path_of(store, name)).write_bytes(octets)
    os.sync()


class Waiting:
    """An office that is started and stopped several times, over the same queue."""

    def __init__(self, folder: Path) -> None:
        self.office = Ours(folder)
        self.office.sends_to = free_port()  # nobody listens there

    def start(self) -> float:
        """Seconds until clients are greeted."""
        began = time.monotonic()
        self.office.run_daemon()
        return time.monotonic() - began

    def memory(self) -> float:
        """MiB of all its processes."""
        pids = [one for pid in self.office.pids for one in loadlib.tree(pid)]
        return loadlib.memory_kib(pids)["pss"] / 1024

    def list(self, *words: str) -> tuple[float, str]:
        """Seconds of ``postoffice queue list``, and what it writes."""
        began = time.monotonic()
        said = self.office.queue("list", *words)
        return time.monotonic() - began, said

    def stop(self) -> None:
        end(self.office.process)
        self.office.process = None


def measure(folder: Path, messages: int, domains: int) -> dict[str, float]:
    one = Waiting(folder)
    figures: dict[str, float] = {}
    try:
        one.office.start()
        one.stop()
        figures["empty"] = one.start()
        one.office.wait_until_idle()
        figures["listempty"], _ = one.list()
        empty = one.memory()
        one.stop()
        fill(one.office.state, messages, domains)
        figures["first"] = one.start()
        one.office.wait_until_idle()
        figures["memoryfirst"] = one.memory() - empty
        one.stop()
        figures["start"] = one.start()
        one.office.wait_until_idle()
        figures["startcpu"] = sum(loadlib.cpu_seconds(pid) for pid in one.office.pids)
        figures["list"], _ = one.list("--to", "d7.example")
        figures["listall"], said = one.list("--json")
        total = json.loads(said)["total"]
        if total != messages:
            raise SystemExit(f"{total} messages wait, in place of {messages}")
        one.office.wait_until_idle()
        figures["memory"] = one.memory() - empty
    finally:
        one.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--domains", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    options = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with disk(4, wanted=os.geteuid() == 0) as (folder, what):
        print(f"on {what}: {options.messages} messages for {options.domains} domains", flush=True)
        for number in range(options.rounds):
            rounds.append(measure(folder / str(number), options.messages, options.domains))
            if options.json:
                options.json.write_text(json.dumps(rounds, indent=1))
    for name, (text, unit) in FIGURES.items():
        values = [one[name] for one in rounds]
        least, most = min(values), max(values)
        print(f"{text:62} {statistics.median(values):8.2f} {unit}  ({least:.2f}-{most:.2f})")


if __name__ == "__main__":
    main()
