"""The seeds of the fuzz targets, each played once: so the targets keep up with what they fuzz."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import processes

HERE = Path(__file__).parent
SEEDS = {folder.name: sorted(folder.iterdir()) for folder in (HERE / "seeds").iterdir()}


@pytest.mark.parametrize("target", sorted(SEEDS))
def test_what_the_fuzzer_begins_with_is_played_well(target):
    """In a process of its own, as nothing is drawn by lot there."""
    words = [sys.executable, HERE / "run.py", target, "--input", *SEEDS[target]]
    done = processes.run(words, cwd=HERE)
    assert done.returncode == 0, done.stderr
