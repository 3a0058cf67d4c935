from __future__ import annotations

import datetime as dt
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.collect import assignment, snapshot, split, task
from mlsys.dataset import PARTS
from mlsys.recipe import DataSection, Recipe
from mlsys.schema import Role
from mlsys.store import Store

DRAWN = PARTS[:3]


@pytest.fixture
def divided(tmp_path):
    """Divide the rows of a table; `files` cuts it into as many."""
    store = Store.open(tmp_path / "store")

    def run(table, files=1, data=None, **keys):
        folder = tmp_path / f"in{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        ends = np.linspace(0, table.num_rows, files + 1).astype(int)
        for number, (a, b) in enumerate(pairwise(ends)):
            pq.write_table(table.slice(a, b - a), folder / f"{number}.parquet")
        recipe = Recipe(name="t", target="y", data=DataSection(source=str(folder), **(data or {})), **keys)
        taken = snapshot.take(store, recipe.data, target="y", folder=tmp_path / "run").snapshot
        return split.divide(store, taken, recipe, task.decide(taken, recipe)), store

    return run


def rows_of(parts, columns=("__row",)):
    return {part: parts.table(part, list(columns)).to_pylist() for part in PARTS}


def labels(count, rare=10):
    return ["b" if i % rare == 0 else "a" for i in range(count)]


def test_every_row_is_in_one_part(divided):
    y = [None if i % 7 == 0 else label for i, label in enumerate(labels(500))]
    parts, store = divided(pa.table({"x": range(500), "y": y}))
    found = sorted(row["__row"] for rows in rows_of(parts).values() for row in rows)
    assert found == list(range(500))
    assert parts.num_rows["unlabelled"] == sum(v is None for v in y)
    assert sum(parts.num_rows.values()) == 500
    assert store.facts("split", parts.digest)["by"] == "stratified"


