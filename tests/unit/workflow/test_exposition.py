"""The gauges of a store for Prometheus, and the rules and the dashboard that are made of them."""

import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import console_store
from mlsys.deploy import telemetry
from mlsys.monitor import last
from mlsys.registry import canaries
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store, read_json
from mlsys.workflow import exposition
from mlsys.workflow.maintenance_state import MaintenanceResult, MaintenanceState
from pages import ROOT
from shop import Shop

CONFIGS = ROOT / "serve_configs"
SELECTOR = re.compile(r"\b((?:ray_)?mlsys_\w+|up\b)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GIVEN = {"up": {"job", "instance"}}
"""Labels that Prometheus itself gives."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with everything of which there is a gauge."""
    store = console_store.worked(tmp_path_factory.mktemp("exposed") / "store")
    entry, stable = (console_store.registry.resolve(store, "late", version) for version in (2, 1))
    canaries.start(store, entry, stable, "champion", TrialPlan(percents=(10, 100)), reason="a test")
    result = MaintenanceResult("late", "waits", "a canary runs", "retrain", 1, at="2026-11-01T12:00:00+00:00")
    MaintenanceState(last=result.to_json()).write(store, "late")
    return store


@pytest.fixture(scope="module")
def samples(store):
    """Gauge and labels → value, as Prometheus' own parser reads the text."""
    families = text_string_to_metric_families(exposition.text(store))
    return {
        (each.name, *(label for name, label in sorted(each.labels.items()) if name != "model")): each.value
        for family in families
        for each in family.samples
    }


@pytest.mark.parametrize(
    ("sample", "value"),
    {
        ("mlsys_model_version", "champion"): 1,
        ("mlsys_monitor_decision", "retrain"): 1,
        ("mlsys_monitor_decision", "keep"): 0,
        ("mlsys_monitor_run_timestamp_seconds",): 1_793_527_200,  # 2026-11-01 10:00
        ("mlsys_monitor_backlog_rows",): 0,
        ("mlsys_monitor_windows", "degraded"): 1,
        ("mlsys_monitor_windows", "ok"): 0,
        ("mlsys_monitor_window_verdict", "degraded"): 1,
        ("mlsys_monitor_window_rows",): 1_000,
        ("mlsys_monitor_window_end_timestamp_seconds",): 1_380_672_000,  # 2013-10-02
        ("mlsys_monitor_window_label_coverage",): 0.95,
        ("mlsys_monitor_window_drift_alarms", "yes"): 1,
        ("mlsys_monitor_window_drift_alarms", "no"): 1,
        ("mlsys_monitor_js_distance", "dep_delay"): 0.25,
        ("mlsys_monitor_metric", "low", "roc_auc"): 0.55,
        ("mlsys_monitor_metric", "value", "roc_auc"): 0.6,
        ("mlsys_monitor_metric_end_timestamp_seconds",): 1_380_672_000,
        ("mlsys_monitor_estimated_metric", "high", "roc_auc"): 0.75,
        ("mlsys_monitor_estimate_trusted",): 0,
        ("mlsys_monitor_test_metric", "value", "roc_auc"): 0.75,
        ("mlsys_alert", "no", "champion", "retrain", "critical"): 1,
        ("mlsys_alert_undelivered", "champion", "retrain"): 0,
        ("mlsys_maintenance_outcome", "waits"): 1,
        ("mlsys_maintenance_timestamp_seconds",): 1_793_534_400,
        ("mlsys_canary_percent", "2"): 10,
        ("mlsys_unreadable",): 0,
    }.items(),
    ids=lambda each: "-".join(each) if isinstance(each, tuple) else None,
)
def test_a_gauge_says_what_the_store_has(samples, sample, value):
    assert samples[sample] == value


def test_every_gauge_has_a_sample_here_and_what_is_not_known_has_none(samples):
    assert {sample[0] for sample in samples} == {*exposition.GAUGES}
    assert ("mlsys_monitor_estimated_metric", "low", "roc_auc") not in samples


def test_what_the_monitor_itself_writes_is_read(tmp_path):
    shop = Shop(tmp_path).begin()
    for _ in range(2):
        shop.live()
    kept = shop.maintain()
    judgement = read_json(shop.store.path("monitor", last.noted(shop.store, "shop")["judgement"]) / "judgement.json")
    window = judgement["windows"][-1]
    samples = exposition.of_model(shop.store, "shop")
    told = {(each.gauge, each.labels.get("is"), each.labels.get("column")): each for each in samples}
    assert told["mlsys_unreadable", None, None].value == 0
    assert told["mlsys_monitor_metric", "high", None].value == window["metrics"]["roc_auc"]["high"]
    tested, estimated = judgement["baseline"]["metrics"]["roc_auc"], window["estimate"]["metrics"]["roc_auc"]
    assert told["mlsys_monitor_test_metric", "value", None].value == tested["value"]
    assert told["mlsys_monitor_estimated_metric", "value", None].value == estimated["value"]
    assert told["mlsys_monitor_window_rows", None, None].value == 200
    assert {column for gauge, _, column in told if gauge == "mlsys_monitor_js_distance"} >= {"colour", "z"}
    assert told["mlsys_maintenance_outcome", None, None].labels["outcome"] == kept.outcome == "kept"


def test_an_empty_store_has_gauges_without_samples(tmp_path):
    families = list(text_string_to_metric_families(exposition.text(Store.open(tmp_path))))
    assert [(family.name, family.samples) for family in families] == [(name, []) for name in exposition.GAUGES]


def test_what_is_damaged_costs_its_own_gauges_alone(tmp_path):
    store = console_store.worked(tmp_path / "store")
    (store.root / "monitor" / "late" / "last.json").write_text('{"seen": {}, "decision": "keep", "judgement": 3}')
    found = {sample.gauge: sample.value for sample in exposition.of_model(store, "late")}
    assert (found["mlsys_unreadable"], found["mlsys_model_version"], found["mlsys_alert"]) == (1, 1, 1)
    assert "mlsys_monitor_windows" not in found


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ä"])
def test_labels_of_any_text_are_read_as_they_are(name):
    line = exposition.Sample("mlsys_alert", {"model": name}, 1.5).line()
    (family,) = text_string_to_metric_families(line + "\n")
    assert (family.samples[0].labels["model"], family.samples[0].value) == (name, 1.5)


def exposed_labels(store):
    """Metric → its labels with their values here: gauges of the store, and what replicas send through Ray."""
    known = {name: dict.fromkeys(labels) for name, labels in GIVEN.items()}
    for family in text_string_to_metric_families(exposition.text(store)):
        for sample in family.samples:
            for label, value in sample.labels.items():
                known.setdefault(family.name, {}).setdefault(label, set()).add(value)
    for name, each in (telemetry.MODEL_COUNTERS | telemetry.MODEL_GAUGES).items():
        known[f"ray_{name}"] = dict.fromkeys(["application", "deployment", "replica", *each.tags])
    return known


def expressions():
    """Where, and the PromQL that stands there: of each rule and of each panel."""
    rules = yaml.safe_load((CONFIGS / "prometheus" / "rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in json.loads((CONFIGS / "grafana-models.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")


@pytest.mark.parametrize("expression", [*expressions()])
def test_an_expression_selects_series_that_there_are_by_labels_that_they_have(store, expression):
    known = exposed_labels(store)
    selectors = SELECTOR.findall(expression)
    assert selectors
    for name, matchers in selectors:
        assert name in known, name
        for label, _, text in MATCHER.findall(matchers):
            assert label in known[name]
            values = known[name][label]
            if label in ("decision", "verdict", "matters", "is"):
                assert text in values


def test_a_rule_has_the_fields_that_prometheus_knows_and_a_text_for_people():
    rules = yaml.safe_load((CONFIGS / "prometheus" / "rules.yaml").read_text())
    assert set(rules) == {"groups"}
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in every}) == len(every)
    for rule in every:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
    scraped = yaml.safe_load((CONFIGS / "prometheus" / "scrape.yaml").read_text())
    assert {job["job_name"] for job in scraped["scrape_configs"]} == {"mlsys", "ray"}
    assert all((CONFIGS / "prometheus" / file).is_file() for file in scraped["rule_files"])


def test_the_dashboard_shows_every_gauge():
    panels = json.loads((CONFIGS / "grafana-models.json").read_text())["panels"]
    shown = {name for panel in panels for target in panel["targets"] for name, _ in SELECTOR.findall(target["expr"])}
    assert shown == {*exposition.GAUGES}
    assert len({panel["id"] for panel in panels}) == len(panels)
