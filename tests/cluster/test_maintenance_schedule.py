"""A model is maintained again and again by a process of the cluster that nobody has to watch."""

import os
import signal
import time

import pytest

from mlsys import cluster, operate, registry
from mlsys.workflow import maintenance_schedule
from mlsys.workflow.maintenance_state import MaintenanceState
from traffic import fit

NAME = "steady"
LONGEST_S = 180


def until(ready):
    """Wait until something is there, and return it."""
    end = time.monotonic() + LONGEST_S
    while not (value := ready()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return value


@pytest.fixture
def actor(store):
    """A model that is maintained every second; nobody has asked it yet."""
    registry.register(store, NAME, fit(store))
    registry.set_alias(store, NAME, "champion", 1, "tried")
    (store.run_folder(NAME) / "resolved.yaml").write_text(f"name: {NAME}\ntarget: late\ndata: {{source: rows.csv}}\n")
    operate.schedule_maintenance(NAME, "1s", store=store.root)
    yield maintenance_schedule.actor_name(store, NAME)
    operate.end_maintenance(NAME, store=store.root)
    cluster.stop_detached(maintenance_schedule.actor_name(store, NAME))


def process(actor):
    """The process of the actor; None while Ray starts another."""
    from ray.exceptions import RayActorError

    try:
        return cluster.detached_process(actor)
    except (RayActorError, ValueError):
        return None


def test_a_schedule_goes_on_when_its_process_is_killed_and_ends_when_it_is_ended(store, actor):
    def last():
        return (MaintenanceState.read(store, NAME).last or {}).get("at")

    first = until(last)
    assert MaintenanceState.read(store, NAME).last["outcome"] == "kept"
    before = until(lambda: process(actor))
    os.kill(before, signal.SIGKILL)
    until(lambda: process(actor) not in (None, before))
    seen = until(last)
    until(lambda: last() > max(first, seen))
    log = store.root / "maintenance" / NAME / "log.txt"
    assert f"{NAME}: monitor says keep; kept" in log.read_text()
    assert operate.end_maintenance(NAME, store=store.root) is True
    until(lambda: process(actor) is None)


def test_a_schedule_is_taken_up_by_whoever_asks_for_the_status(store, actor):
    until(lambda: process(actor))
    cluster.stop_detached(actor)
    until(lambda: process(actor) is None)
    operate.status(store=store.root)
    until(lambda: process(actor))
