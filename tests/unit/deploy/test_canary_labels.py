"""Labels of a trial: each file is read once, each row counts once, and both versions by their own losses."""

import datetime as dt
import time

import polars as pl
import pytest

from bundles import fit
from mlsys import registry
from mlsys.deploy import canary_labels, label_files, tallies
from mlsys.deploy.canary_labels import LabelReader
from mlsys.deploy.first_requests import CANARY, STABLE, Observation, hash_of
from mlsys.registry import canaries
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store

SETTLED = canary_labels.SETTLE_S + 1
SURE = {True: [0.1, 0.9], False: [0.9, 0.1]}
"""Probabilities of a row that is said to be true or false."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("store"))
    for seed in (1, 2):
        registry.register(store, "late", fit(store, seed=seed))
    return store


@pytest.fixture
def store(bundles):
    yield bundles
    trial = canaries.running(bundles, "late")
    if trial is not None:
        canaries.end(bundles, trial, "taken_back", "the test is over")
    for path in label_files.folder_of(bundles, "late").glob("*.parquet"):
        path.unlink()


def begun(store, **plan):
    stable, canary = (registry.resolve(store, "late", version) for version in (1, 2))
    return canaries.start(store, canary, stable, "champion", TrialPlan(**plan))


def said(row, positive, entity=None):
    return Observation(0.5, 1.0, hash_of(row), 0 if entity is None else hash_of(entity), SURE[positive])


def answer(store, trial, rows, step=0):
    """Rows that versions answered: (id, version, what it said, id in the id column)."""
    replica = tallies.of_replica(store, "late", trial.id, 2)
    for row, arm, positive, *entity in rows:
        replica.answered(step, arm, hash_of(row), lambda r=row, p=positive, e=entity: said(r, p, *e))
    replica.close()


def label(store, *labels, key_name="prediction_id", at=None):
    """A file of labels, that came now or at a time."""
    received = at or dt.datetime.now(dt.UTC)
    frame = [{"key_name": key_name, "key": key, "label": text, "received_at": received} for key, text in labels]
    label_files.append(store, "late", pl.DataFrame(frame, schema=label_files.TYPES))


def losses(reader, trial, step=0):
    """Number and mean loss of each version in a step, once the files are old enough."""
    tally = reader.losses(trial, time.time() + SETTLED).get(step, canary_labels.LossTally())
    return [(arm.count, round(arm.mean, 6) if arm.count else None) for arm in (tally.stable, tally.canary)]


def test_labels_are_joined_by_the_id_of_the_answer_or_of_the_row(store):
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [("a", STABLE, True), ("b", STABLE, True, "N1"), ("c", CANARY, False), ("d", CANARY, True)])
    label(store, ("a", "true"), ("c", "true"), ("nobody", "true"))
    label(store, ("N1", "false"), key_name="flight")
    assert losses(reader, trial) == [(2, 0.41), (1, 0.81)]
    assert reader.counts(trial) == {"stable_labels": 2, "canary_labels": 1}
    assert canary_labels.counts(store, trial, reader)["canary_requests"] == 2


def test_a_label_that_comes_twice_or_is_corrected_counts_as_it_came_first(store):
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [("a", STABLE, True)])
    label(store, ("a", "true"))
    assert losses(reader, trial)[0] == (1, 0.01)
    label(store, ("a", "false"), ("a", "true"))
    assert losses(reader, trial)[0] == (1, 0.01)
    assert losses(LabelReader(store, "late"), trial)[0] == (1, 0.01)


def test_only_new_files_are_read(store, monkeypatch):
    trial, reader, read = begun(store), LabelReader(store, "late"), []
    received_since = label_files.received_since

    def noted(path, second):
        read.append(path.name)
        return received_since(path, second)

    monkeypatch.setattr(label_files, "received_since", noted)
    answer(store, trial, [("a", STABLE, True), ("b", CANARY, True)])
    for row in ("a", "b"):
        label(store, (row, "true"))
        losses(reader, trial)
        losses(reader, trial)
    assert len(read) == len(set(read)) == 2


def test_labels_from_before_the_answer_and_labels_that_say_nothing_are_left_out(store):
    trial, reader = begun(store), LabelReader(store, "late")
    label(store, ("a", "false"), at=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    answer(store, trial, [("a", STABLE, True), ("b", STABLE, True), ("c", STABLE, True)])
    label(store, ("b", None), ("c", "perhaps"))
    assert losses(reader, trial)[0] == (0, None)
    label(store, ("a", "true"))
    assert losses(reader, trial)[0] == (1, 0.01)


def test_a_file_waits_until_the_records_of_its_answers_are_surely_written(store):
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [("a", STABLE, True)])
    label(store, ("a", "true"))
    assert reader.losses(trial, time.time()).get(0) is None
    assert losses(reader, trial)[0] == (1, 0.01)


def test_files_that_were_merged_meanwhile_lose_nothing(store, monkeypatch):
    monkeypatch.setattr(label_files, "MERGE_FILES", 2)
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [(row, STABLE, True) for row in "abcde"])
    for count, row in enumerate("abcde", start=1):
        label(store, (row, "true"))
        assert losses(reader, trial)[0] == (count, 0.01)
    assert len(list(label_files.folder_of(store, "late").glob("*.parquet"))) < 5


def test_a_damaged_file_of_labels_is_passed_over(store):
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [("a", STABLE, True)])
    label(store, ("x", "true"))
    next(label_files.folder_of(store, "late").glob("*.parquet")).write_bytes(b"damaged")
    label(store, ("a", "true"))
    assert losses(reader, trial)[0] == (1, 0.01)


def test_a_label_counts_in_the_step_of_its_answer_whenever_it_comes(store):
    trial, reader = begun(store), LabelReader(store, "late")
    answer(store, trial, [("a", STABLE, True), ("b", CANARY, True)], step=0)
    answer(store, trial, [("c", STABLE, True), ("d", CANARY, False)], step=1)
    trial = canaries.widen(store, trial, "as planned", {})
    label(store, ("a", "true"), ("b", "true"), ("d", "true"))
    assert losses(reader, trial, 0) == [(1, 0.01), (1, 0.01)]
    assert losses(reader, trial, 1) == [(0, None), (1, 0.81)]


def test_a_shadow_is_compared_row_by_row(store):
    trial, reader = begun(store, shadow=True), LabelReader(store, "late")
    replica = tallies.of_replica(store, "late", trial.id, 2)
    for row, of_stable, of_canary in (("a", True, False), ("b", False, False), ("c", True, None)):
        canary = None if of_canary is None else said(row, of_canary)
        replica.pair(0, hash_of(row), said(row, of_stable), canary)
    replica.close()
    label(store, ("a", "true"), ("b", "true"), ("c", "true"))
    tally = reader.losses(trial, time.time() + SETTLED)[0]
    assert (tally.stable.count, tally.canary.count) == (3, 2)
    assert (tally.pairs.count, tally.pairs.total) == (2, pytest.approx(0.8))
