"""What the tests of the DNS share: a clock that a test moves."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock


@pytest.fixture
def clock():
    return Clock()
