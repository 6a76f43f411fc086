"""The policy in the manual."""

from __future__ import annotations

import runpy
from datetime import datetime
from pathlib import Path

import pytest

from postoffice.testing import finish

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "quiet_hours.py"


@pytest.mark.parametrize(("hour", "code"), [(7, 450), (8, None), (17, None), (18, 450)])
def test_the_policy_in_the_manual_keeps_its_hours(hour, code, envelope, recipient):
    quiet_hours = runpy.run_path(str(EXAMPLE))["QuietHours"]
    policy = quiet_hours(8, 18, lambda: datetime(2026, 11, 23, hour))
    said = finish(policy.recipient(envelope(), recipient("quiet@example.net")))
    assert (said and said.code) == code
    assert finish(policy.recipient(envelope(), recipient("joe@example.net"))) is None
