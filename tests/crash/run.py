"""
Crash states of the mail store: python tests/crash/run.py [--states N] [--seed S] [--scenario NAME]

README.rst has what they are.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from crashes.exploring import Outcome, explore  # noqa: E402
from crashes.scenario import SCENARIOS  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Crash states of the mail store.")
    parser.add_argument("--states", type=int, default=10_000, help="about how many, in all (10000)")
    parser.add_argument("--seed", type=int, default=0, help="others, where not all are looked at")
    parser.add_argument("--scenario", choices=SCENARIOS, help="this one only")
    parser.add_argument("--jobs", type=int, help="processes; as many as there are cores")
    options = parser.parse_args()
    names = [options.scenario] if options.scenario else list(SCENARIOS)
    began = time.monotonic()
    total = Outcome()
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {
            name: pool.submit(explore, name, options.seed, options.states // len(names))
            for name in names
        }
        for name, future in running.items():
            outcome = future.result()
            of = "all" if outcome.every else f"of {outcome.possible:.2g}"
            print(
                f"{name:24} {outcome.states:6} states ({of}), {outcome.cut_again:5} cut again, "
                f"{outcome.seconds:6.1f} s, {len(outcome.wrong)} wrong",
                flush=True,
            )
            for where, problems in outcome.wrong[:5]:
                print(f"  {where}:", *problems[:6], sep="\n    ")
            total.states += outcome.states
            total.cut_again += outcome.cut_again
            total.wrong += outcome.wrong
    print(
        f"{total.states} states and {total.cut_again} that were cut again "
        f"(seed {options.seed}) in {time.monotonic() - began:.0f} s: {len(total.wrong)} wrong"
    )
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
