"""Shows all metrics in Prometheus' text format, with the package ``prometheus-client``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from postoffice.metrics.table import COUNTER, GAUGE, METRICS, Metric
from postoffice.util.histogram import Histogram

#: Values of one metric by its labels.
Values = Mapping[tuple[str, ...], "float | Histogram"]
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Exposition(Collector):
    """
    The text of a scrape.

    ``read`` returns the values of all metrics by name; a metric without values is shown without.
    Also shown is what ``prometheus-client`` knows of the process: its start, CPU time, memory
    and open files.
    """

    def __init__(self, read: Callable[[], Mapping[str, Values]]) -> None:
        self._read = read
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics, as they are now."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[_Family]:
        return ()

    def collect(self) -> Iterator[_Family]:
        values = self._read()
        for name, metric in METRICS.items():
            yield _family(metric, values.get(name, {}))


def _family(metric: Metric, values: Values) -> _Family:
    if metric.kind in (COUNTER, GAUGE):
        kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
        simple = kind(metric.name, metric.meaning, labels=metric.labels)
        for labels, value in values.items():
            assert not isinstance(value, Histogram)
            simple.add_metric(labels, value)
        return simple
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        assert isinstance(value, Histogram)
        family.add_metric(labels, buckets=_cumulated(value), sum_value=value.sum)
    return family


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Return for each bound how many values were at most that, as Prometheus wants it."""
    found: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
    return found
