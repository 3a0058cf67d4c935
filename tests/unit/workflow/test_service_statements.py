"""What the store has noted of a name in service: each note becomes one statement, and a remedy that is a command."""

from typing import get_args

import pytest

from endpoint_files import model
from mlsys import errors, registry
from mlsys.alerts import alert_book
from mlsys.alerts.alert_book import Condition, Delivery, RaisedAlert
from mlsys.deploy import prediction_log
from mlsys.deploy.batch_queue import JobQueue, JobSpec
from mlsys.deploy.prediction_log import Loss
from mlsys.recipe.alert_section import AlertKind
from mlsys.registry import canaries
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store, write_json
from mlsys.workflow import service_statements, why
from mlsys.workflow.maintenance_state import MaintenanceResult, MaintenanceState


@pytest.fixture
def store(tmp_path):
    """Two versions of `late`, the second of which serves."""
    store = Store.open(tmp_path / "store")
    for letter in "ab":
        registry.register(store, "late", model(letter))
    registry.set_alias(store, "late", "champion", 1, "the first")
    registry.set_alias(store, "late", "champion", 2, "better")
    return store


def about(store, name="late"):
    return {each.about: each for each in service_statements.of_name(store, name)}


def test_a_name_in_order_has_no_statement(store):
    assert service_statements.of_name(store, "late") == []
    done = why.explain(store, "late")
    assert (done.run, done.statements) == (None, ())
    assert done.summary == "late: no run of it is recorded in this store"


def test_versions_that_no_alias_means_are_a_cause(tmp_path):
    store = Store.open(tmp_path)
    registry.register(store, "late", model("a"))
    statement = about(store)["alias"]
    assert (statement.is_cause, statement.words) == (
        True, "1 version registered, and no alias means one: nothing serves"
    )  # fmt: skip
    assert statement.change == ("`mlsys promote late@1 --reason WHY` puts the newest into service",)


def test_a_rollback_says_who_and_why(store):
    registry.rollback(store, "late", "champion", "odd answers")
    statement = about(store)["alias"]
    assert statement.words.startswith("champion was given back to version 1 at ")
    assert statement.words.endswith(": odd answers")
    assert (statement.is_cause, statement.more) == (False, "mlsys history late")


def test_a_change_that_nobody_ended_is_a_cause_unless_somebody_is_at_work(store):
    registry.intend(store, registry.resolve(store, "late", 1), "champion", reason="to die")
    assert about(store)["alias"].change == ("`mlsys status` settles it or takes it back",)
    with registry.locked(store, "late", "deploy"):
        assert service_statements.of_name(store, "late") == []


def test_a_canary_that_was_taken_back_is_told_until_its_version_serves(store):
    first, second = (registry.resolve(store, "late", version) for version in (1, 2))
    trial = canaries.start(store, first, second, "champion", TrialPlan())
    assert "canary" not in about(store)
    canaries.end(store, trial, "taken_back", "errors: 9 of 100", {"canary_requests": 100})
    statement = about(store)["canary"]
    assert statement.words.startswith("version 1 was taken back as a canary at ")
    assert statement.words.endswith(" after 100 requests of its step: errors: 9 of 100")
    assert (statement.is_cause, statement.more) == (True, "mlsys rollout late")
    registry.set_alias(store, "late", "champion", 1, "by hand")
    assert "canary" not in about(store)


@pytest.mark.parametrize(
    ("decision", "is_cause", "change"),
    [("retrain", True, "run the recipe on newer rows"), ("watch", False, "bring labels")],
)
def test_a_decision_of_the_monitor_that_asks_for_work_is_told(store, decision, is_cause, change):
    noted = {
        "at": "2026-01-02T03:04:05+00:00", "version": 2, "decision": decision, "headline": "3 of 4 windows",
        "counts": {"windows": 4},
    }  # fmt: skip
    write_json(store.root / "monitor" / "late" / "last.json", noted)
    statement = about(store)["monitor"]
    assert statement.words == f"{decision}, of version 2, at 2026-01-02T03:04Z: 3 of 4 windows (4 windows)"
    assert (statement.is_cause, statement.more) == (is_cause, "mlsys monitor late")
    assert statement.change[0].startswith(change)
    write_json(store.root / "monitor" / "late" / "last.json", {**noted, "decision": "keep"})
    assert "monitor" not in about(store)


def test_a_maintenance_that_asks_for_somebody_is_told(store):
    result = MaintenanceResult("late", "refused", "a column is gone", "retrain", at="2026-01-02T03:04:05+00:00")
    MaintenanceState(last=result.to_json()).write(store, "late")
    statement = about(store)["maintain"]
    assert statement.words == "the maintenance of 2026-01-02T03:04Z ended as refused: a column is gone"
    assert (statement.is_cause, statement.more) == (True, "mlsys maintain late --dry-run")
    kept = MaintenanceResult("late", "kept", "nothing calls for work", "keep", at="2026-01-02T03:04:05+00:00")
    MaintenanceState(last=kept.to_json()).write(store, "late")
    assert "maintain" not in about(store)


def test_an_alert_that_lasts_and_did_not_reach_a_place_is_told(store):
    with alert_book.changing(store, "late") as book:
        alert = RaisedAlert.of(Condition(get_args(AlertKind)[0], "critical", "3 of 4 windows"), "2026-01-02T03:04:05")
        book.alerts.append(alert)
    assert "alerts" not in about(store)
    with alert_book.changing(store, "late") as book:
        book.alerts[0].deliveries["a"] = Delivery("webhook", num_failed=2, error="no answer\nin 5 s")
    statement = about(store)["alerts"]
    assert statement.words == "the alert '3 of 4 windows' of 2026-01-02T03:04Z did not reach webhook: no answer in 5 s"
    assert (statement.is_cause, statement.more) == (True, "mlsys alerts late")


def test_failed_batch_jobs_are_told_until_one_with_the_same_input_succeeds(store):
    queue, spec = JobQueue(store), JobSpec("late", "champion", 2, "in.csv", "out")
    error = errors.RequestError.build("predict: file 'in.csv'", got="no column x", expected="x", hint="add it")
    failed = queue.submit(spec)
    assert queue.claim("w").id == failed.id
    queue.end(failed.id, "w", "failed", error=str(error))
    statement = about(store)["batch"]
    assert statement.words.startswith(f"job {failed.id[:8]} of ")
    assert statement.words.endswith(" failed: predict: file 'in.csv': got no column x, expected x")
    assert (statement.change, statement.read) == (("add it",), ("in.csv, by version 2",))
    assert statement.more == f"mlsys batch show {failed.id}"
    again = queue.submit(spec)
    queue.claim("w")
    queue.end(again.id, "w", "succeeded")
    assert "batch" not in about(store)


def test_rows_that_are_not_in_the_log_are_counted_with_the_last_reason(store):
    folder = prediction_log.folder_of(store, "late")
    prediction_log.note_loss(folder, "w", Loss(7, "the queue is full", "2026-01-02T03:04:05+00:00"))
    statement = about(store)["log"]
    assert statement.words == (
        "7 answered rows are not in the prediction log; the last time at 2026-01-02T03:04Z: the queue is full"
    )
