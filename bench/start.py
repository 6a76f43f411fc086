#!/usr/bin/env python3
"""
The CPU of a start.

    bench/start.py [--rounds 9] [--before TREE]

Of the daemon until it is open (SMTP, submission, LMTP, POP3; and with outbound), of the store
process until it can work, and of two commands.  With --before it is measured in turn with another
state of the sources, such as ``git worktree add TREE HEAD~20``.  Milliseconds, the median of the
rounds (least and most).  Run by a Python that has postoffice.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("smtp", "submission", "lmtp", "pop3")
PLAIN = "".join(
    [
        "hostname: mail.example.net\npostmaster: postmaster@example.net\nstate: state\nlisteners:\n",
        *(f'  {service}: ["tcp:0:interface=127.0.0.1"]\n' for service in SERVICES),
    ]
)
SENDING = PLAIN + "outbound: {dns: {servers: [127.0.0.1]}}\n"
STORE = "import postoffice.daemon.child_process, postoffice.store.store_process"
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
COMMAND = "import sys; sys.argv[0] = 'postoffice'; from postoffice.cli import main; main()"


def environment(tree: Path) -> dict[str, str]:
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**rest, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1"}


def daemon(tree: Path, folder: Path) -> float:
    """CPU of ``twistd postoffice`` until it is open."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWISTD, "-n", "postoffice"],
        cwd=folder,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "the post office is open" in line:
            break
    else:
        sys.exit("".join(said))
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    nanoseconds = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.wait()
    return nanoseconds / 1e6


def program(*words: str) -> Callable[[Path, Path], float]:
    """Measures a program from its start to its end."""

    def measure(tree: Path, folder: Path) -> float:
        process = subprocess.Popen(
            [sys.executable, "-c", *words],
            cwd=folder,
            env=environment(tree),
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{words} failed")
        return (usage.ru_utime + usage.ru_stime) * 1e3

    return measure


#: What is measured -> the configuration, and how.
STARTS: dict[str, tuple[str, Callable[[Path, Path], float]]] = {
    "daemon": (PLAIN, daemon),
    "daemon, with outbound": (SENDING, daemon),
    "store process": (PLAIN, program(STORE)),
    "postoffice account list": (PLAIN, program(COMMAND, "account", "list")),
    "postoffice --help": (PLAIN, program(COMMAND, "--help")),
    "twistd and its reactor": (
        PLAIN,
        program("import twisted.scripts.twistd; from twisted.internet import reactor"),
    ),
    "Python": (PLAIN, program("")),
}


def shown(values: list[float]) -> str:
    return f"{median(values):6.0f} ({min(values):.0f}-{max(values):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    trees = {"before": options.before.resolve()} if options.before else {}
    trees["now"] = ROOT
    found: dict[str, dict[str, list[float]]] = {}
    for start, (configuration, measure) in STARTS.items():
        values = found.setdefault(start, {name: [] for name in trees})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "postoffice.yaml").write_text(configuration)
            for number in range(options.rounds + 1):
                for state, tree in trees.items():
                    took = measure(tree, folder)
                    if number:  # the first round compiles, and makes the files of the state
                        values[state].append(took)
        ratio = median(values["now"]) / median(values["before"]) if "before" in values else 1
        columns = "  ".join(f"{state} {shown(took):20}" for state, took in values.items())
        print(f"{start:26} {columns}" + (f"  {ratio:.2f}" if "before" in values else ""))


if __name__ == "__main__":
    main()
