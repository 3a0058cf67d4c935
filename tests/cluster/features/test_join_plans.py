"""Joins spread over the cluster: the same snapshot as in one task, skewed keys included, and the same errors."""

from __future__ import annotations

import random

import pytest

from mlsys import errors
from mlsys.cluster import tasks
from mlsys.features.joins import assembly
from point_in_time import aggregates, spec, stored_rows, stored_table


@pytest.fixture(scope="module")
def skewed():
    """Nine of ten rows and events are of one key; some are late, some have no key."""
    rng = random.Random(0)
    keys = [0] * 18 + [1, None]
    asked = [(rng.choice(keys), rng.randint(0, 200)) for _ in range(1500)]
    events = []
    for _ in range(1500):
        hour = rng.randint(0, 200)
        events.append((rng.choice(keys), hour, hour + rng.choice([0, 0, 1, 30]), rng.gauss(0, 1e3), rng.choice("abc")))
    return asked, events


def test_both_plans_give_the_same_snapshot_and_no_task_holds_more_than_its_share(store, skewed, monkeypatch):
    asked, events = skewed
    wanted = spec(time="time", known_at="known", columns=("v", "label"), aggregates=aggregates(3, 24))
    rows = stored_rows(store, asked, [(0, 700), (700, 1500)], 100)
    tables = {"events": (wanted, stored_table(store, events, [(0, 1000), (1000, 1500)], 100))}
    in_a_task = assembly.assemble(store, rows, tables)
    monkeypatch.setattr(tasks, "TASK_BYTES", 1)
    monkeypatch.setattr(assembly, "PART_BYTES", 30_000)
    spread = assembly.assemble(store, rows, tables)
    assert (in_a_task.report["plan"]["kind"], spread.report["plan"]["kind"]) == ("task", "cluster")
    assert spread.snapshot.digest == in_a_task.snapshot.digest
    whole, share = (done.report["joins"]["events"]["work"] for done in (in_a_task, spread))
    assert (whole["tasks"], share["split"]) == (1, 1)
    assert share["tasks"] > share["parts"] > 1
    assert share["largest_task_bytes"] < 45_000 < whole["largest_task_bytes"]  # a share, and what windows reach back


def test_an_error_in_a_part_arrives_as_itself(store, monkeypatch):
    monkeypatch.setattr(tasks, "TASK_BYTES", 1)
    events = stored_table(store, [(1, 0, 0, 2.0, "a"), (1, 1, 1, 3.0, "b")], [(0, 1), (1, 2)], 10)
    rows = stored_rows(store, [(1, 1)], [(0, 1)], 10)
    with pytest.raises(errors.FeatureError, match="2 rows with other = 1"):
        assembly.assemble(store, rows, {"events": (spec(columns=("v",)), events)})
