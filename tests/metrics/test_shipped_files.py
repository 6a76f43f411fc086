"""The dashboard and the alerts of etc/: promtool reads them, and their metrics exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from postoffice.metrics.table import COUNTER, HISTOGRAM, METRICS

ROOT = Path(__file__).parents[2]
ALERTS, DASHBOARD = (
    ROOT / "etc" / name for name in ("prometheus-alerts.yml", "grafana-dashboard.json")
)
PROMTOOL = pytest.mark.skipif(
    not shutil.which("promtool"), reason="there is no promtool (Debian: prometheus)"
)
#: Labels that Prometheus gives.
GIVEN = {"instance", "job", "le"}
#: What prometheus-client tells of the process.
OF_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def rules() -> list[dict]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return group["rules"]


def panels() -> list[dict]:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[tuple[str, str]]:
    """Each expression, and the text for its results."""
    found = [(rule["expr"], rule["annotations"]["summary"]) for rule in rules()]
    return found + [
        (one["expr"].replace("$__rate_interval", "5m"), one["legendFormat"])
        for panel in panels()
        for one in panel["targets"]
    ]


def metrics_in(expression: str) -> set[str]:
    names = set(re.findall(r"\b(?:postoffice|process)_\w+", expression))
    return {re.sub(r"_(?:bucket|sum|count)\Z", "", name) if name not in METRICS else name
            for name in names}  # fmt: skip


def promtool(*words: str, text: str | None = None) -> str:
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("expression", "told"), expressions())
def test_metrics_and_labels_exist(expression, told):
    names = metrics_in(expression)
    assert names or expression.startswith("up{")
    assert names <= set(METRICS) | OF_PROCESS
    labels = {label for name in names - OF_PROCESS for label in METRICS[name].labels} | GIVEN
    used = set(re.findall(r"\.labels\.(\w+)", told)) or set(re.findall(r"\{\{(\w+)\}\}", told))
    for by in re.findall(r"\bby \(([^)]*)\)", expression):
        used |= {label.strip() for label in by.split(",")}
    used |= set(re.findall(r"(\w+)=~?\"", expression))
    assert used <= labels


@pytest.mark.parametrize("name", sorted({n for e, _ in expressions() for n in metrics_in(e)}))
def test_each_is_read_as_its_kind_wants_it(name):
    if name in OF_PROCESS:
        return
    reading = [expression for expression, _ in expressions() if name in metrics_in(expression)]
    for expression in reading:
        if METRICS[name].kind == COUNTER:
            assert re.search(rf"(?:rate|increase)\({name}\b", expression)
        elif METRICS[name].kind == HISTOGRAM:
            assert re.search(rf"rate\({name}_(?:bucket|sum|count)\b", expression)


@PROMTOOL
def test_promtool_reads_the_alerts_and_the_queries_of_the_dashboard(tmp_path):
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))
    recorded = [
        {"record": f"test:query:{number}", "expr": expression}
        for number, (expression, _) in enumerate(expressions())
    ]
    queries = tmp_path / "queries.yml"
    queries.write_text(json.dumps({"groups": [{"name": "queries", "rules": recorded}]}))
    promtool("check", "rules", str(queries))


@PROMTOOL
def test_they_alarm_when_they_should_and_else_not(tmp_path):
    wanted = (Path(__file__).parent / "alerts.yaml").read_text()
    test = tmp_path / "alerts.yaml"
    test.write_text(wanted.replace("ALERTS", str(ALERTS)))
    assert "SUCCESS" in promtool("test", "rules", str(test))


def test_each_alert_says_what_is_wrong_and_how_bad_it_is():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")


def test_panels_lie_beside_one_another():
    places = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & places
        assert max(x for x, _ in cells) < 24
        places |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_manual_has_the_table_and_names_what_is_there():
    page = (ROOT / "docs" / "metrics.rst").read_text()
    assert ".. from the code: metrics\n" in page
    assert metrics_in(page) <= set(METRICS)
    for name in ("etc/prometheus-alerts.yml", "etc/grafana-dashboard.json"):
        assert name in page
        assert (ROOT / name).exists()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_keep_prometheus_conventions(metric):
    assert re.fullmatch(r"postoffice_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == COUNTER)
    if metric.kind == HISTOGRAM:
        assert metric.name.endswith(("_seconds", "_bytes", "_messages"))
    assert metric.meaning.endswith(".")
    assert not {"client", "account", "user", "sender", "recipient", "to"} & set(metric.labels)
