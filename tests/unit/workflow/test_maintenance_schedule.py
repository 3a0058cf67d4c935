"""A schedule lies in the store: when a model is due, what goes on at once, and what is refused."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlsys import errors, operate, registry
from mlsys.bundle import Bundle
from mlsys.cli import app
from mlsys.store import Store
from mlsys.workflow import inventory, maintenance_schedule
from mlsys.workflow.maintenance_schedule import MaintenanceSchedule
from mlsys.workflow.maintenance_state import MaintenanceState, Retraining

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAILY = MaintenanceSchedule("shop", "shop", "1d", (), "/", NOON.isoformat(), "somebody")
BEGUN = Retraining("a1", NOON.isoformat(), "retrain", "Retrain.", (1, "0" * 64), {})
RECIPE = "name: shop\ntarget: y\ndata: {source: rows.csv}\n"


@pytest.fixture
def store(tmp_path):
    """A store with a registered model and the recipe of its last run."""
    store = Store.open(tmp_path / "store")
    manifest = {"family": "linear", "params": {}}
    registry.register(store, "shop", Bundle("0" * 64, tmp_path, manifest))
    (store.run_folder("shop") / "resolved.yaml").write_text(RECIPE)
    return store


def ended(hours):
    return MaintenanceState(last={"at": (NOON - hours * HOUR).isoformat()})


@pytest.mark.parametrize(
    ("state", "tried_hours", "is_due"),
    [
        (MaintenanceState(), None, True),
        (ended(25), None, True),
        (ended(23), None, False),
        (ended(25), 1, False),
        (ended(25), 30, True),
        (MaintenanceState(retraining=BEGUN, last=ended(1).last), None, True),
        (MaintenanceState(retraining=BEGUN), 0.01, False),
        (MaintenanceState(retraining=BEGUN), 0.02, True),
        (MaintenanceState(retraining=BEGUN.failed(), last=ended(1).last), None, False),
        (MaintenanceState(retraining=BEGUN.failed(), last=ended(24).last), None, True),
    ],
)
def test_a_model_is_due_after_its_span_and_one_that_was_killed_at_once(state, tried_hours, is_due):
    tried_at = None if tried_hours is None else NOON - tried_hours * HOUR
    assert DAILY.is_due(state, tried_at, NOON) is is_due


def test_a_state_is_read_as_it_was_written_and_a_damaged_one_is_named(store):
    state = MaintenanceState(BEGUN, [NOON.isoformat()], {"at": NOON.isoformat()})
    state.write(store, "shop")
    assert MaintenanceState.read(store, "shop") == state
    (store.root / "maintenance" / "shop" / "state.json").write_text('{"last": 1}')
    with pytest.raises(errors.StoreError, match="the maintenance begins anew"):
        MaintenanceState.read(store, "shop")


def test_a_schedule_is_read_as_it_was_written_and_ended_once(store):
    assert maintenance_schedule.names(store) == []
    (store.root / "maintenance" / "shop").mkdir(parents=True)
    (store.root / "maintenance" / "shop" / "schedule.json").write_text(json.dumps(DAILY.to_json()))
    assert maintenance_schedule.read(store, "shop") == DAILY
    assert maintenance_schedule.names(store) == ["shop"]
    maintenance_schedule.resume(store)  # without a cluster nothing happens
    state = operate.status(store=store.root)
    assert (state["maintenance"]["shop"]["every"], state["maintenance"]["shop"]["last"]) == ("1d", None)
    assert "shop: maintained every 1d; last not yet, once" in inventory.status_text(state)
    done = CliRunner().invoke(app, ["maintain", "shop", "--stop", "--store", str(store.root)])
    assert (done.exit_code, done.output) == (0, "shop is no longer maintained by itself\n")
    assert operate.end_maintenance("shop", store=store.root) is False


def test_a_span_that_is_none_and_options_that_exclude_each_other_are_refused(store):
    for every in ("soon", "1", "5ms"):
        with pytest.raises(errors.RecipeError, match="a span of a second or more"):
            operate.schedule_maintenance("shop", every, store=store.root)
    both = CliRunner().invoke(app, ["maintain", "shop", "--stop", "--dry-run", "--store", str(store.root)])
    assert "one of them" in str(both.exception)
    assert maintenance_schedule.names(store) == []


def test_a_source_whose_password_was_not_kept_needs_the_recipe(store):
    (store.run_folder("shop") / "resolved.yaml").write_text(RECIPE.replace("rows.csv", "'postgresql://me:***@db/x'"))
    with pytest.raises(errors.RecipeError, match="whose password is kept nowhere"):
        operate.maintain("shop", store=store.root)


def test_a_maintenance_is_a_process_of_its_own_whose_output_is_kept(store):
    """The model's rows are not here, so that the command ends with what it says of that."""
    (store.root / "maintenance" / "shop").mkdir(parents=True)
    assert maintenance_schedule.perform(store, DAILY) == 2
    log = (store.root / "maintenance" / "shop" / "log.txt").read_text()
    assert "registry: model 'shop'" in log
    shutil.rmtree(store.root / "runs")
    assert maintenance_schedule.perform(store, DAILY) == 2
    assert "no run of its recipe" in (Path(store.root) / "maintenance" / "shop" / "log.txt").read_text()
