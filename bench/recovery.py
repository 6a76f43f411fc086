#!/usr/bin/env python3
"""
How long a start takes that finds messages in the journal: until it is ready, and checkpointed.

    bench/recovery.py [--messages 10000] [--maildrops 4 1000]

Once as after a kill, where all files exist, and once as after a power cut, where
none does.  Run by a Python that has postoffice; as root, on ext4 with
a journal on a loop device.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "faults")]

from disk import disk  # noqa: E402
from faults.backlog import lay_down  # noqa: E402
from postoffice.store.journal.redo import journal_of  # noqa: E402


def report(level: str, text: str) -> None:
    print(f"{level}: {text}")


def recover(folder: Path, messages: int, maildrops: int, *, cut: bool) -> tuple[float, float]:
    """Seconds until all is applied, and until the disk has it and the journal is empty."""
    store = str(folder / f"{maildrops}-{cut}")
    lay_down(store, [f"u{number}" for number in range(maildrops)], messages)
    if cut:
        for path in Path(store).glob("*/*/new/*"):
            path.unlink()
    os.sync()
    journal = journal_of(store, report)
    began = time.perf_counter()
    found = journal.open("journal")
    ready = time.perf_counter()
    journal.close()
    assert found.put_records == messages
    assert sum(1 for _ in Path(store).glob("*/*/new/*")) == messages
    return ready - began, time.perf_counter() - ready


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--maildrops", type=int, nargs="+", default=[4, 1000])
    options = parser.parse_args()
    with disk(4, wanted=os.geteuid() == 0) as (folder, what):
        print(f"on {what}: {options.messages} messages of 2 KB to recover")
        for maildrops in options.maildrops:
            for cut in (False, True):
                ready, checkpointed = recover(folder, options.messages, maildrops, cut=cut)
                why = "power cut" if cut else "kill"
                print(
                    f"{maildrops:6} maildrops, {why:9}: ready after {ready:.2f} s, "
                    f"checkpointed {checkpointed:.2f} s later"
                )


if __name__ == "__main__":
    main()
