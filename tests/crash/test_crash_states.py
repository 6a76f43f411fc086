"""Some crash states of every scenario, and broken stores that must be found: see README.rst."""

from __future__ import annotations

import pytest
from crashes.broken import BROKEN
from crashes.exploring import explore
from crashes.scenario import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_promised_is_kept_in_every_state(name):
    outcome = explore(name, seed=0, most=30)
    assert outcome.states > 10
    assert outcome.wrong == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_store_is_found(name, failures):
    broken = BROKEN[name]
    with broken.how():
        for most in (100, 400):  # most are found among few
            found = explore(
                broken.scenario, seed=0, most=most, until_wrong=True, again=broken.again
            ).wrong
            if found:
                break
    failures.clear()
    assert found
