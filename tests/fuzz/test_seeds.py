"""The seeds of the fuzz targets, each played once: so the targets keep up with what they fuzz."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEEDS = {folder.name: sorted(folder.iterdir()) for folder in (HERE / "seeds").iterdir()}


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_what_the_fuzzer_begins_with_is_played_well(target):
    """In a process of its own, as nothing is drawn by lot there."""
    words = [sys.executable, HERE / "run.py", target, "--input", *SEEDS[target]]
    outside = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(words, env=outside, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
