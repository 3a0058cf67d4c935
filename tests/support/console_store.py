"""A store as an hour of work leaves it: two versions of a model, its runs, a judgement, and batch jobs."""

import datetime as dt

import bundles
from mlsys import registry
from mlsys.alerts import alert_book
from mlsys.alerts.alert_book import Condition
from mlsys.deploy.batch_queue import JobQueue, JobSpec
from mlsys.registry import ledger
from mlsys.store import Store, write_json
from mlsys.workflow.run_record import RunRecord

WINDOW = {
    "label": "2013-10-01", "end": "2013-10-02T00:00:00+00:00", "partial": False, "num_rows": 1_000,
    "verdict": "degraded",
    "reasons": ["ROC AUC fell from 0.75 to 0.6."], "labels": {"coverage": 0.95},
    "metrics": {"roc_auc": {"value": 0.6, "low": 0.55, "high": 0.65}},
    "estimate": {"metrics": {"roc_auc": {"value": 0.625, "low": None, "high": 0.75}}, "trusted": False},
    "shifts": [
        {"column": "dep_delay", "excess": 0.25, "alarmed": True, "matters": True},
        {"column": "carrier", "excess": 0.125, "alarmed": True, "matters": False},
        {"column": "origin", "excess": 0.0, "alarmed": False, "matters": False},
    ],
}  # fmt: skip

BASELINE = {"metric": "roc_auc", "title": "ROC AUC", "metrics": {"roc_auc": {"value": 0.75}}}


def worked(folder):
    """The store in a new folder."""
    store = Store.open(folder)
    for number in (1, 2):
        written = bundles.fit(store, seed=number, num_rows=60, provenance={"seed": number, "snapshot": "5" * 64})
        facts = {"metric": "roc_auc", "params": {"rounds": 10 * number}}
        registry.register(store, "late", written, metrics={"log_loss": 0.5, "roc_auc": 0.7 + number / 100}, facts=facts)
        registry.set_alias(store, "late", "champion", number, f"number {number}")
    registry.rollback(store, "late", "champion", "worse <in fact>")
    run(store, "late")
    run(store, "late", fails=True)
    monitored(store)
    raised(store)
    return store


def run(store, name, *, fails=False):
    """A run of three steps, of which the last fails where it is to."""
    record = RunRecord.begin(store.run_folder(name), f"name: {name}\n", "evaluate")
    page = store.run_folder(name) / "reports" / "explore.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text("<h1>explored</h1>", encoding="utf-8")
    try:
        with record.recording():
            with record.step("explore", 2) as entry:
                entry |= {"reports": {str(page): "0" * 64}}
            with record.step("tune", 7) as entry:
                tried = {"name": "trial 0", "params": {"family": "linear"}, "metrics": {"validation_roc_auc": 0.71}}
                entry |= {"params": {"C": 0.5}, "tries": [tried]}
            with record.step("evaluate", 6) as entry:
                judge(entry, fails=fails)
    except ValueError:
        return record
    return record


def judge(entry, *, fails):
    if fails:
        message = "gate: roc_auc 0.5 is below 0.6"
        raise ValueError(message)
    entry |= {"metrics": {"roc_auc": 0.72, "roc_auc_low": 0.7, "roc_auc_high": 0.74}}


def monitored(store):
    """What the monitor's last run left."""

    def fill(folder):
        value = {"windows": [WINDOW], "labels": None, "baseline": BASELINE}
        write_json(folder / "judgement.json", value)
        return {}

    noted = {"at": "2026-11-01T10:00:00+00:00", "version": 1, "decision": "retrain", "headline": "train it again"}
    noted |= {"counts": {"windows": 1}, "num_rows": 1_000, "judgement": store.put("monitor", fill), "seen": {}}
    write_json(store.root / "monitor" / "late" / "last.json", noted)


def raised(store):
    """An alert that lasts, as the monitor raises it."""
    condition = Condition("retrain", "critical", "train it again", reasons=("the metric fell",))
    with alert_book.changing(store, "late") as book:
        book.update([condition], [("champion", "retrain")], dt.datetime(2026, 11, 1, tzinfo=dt.UTC))


def submitted(store, source="in.parquet"):
    """A batch job that waits."""
    return JobQueue(store).submit(JobSpec("late", "champion", 1, source, "out"))


def served(store, url):
    """Note an endpoint that was brought up at an address."""
    entry = registry.resolve(store, "late", 1)
    ledger.write(store, "served", entry, "champion", facts={"url": url, "cluster": "c"})
