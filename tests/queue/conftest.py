"""A queue manager that sends over a scripted relay."""

from __future__ import annotations

import pytest

from tests.queue.scripted import Office


@pytest.fixture
def office(tmp_path):
    office = Office(str(tmp_path))
    office.start()
    yield office
    for pause in office.relay.pauses:
        if not pause.called:
            pause.callback(None)
    office.stop()
