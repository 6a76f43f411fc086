#!/usr/bin/env python3
"""
Measure the post office, beside Postfix + Dovecot on the same machine in the same run.

    bench/run.py                     all figures, three rounds, the peers that are installed
    bench/run.py --short             a smoke test: ours alone, small, under two minutes
    bench/run.py post10 steady       only these figures
    bench/run.py maildrops           only these: POP3 on maildrops of 10 to 100,000 messages

Every figure is the median of the rounds; the peers take turns within a round,
each in folders of its own.  Run it as root for a disk of its own and for the
peers; see README.rst.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from disk import disk, syncs_per_second
from offices import OFFICES, Office, Ours
from picture import draw
from stages import STAGES, measure
from table import FIGURES, busy_tools, table


def choose_offices(wanted: list[str]) -> dict[str, type[Office]]:
    """Those that are wanted and can run here; says which cannot, and why."""
    chosen: dict[str, type[Office]] = {}
    for kind, office in OFFICES.items():
        if kind not in wanted:
            continue
        if missing := office.missing():
            print(f"{office.name} is left out: {missing}", flush=True)
        else:
            chosen[kind] = office
    return chosen


def versions(python: str) -> dict[str, str]:
    """What was compared."""
    import_them = "import platform, twisted; print(platform.python_version(), twisted.__version__)"
    commands = {
        "python, twisted": [python, "-c", import_them],
        "postfix": ["postconf", "-d", "-h", "mail_version"],
        "dovecot": ["dovecot", "--version"],
    }
    return {
        name: subprocess.run(command, capture_output=True, text=True).stdout.strip()
        for name, command in commands.items()
        if shutil.which(command[0])
    } | {"kernel": platform.release()}


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave(number: int, frame: object) -> None:
    """Ended from outside: stop what was started and unmount, undisturbed by a second Ctrl-C."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(f"ended by {signal.Signals(number).name}")


class Results:
    """The figures so far; a run that is interrupted keeps those of the rounds that ended."""

    def __init__(
        self,
        offices: dict[str, type[Office]],
        names: list[str],
        path: Path | None,
        drawing: Path | None = None,
    ):
        self.rounds: dict[str, list[dict]] = {office.name: [] for office in offices.values()}
        self.facts: dict[str, object] = {}
        self._names = names
        self._path = path
        self._drawing = drawing

    def add(self, office: type[Office], figures: dict) -> None:
        self.rounds[office.name].append(figures)
        if self._path:
            self._path.write_text(json.dumps(self._whole, indent=1))

    @property
    def _whole(self) -> dict:
        return self.facts | {"results": self.rounds}

    def draw(self) -> None:
        """Draw what was measured of us and of peers, if that is wanted."""
        if self._drawing and all(self.rounds.values()):
            self._drawing.write_text(draw(self._whole), encoding="utf-8")
            print(f"The picture: {self._drawing}")

    def show(self, rounds: int) -> None:
        if not any(self.rounds.values()):
            return
        print(f"\n{table(self.rounds, self._names)}\n")
        if self.facts.get("short"):
            print("Short: that it runs, not how fast. A twentieth of the messages and sessions,")
            print("of the UIDL's 10,000 and of the 1,000 idle sessions; 2 MiB in place of 20.")
        if any(len(figures) < rounds for figures in self.rounds.values()):
            had = ", ".join(f"{name} {len(found)}" for name, found in self.rounds.items())
            print(f"Not finished: of {rounds} rounds, {had}.")
        if rounds > 1:
            print("Medians; ± is how far a round lay from it at most.", end=" ")
        if len(self.rounds) > 1:
            print("Ratios over 1 are in our favour.", end=" ")
        print("Logins: each account had logged in before.")
        for line in busy_tools(self.rounds, self._names):
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join([*FIGURES, *(f"{stage.__name__} (several)" for stage in STAGES)])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=known)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument(
        "--offices",
        default="ours" if "--short" in sys.argv else ",".join(OFFICES),
        help=f"which, of {','.join(OFFICES)}; ours is what all are compared with",
    )
    parser.add_argument("--python", default=sys.executable, help="with postoffice installed")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds here")
    parser.add_argument("--plot", type=Path, help="draw the ratios to the peers here, as SVG")
    options = parser.parse_args()
    stages = {stage.__name__: figures for stage, figures in STAGES.items()}
    for stage in set(options.figures) & set(stages):
        options.figures += stages[stage]
        options.figures.remove(stage)
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    Ours.python = options.python
    wanted = set(options.figures or FIGURES)
    # CPU and p99 are measured together with the rate
    measured = {name.removesuffix("cpu").removesuffix("p99") for name in wanted}
    rounds, scale = (1, 0.05) if options.short else (options.rounds, 1.0)
    for number in ENDING:
        signal.signal(number, leave)
    offices = choose_offices(options.offices.split(","))
    names = [name for name in FIGURES if name in wanted]
    results = Results(offices, names, options.json, options.plot)
    if options.plot and len(offices) < 2:
        parser.error("--plot compares with peers: none of them is here, or chosen")
    found = versions(options.python)
    with disk(8, wanted=os.geteuid() == 0 and not options.short) as (folder, what):
        print(f"on {what}; {os.cpu_count()} cores", flush=True)
        print("; ".join(f"{name} {version}" for name, version in found.items()), flush=True)
        limits = {n: syncs_per_second(folder, n) for n in (1, 4)}
        print(
            f"the disk: {limits[1]:.0f} files and folders synced a second by one thread, "
            f"{limits[4]:.0f} by four",
            flush=True,
        )
        results.facts = {
            "disk": what,
            "cores": os.cpu_count(),
            "versions": found,
            "syncs": limits,
            "short": options.short,
        }
        try:
            for number in range(rounds):
                for kind, office in offices.items():
                    print(f"round {number + 1} of {rounds}: {office.name}", flush=True)
                    where = folder / f"{kind}-{number}"
                    results.add(office, measure(office, where, scale, measured))
        finally:
            results.show(rounds)
            results.draw()


if __name__ == "__main__":
    main()
