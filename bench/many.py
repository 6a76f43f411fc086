#!/usr/bin/env python3
"""
Whether many accounts and maildrops make mail slower than a few do.

    bench/many.py [--accounts 100000] [--maildrops 20000] [--rounds 3] [--json FILE]

Two offices are measured in turn.  The first has 1000 accounts, and 200 of them get mail; the second
has 100,000, and 20,000 of them get mail.  Before the measurement most of these maildrops have got a
message, and each account that logs in has logged in once: 200 in the first office, 2000 in the
second.  Run it with a Python that has postoffice; as root, on ext4 with a journal on a loop device.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import loadlib
from disk import disk
from offices import DOMAIN, PASSWORD, USERS, Ours
from stages import Measuring

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postoffice.accounts.passwords import hash_password  # noqa: E402

MESSAGES = 10_000
SESSIONS = 4000
LOGINS = 2000

#: name: what it is, and its unit
FIGURES = {
    "new": ("posted before, half of it into new maildrops", "msgs/s"),
    "post": ("posted, 50 connections, until in the Maildirs", "msgs/s"),
    "postcpu": ("… CPU of 1000 messages", "s"),
    "login": ("POP3 logins, 20 clients", "sessions/s"),
    "logincpu": ("… CPU of 1000 sessions", "s"),
    "memory": ("memory after it (PSS)", "MiB"),
}


class Many(Ours):
    """An office with more accounts than the others have."""

    accounts = USERS

    def run_daemon(self) -> None:
        if self.accounts > USERS:
            self._import()
        super().run_daemon()

    def _import(self) -> None:
        rows = ["address,hash"]
        secret = hash_password(PASSWORD.encode())
        rows += [f'u{number}@{DOMAIN},"{secret}"' for number in range(USERS, self.accounts)]
        path = self.folder / "accounts.csv"
        path.write_text("\n".join(rows))
        program = Path(self.python).parent / "postoffice"
        command = [program, "account", "import", path, "--config", self.folder / "postoffice.yaml"]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path, accounts: int, maildrops: int) -> dict[str, float]:
    office = Many(folder)
    office.accounts = accounts
    figures: dict[str, float] = {}
    try:
        office.start()
        m = Measuring(office, 1)
        began = time.monotonic()
        each = [f"--first-user={first}" for first in range(0, maildrops, 1000)]
        for first in each:  # by lot: six of seven have a message when both are done
            m.post(50, min(1000, maildrops), "4k", first, "--users", min(1000, maildrops))
        m.post(50, maildrops, "4k", "--users", maildrops, "--seed", "all")
        figures["new"] = 2 * maildrops / (time.monotonic() - began)
        logins = min(LOGINS, maildrops)
        m.collect("login", "-c", 4, "-n", logins, "--users", logins)
        office.wait_until_idle()
        before = m.cpu()
        said = m.post(50, MESSAGES, "4k", "--users", maildrops)
        figures["post"] = said["delivered_per_s"]
        office.wait_until_idle()
        figures["postcpu"] = (m.cpu() - before) / MESSAGES * 1000
        before = m.cpu()
        said = m.collect("login", "-c", 20, "-n", SESSIONS, "--users", logins)
        figures["login"] = said["sessions_per_s"]
        figures["logincpu"] = (m.cpu() - before) / SESSIONS * 1000
        pids = [one for pid in office.pids for one in loadlib.tree(pid)]
        figures["memory"] = loadlib.memory_kib(pids)["pss"] / 1024
    finally:
        office.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--maildrops", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    options = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    with disk(12, wanted=os.geteuid() == 0) as (folder, what):
        print(f"on {what}: {options.accounts} accounts, {options.maildrops} maildrops", flush=True)
        for number in range(options.rounds):
            few = measure(folder / f"few{number}", USERS, 200)
            many = measure(folder / f"many{number}", options.accounts, options.maildrops)
            rounds.append({"few": few, "many": many})
            if options.json:
                options.json.write_text(json.dumps(rounds, indent=1))
    print(f"{'':50} {'few':>9} {'many':>9}  many/few")
    for name, (text, unit) in FIGURES.items():
        few, many = (statistics.median(one[kind][name] for one in rounds) for kind in rounds[0])
        print(f"{text:50} {few:9.2f} {many:9.2f}  {many / few:5.2f}  {unit}")


if __name__ == "__main__":
    main()
