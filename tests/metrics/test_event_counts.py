"""Events of the log become numbers, whatever they say, with few labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from twisted.logger import Logger, LogPublisher

from postoffice.metrics import table
from postoffice.metrics.event_counts import MOST, EventCounts
from postoffice.metrics.exposition import Exposition
from postoffice.metrics.table import METRICS
from postoffice.model import log_events
from postoffice.model.log_event import tell
from postoffice.model.log_events import EVENTS, FIELDS
from postoffice.util.histogram import Histogram

ANYTHING = st.none() | st.text(max_size=5) | st.integers(0) | st.binary(max_size=5) | st.floats()


@pytest.fixture
def counts():
    return EventCounts()


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(sorted(EVENTS)) | ANYTHING},
            optional=dict.fromkeys(FIELDS, ANYTHING),
        ),
        max_size=20,
    )
)
def test_any_event_leaves_metrics_that_can_be_shown(events):
    counts = EventCounts()
    for event in events:
        counts(event)
    for name, values in (*counts.numbers.items(), *counts.histograms.items()):
        assert all(len(labels) == len(METRICS[name].labels) for labels in values)
    text = Exposition(lambda: counts.numbers | counts.histograms).text().decode()
    assert list(text_string_to_metric_families(text))


def test_each_event_that_is_counted_is_one_of_the_log(counts):
    assert set(counts._count) <= set(EVENTS)


def test_they_are_counted_as_they_are_logged(counts):
    log = Logger("postoffice", observer=LogPublisher(counts))
    for result, event in (("accepted", log_events.LOGIN), ("refused", log_events.LOGIN_REFUSED)):
        tell(log, event, service="pop3", mechanism="PLAIN", client="192.0.2.1", user="joe")
        assert counts.numbers[table.LOGINS]["pop3", "PLAIN", result] == 1
    tell(log, log_events.MESSAGE_TAKEN, service="smtp", size=1830, recipients=3)
    assert counts.numbers[table.RECIPIENTS]["smtp",] == 3
    assert counts.histograms[table.SIZES]["smtp",].sum == 1830
    tell(log, log_events.RECIPIENT_SENT, to="<a@b.example>,<c@d.example>")
    assert counts.numbers[table.ATTEMPTS]["sent",] == 2


def test_labels_are_bounded(counts):
    for number in range(MOST + 50):
        counts({"event": "policy-refused", "policy": f"policy {number}"})
    assert len(counts.numbers[table.POLICY_REFUSED]) == MOST + 1
    assert counts.numbers[table.POLICY_REFUSED]["other",] == 50


@given(st.lists(st.floats(0, 100), max_size=30))
def test_a_histogram_counts_each_value_once_and_cumulates(values):
    histogram = Histogram((0.5, 1.0, 50.0))
    for value in values:
        histogram.observe(value)
    assert histogram.count == len(values)
    read = {table.LAG: {(): histogram}}
    text = Exposition(lambda: read).text().decode()
    for bound in ("0.5", "1.0", "50.0", "+Inf"):
        expected = sum(value <= float(bound) for value in values)
        assert f'postoffice_reactor_lag_seconds_bucket{{le="{bound}"}} {float(expected)}\n' in text