def test_files_of_a_wide_table_have_fewer_rows(divided, monkeypatch):
    monkeypatch.setattr(split, "TASK_CELLS", 4 * 100)  # x, y, and the numbers of the row and its fold
    parts, _ = divided(pa.table({"x": range(500), "y": labels(500)}))
    rows = [pq.read_metadata(path).num_rows for path in parts.paths("train")]
    assert rows[:-1] == [100] * (parts.num_rows["train"] // 100)
    assert sorted(row["__row"] for part in rows_of(parts).values() for row in part) == list(range(500))


def test_parts_and_folds_hold_each_class_by_its_share(divided):
    parts, _ = divided(pa.table({"x": range(1000), "y": labels(1000)}))
    counts = {part: [row["y"] for row in parts.table(part, ["y"]).to_pylist()] for part in DRAWN}
    assert {part: (values.count("a"), values.count("b")) for part, values in counts.items()} == {
        "train": (630, 70),
        "validation": (135, 15),
        "test": (135, 15),
    }
    for fold in range(5):
        values = parts.table("train", ["y"], folds=[fold])["y"].to_pylist()
        assert (values.count("a"), values.count("b")) == (126, 14)


def test_the_assignment_does_not_depend_on_files(divided):
    table = pa.table({"x": range(300), "y": labels(300)})
    one, _ = divided(table, files=1)
    three, _ = divided(table, files=3)
    assert rows_of(one, ("__row", "__fold")) == rows_of(three, ("__row", "__fold"))


def test_another_seed_gives_another_assignment(divided):
    table = pa.table({"x": range(300), "y": labels(300)})
    assert divided(table)[0].digest != divided(table, seed=1)[0].digest


def test_parts_without_rows_still_tell_their_columns(divided):
    parts, _ = divided(pa.table({"x": range(100), "y": labels(100, 3)}))
    assert parts.num_rows["production"] == 0
    assert parts.table("production").column_names == ["x", "y", "__row", "__fold"]
    assert parts.table("train").schema == parts.table("production").schema
    assert set(parts.table("test")["__fold"].to_pylist()) == {-1}
    assert [str(parts.table("train").schema.field(n).type) for n in ("__row", "__fold")] == ["int64", "int8"]


def days(count, start=dt.datetime(2013, 1, 1, tzinfo=dt.UTC)):
    return [start + dt.timedelta(hours=6 * i) for i in range(count)]


def test_dates_are_local_and_rows_after_the_test_are_production(divided):
    times = days(400)
    parts, store = divided(
        pa.table({"at": times, "y": labels(400, 3)}),
        data={"time": "at", "timezone": "America/New_York"},
        split={"until": {"train": "2013-02-15", "validation": "2013-03-01", "test": "2013-04-01"}},
    )
    found = {part: parts.table(part, ["at"])["at"].to_pylist() for part in PARTS}
    zone_offset = {"train": 5, "validation": 5, "test": 4}  # summer time began on 10 March
    ends = {"train": (2013, 2, 15), "validation": (2013, 3, 1), "test": (2013, 4, 1)}
    edges = {part: dt.datetime(*day, zone_offset[part], tzinfo=dt.UTC) for part, day in ends.items()}
    assert max(found["train"]) < edges["train"] <= min(found["validation"])
    assert max(found["validation"]) < edges["validation"] <= min(found["test"])
    assert max(found["test"]) < edges["test"] <= min(found["production"])
    assert store.facts("split", parts.digest)["boundaries"]["test"] == "2013-04-01T04:00:00+00:00"
    assert parts.forward


def test_folds_follow_each_other_in_time(divided):
    rng = np.random.default_rng(0)
    times = [days(400)[i] for i in rng.permutation(400)]
    parts, _ = divided(pa.table({"at": times, "y": labels(400, 3)}), data={"time": "at"}, split={"by": "time"})
    folds = [parts.table("train", ["at"], folds=[fold])["at"].to_pylist() for fold in range(5)]
    assert all(max(a) < min(b) for a, b in pairwise(folds))
    assert [len(fold) for fold in folds] == [56] * 5


def test_equal_times_stay_together(divided):
    times = [days(20)[i // 20] for i in range(400)]
    parts, _ = divided(pa.table({"at": times, "y": labels(400, 3)}), data={"time": "at"}, split={"by": "time"})
    seen = [set(parts.table(part, ["at"])["at"].to_pylist()) for part in DRAWN]
    assert sum(len(s) for s in seen) == 20
    assert len(set.union(*seen)) == 20


def test_groups_stay_together_in_parts_and_folds(divided):
    groups = [f"g{i % 37}" if i % 50 else None for i in range(500)]
    parts, _ = divided(pa.table({"g": groups, "y": labels(500, 3)}), data={"group": "g"})
    tables = {part: parts.table(part, ["g", "__fold"]) for part in DRAWN}
    seen = [set(table["g"].to_pylist()) - {None} for table in tables.values()]
    assert sum(len(s) for s in seen) == 37
    train = tables["train"].to_pylist()
    folds = {}
    for row in train:
        folds.setdefault(row["g"], set()).add(row["__fold"])
    assert all(len(found) == 1 for group, found in folds.items() if group is not None)
    assert {part: table.num_rows / 500 for part, table in tables.items()} == pytest.approx(
        {"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.04
    )


def test_a_column_says_the_parts_and_becomes_no_feature(divided):
    part = (["Train"] * 60 + ["validation"] * 20 + [" test "] * 20) * 2
    for by in ("column", "auto"):
        parts, _ = divided(pa.table({"p": part, "y": labels(200, 3)}), split={"by": by, "column": "p"})
        assert parts.num_rows == {"train": 120, "validation": 40, "test": 40, "production": 0, "unlabelled": 0}
        assert parts.schema["p"].role is Role.SPLIT


def test_a_part_that_the_column_misspells_is_named(divided):
    with pytest.raises(errors.RecipeError, match="did you mean 'validation'"):
        divided(pa.table({"p": ["validaton"] * 50, "y": labels(50, 3)}), split={"by": "column", "column": "p"})


def test_random_regression_has_exact_shares(divided):
    parts, store = divided(pa.table({"x": range(1000), "y": np.arange(1000) / 7}))
    assert [parts.num_rows[part] for part in DRAWN] == [700, 150, 150]
    assert store.facts("split", parts.digest)["by"] == "random"
    assert [parts.table("train", [], folds=[fold]).num_rows for fold in range(5)] == [140] * 5


def test_stratified_regression_has_each_tenth_of_the_target_in_each_part(divided):
    parts, _ = divided(pa.table({"x": range(1000), "y": np.arange(1000) / 7}), split={"by": "stratified"})
    tenths = (np.array(parts.table("test", ["y"])["y"].to_pylist()) * 7 // 100).astype(int)
    assert np.bincount(tenths).tolist() == [15] * 10


def until(train, validation):
    return {"split": {"until": {"train": train, "validation": validation}}, "data": {"time": "at"}}


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"split": {"fractions": {"train": 0.8, "test": 0.2}}}, errors.RecipeError, "add up to 1"),
        ({"split": {"by": "time"}}, errors.RecipeError, "no 'data.time'"),
        ({"split": {"by": "group"}}, errors.RecipeError, "no 'data.group'"),
        ({"split": {"by": "random"}, "data": {"group": "x"}}, errors.RecipeError, "must stay in one part"),
        ({"split": {"by": "random", "until": {"train": "2013-02-01"}}}, errors.RecipeError, "split.until.*no effect"),
        (
            {"split": {"by": "time", "column": "x"}, "data": {"time": "at"}},
            errors.RecipeError,
            "split.column.*no effect",
        ),
        (until("2013-13-01", "2014-01-01"), errors.RecipeError, "split.until"),
        (until("2013-02-01", "2013-01-01"), errors.RecipeError, "one after the other"),
        (until("2015-02-01", "2016-01-01"), errors.TargetError, "part 'validation'"),
        ({"split": {"by": "time", "folds": 20}, "data": {"time": "day"}}, errors.TargetError, "distinct times"),
        ({"data": {"time": "x"}}, errors.RecipeError, "dates or times"),
    ],
)
def test_a_division_that_cannot_be_made_says_why(divided, keys, error, message):
    table = pa.table(
        {"x": range(100), "at": days(100), "day": [days(10)[i // 10] for i in range(100)], "y": labels(100, 3)}
    )
    with pytest.raises(error, match=message):
        divided(table, **keys)


def test_a_class_too_rare_for_all_parts_is_named(divided):
    with pytest.raises(errors.TargetError, match="class 'rare' of target 'y'"):
        divided(pa.table({"x": range(101), "y": [*labels(100, 3), "rare"]}))


def test_a_row_without_time_is_refused_when_time_divides(divided):
    with pytest.raises(errors.ContractError, match="1 labelled rows without a time"):
        divided(pa.table({"at": [*days(99), None], "y": labels(100, 3)}), data={"time": "at"}, split={"by": "time"})


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=200),
    st.sampled_from([[0.7, 0.15, 0.15], [0.2] * 5, [0.5, 0.5], [0.9, 0.05, 0.05]]),
)
def test_bins_in_time_part_no_ties_and_are_none_empty(times, shares):
    values = np.array(times, np.int64)
    begins = assignment.edges(values, shares)
    if len(set(times)) < len(shares):
        assert begins is None
        return
    bins = assignment.by_time(values, begins)
    assert sorted(set(bins.tolist())) == list(range(len(shares)))
    assert all(len(set(bins[values == t].tolist())) == 1 for t in set(times))
    assert (np.diff(bins[np.argsort(values, kind="stable")]) >= 0).all()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(0, 2**31))
def test_stratified_bins_are_within_a_row_or_two_of_their_shares(classes, seed):
    shares = [0.7, 0.15, 0.15]
    labels_ = np.array(classes, np.int64)
    bins = assignment.stratified(np.arange(len(classes)), labels_, shares, seed)
    for label in set(classes):
        counts = np.bincount(bins[labels_ == label], minlength=3)
        assert counts.sum() == (labels_ == label).sum()
        assert np.abs(counts - np.array(shares) * counts.sum()).max() <= 2
        assert counts.sum() < 5 or counts.min() >= 1


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=300), st.integers(0, 2**31))
def test_group_bins_are_none_empty_where_there_are_groups_enough(groups, seed):
    values = np.array(groups, np.int64)
    bins = assignment.by_group(np.arange(len(groups)), values, [0.7, 0.15, 0.15], seed)
    assert all(len(set(bins[values == g].tolist())) == 1 for g in set(groups))
    assert len(set(bins.tolist())) == min(3, len(set(groups)))
