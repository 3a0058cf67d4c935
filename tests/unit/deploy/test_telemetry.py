"""Metrics of an endpoint: what is sent, and that nothing is sent twice."""

import json
import re
from pathlib import Path

import pytest

from metric_recorder import MetricRecorder
from mlsys.deploy import telemetry
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service
from mlsys.deploy.telemetry import BOUNDS_MS, Exporter, Histogram, MetricValues

ROOT = Path(__file__).parents[3]


@pytest.fixture
def recorder():
    return MetricRecorder()


def test_counts_are_sent_once_each(recorder):
    service = Service("late", log=None)
    exporter = Exporter(service.metric_values, recorder.make)
    service.count(200, 0.4)
    service.count(200, 3.0)
    service.count(422, 1.0)
    exporter.send()
    exporter.send()
    assert recorder.values["mlsys_requests", ("status", "200")] == 2
    assert recorder.values["mlsys_requests", ("status", "422")] == 1
    assert recorder.values["mlsys_latency_ms_bucket", ("le", "0.5")] == 1
    assert recorder.values["mlsys_latency_ms_bucket", ("le", "+Inf")] == 3
    assert recorder.values[("mlsys_latency_ms_sum",)] == pytest.approx(4.4)
    assert recorder.values[("mlsys_refused_version",)] == 0
    service.count(200, 9.0)
    exporter.send()
    assert recorder.values["mlsys_requests", ("status", "200")] == 3


def test_the_log_and_a_refused_version_are_told(recorder, tmp_path):
    service = Service("late", PredictionLog(tmp_path, max_pending_rows=1))
    service.refused = {"digest": "a", "error": "BundleError"}
    Exporter(service.metric_values, recorder.make).send()
    assert recorder.values[("mlsys_refused_version",)] == 1
    assert recorder.values[("mlsys_log_pending_rows",)] == 0
    service.close()


@pytest.mark.parametrize(
    ("latency", "bound"), [(0.0, "0.5"), (0.5, "0.5"), (0.51, "1"), (30_000.0, "30000"), (30_001.0, "+Inf")]
)
def test_a_latency_is_in_the_buckets_from_its_bound_on(latency, bound):
    histogram = Histogram()
    histogram.add(latency)
    counted = dict(histogram.cumulative())
    bounds = list(counted)
    assert [counted[each] for each in bounds] == [int(place >= bounds.index(bound)) for place in range(len(bounds))]
    assert len(bounds) == len(BOUNDS_MS) + 1


def test_a_send_that_fails_is_made_up_for_by_the_next_one(recorder):
    total = {"value": 5.0}
    exporter = Exporter(lambda: MetricValues({("mlsys_rows", ()): total["value"]}, {}), recorder.make)
    counter = exporter._counters["mlsys_rows"]
    whole = counter.inc
    counter.inc = None
    with pytest.raises(TypeError):
        exporter.send()
    counter.inc = whole
    total["value"] = 7.0
    exporter.send()
    assert recorder.values[("mlsys_rows",)] == 7


def test_the_dashboard_shows_metrics_that_there_are_and_each_of_them():
    text = (ROOT / "serve_configs" / "grafana.json").read_text()
    shown = set(
        re.findall(r"\bray_(mlsys_\w+)", json.dumps([panel["targets"] for panel in json.loads(text)["panels"]]))
    )
    there = {*telemetry.MODEL_COUNTERS, *telemetry.MODEL_GAUGES}
    assert shown <= there
    assert there - shown == {"mlsys_latency_ms_sum", "mlsys_log_rows"}
