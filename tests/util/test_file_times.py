"""A later change of a file can be told apart only if its time lies back."""

from __future__ import annotations

import pytest

from postoffice.util import file_times


@pytest.mark.parametrize(
    ("mtime", "later", "is_settled"),
    [
        (5_000_000_001, 19_999_999, False),
        (5_000_000_001, 20_000_000, True),
        (5_000_000_001, -1, False),
        (5_000_000_000, 1_999_999_999, False),  # a file system that keeps whole seconds
        (5_000_000_000, 2_000_000_000, True),
    ],
)
def test_times_must_lie_back_to_tell_changes_apart(monkeypatch, mtime, later, is_settled):
    monkeypatch.setattr(file_times.time, "time_ns", lambda: mtime + later)
    assert file_times.is_settled(mtime) == is_settled
    assert file_times.is_settled(1, mtime) == is_settled
