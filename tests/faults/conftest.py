"""What the campaigns are made of is found beside the tests; crash states lend their recorder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "crash")]
