from __future__ import annotations

import datetime as dt
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, limits
from mlsys.collect import bins, snapshot, split, task
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


def places(parts, columns):
    """Part and fold of the rows of each value of the columns."""
    found = {}
    for part in DRAWN:
        for row in parts.table(part, [*columns, "__fold"]).to_pylist():
            found.setdefault(tuple(row[name] for name in columns), set()).add((part, row["__fold"]))
    return found


def test_equal_rows_share_part_and_fold_whether_drawn_by_class_or_by_chance(divided):
    rng = np.random.default_rng(0)
    for by in ("stratified", "random"):
        table = pa.table({
            "a": rng.integers(0, 25, 1200), "b": rng.choice(["x", "y", None], 1200), "z": [*range(1200)],
            "y": rng.choice(["p", "q"], 1200, p=[0.2, 0.8]),
        })  # fmt: skip
        parts, _ = divided(table, data={"id": "z"}, split={"by": by})
        assert all(len(where) == 1 for where in places(parts, ["a", "b"]).values())
        assert [parts.num_rows[part] / 1200 for part in DRAWN] == pytest.approx([0.7, 0.15, 0.15], abs=0.03)
        (said,) = split.messages(parts, "y")
        assert (
            said == "1,125 of 1,200 rows (93.8%) repeat an earlier one on all features: equal rows share part and fold"
        )


def test_a_table_that_was_multiplied_is_told_and_its_copies_stay_together(divided):
    once = pa.table({"x": np.arange(200) / 7, "y": labels(200, 3)})
    parts, _ = divided(pa.concat_tables([once] * 4))
    assert all(len(where) == 1 for where in places(parts, ["x"]).values())
    assert [parts.num_rows[part] for part in DRAWN] == [560, 120, 120]
    assert split.messages(parts, "y")[1] == (
        "every row is there 4 times: the table looks copied; its copies teach nothing more"
    )


def test_rows_that_the_source_holds_twice_with_their_id_are_told(divided):
    once = pa.table({"k": range(200), "x": np.arange(200) / 7, "y": labels(200, 3)})
    parts, _ = divided(pa.concat_tables([once, once.slice(0, 20)]), data={"id": "k"})
    assert split.messages(parts, "y")[1].startswith("20 rows are copies of an earlier one, id and time included")


def test_a_table_too_coarse_to_keep_equal_rows_together_is_divided_by_rows_and_told(divided):
    parts, _ = divided(pa.table({"x": [i % 3 for i in range(400)], "y": labels(400, 7)}))
    assert [parts.num_rows[part] for part in DRAWN] == [280, 60, 60]
    assert "3 of 3 different ones are in several parts or folds" in split.messages(parts, "y")[0]


def test_equal_rows_of_a_time_split_are_told_and_stay_where_time_puts_them(divided):
    table = pa.table({"at": days(300), "x": [i % 40 for i in range(300)], "y": labels(300, 3)})
    parts, _ = divided(table, data={"time": "at"}, split={"by": "time"})
    (said,) = split.messages(parts, "y")
    assert said == (
        "260 of 300 rows (86.7%) repeat an earlier one on all features; they stand where time or a column puts them: "
        "the leakage scan counts those in two parts"
    )


def test_groups_that_hold_equal_rows_are_one_group(divided):
    table = pa.table({"g": [i // 4 for i in range(800)], "x": [i % 797 for i in range(800)], "y": labels(800, 3)})
    parts, _ = divided(table, data={"group": "g"})
    assert all(len(where) == 1 for where in places(parts, ["x"]).values())
    assert all(len(where) == 1 for where in places(parts, ["g"]).values())


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
    monkeypatch.setattr(limits, "TASK_CELLS", 4 * 100)  # x, y, and the numbers of the row and its fold
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


def test_a_class_too_rare_to_be_learned_is_rare_classes_and_named(divided):
    parts, _ = divided(pa.table({"x": range(103), "y": [*labels(100, 3), "rare", "rarer", "rarer"]}))
    assert set(parts.rare_classes) == {("rare", 1), ("rarer", 2)}
    assert parts.num_rows["unlabelled"] == 3
    (said,) = split.messages(parts, "y")
    assert said == (
        "target 'y': classes with fewer than two rows in training are set aside as unlabelled: 'rare' (1), 'rarer' (2);"
        " data.derive can merge them with another class"
    )


def test_a_class_that_comes_after_training_is_rare_classes(divided):
    table = pa.table({"at": days(100), "y": [*labels(90, 3), *["new"] * 10]})
    parts, _ = divided(table, data={"time": "at"}, split={"by": "time"})
    assert parts.rare_classes == (("new", 10),)


def test_two_classes_of_which_one_is_too_rare_are_refused(divided):
    with pytest.raises(errors.TargetError, match="class 'rare' of target 'y'"):
        divided(pa.table({"x": range(101), "y": [*["a"] * 100, "rare"]}))


def test_a_target_with_a_value_of_its_own_in_every_row_is_told_to_be_none(divided):
    with pytest.raises(errors.TargetError, match=r"(?s)60 values, each in one row.*an id or a name"):
        divided(pa.table({"x": range(60), "y": [f"name {number}" for number in range(60)]}))


def test_a_row_without_time_is_set_aside_and_told_when_time_divides(divided):
    table = pa.table({"at": [*days(99), None], "x": range(100), "y": labels(100, 3)})
    parts, _ = divided(table, data={"time": "at"}, split={"by": "time"})
    assert [row["x"] for row in parts.table("unlabelled", ["x"]).to_pylist()] == [99]
    assert split.messages(parts, "y") == ["rows without a time (1) are set aside as unlabelled: time divides the rows"]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=200),
    st.sampled_from([[0.7, 0.15, 0.15], [0.2] * 5, [0.5, 0.5], [0.9, 0.05, 0.05]]),
)
def test_bins_in_time_part_no_ties_and_are_none_empty(times, shares):
    values = np.array(times, np.int64)
    begins = bins.edges(values, shares)
    if len(set(times)) < len(shares):
        assert begins is None
        return
    drawn = bins.by_time(values, begins)
    assert sorted(set(drawn.tolist())) == list(range(len(shares)))
    assert all(len(set(drawn[values == t].tolist())) == 1 for t in set(times))
    assert (np.diff(drawn[np.argsort(values, kind="stable")]) >= 0).all()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(0, 2**31))
def test_stratified_bins_are_within_a_row_or_two_of_their_shares(classes, seed):
    shares = [0.7, 0.15, 0.15]
    labels_ = np.array(classes, np.int64)
    drawn = bins.stratified(np.arange(len(classes)), labels_, shares, seed)
    for label in set(classes):
        counts = np.bincount(drawn[labels_ == label], minlength=3)
        assert counts.sum() == (labels_ == label).sum()
        assert np.abs(counts - np.array(shares) * counts.sum()).max() <= 2
        assert counts.sum() < 5 or counts.min() >= 1


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=300), st.integers(0, 2**31))
def test_group_bins_are_none_empty_where_there_are_groups_enough(groups, seed):
    values = np.array(groups, np.int64)
    drawn = bins.by_group(np.arange(len(groups)), values, [0.7, 0.15, 0.15], seed)
    assert all(len(set(drawn[values == g].tolist())) == 1 for g in set(groups))
    assert len(set(drawn.tolist())) == min(3, len(set(groups)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_groups_stay_together_and_shares_are_kept_to_a_group_in_every_class(data):
    num_rows = data.draw(st.integers(30, 400))
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, data.draw(st.integers(30, 500)), num_rows)
    classes = rng.integers(0, data.draw(st.integers(1, 4)), num_rows)
    if data.draw(st.booleans()):  # one class a group
        classes = classes[groups % num_rows]
    shares = data.draw(st.sampled_from([[0.7, 0.15, 0.15], [0.2] * 5, [0.5, 0.5]]))
    largest = int(np.bincount(groups).max())
    for drawn in (
        bins.shuffled(np.arange(num_rows), shares, seed, groups),
        bins.stratified(np.arange(num_rows), classes, shares, seed, groups),
    ):
        assert all(len(set(drawn[groups == group].tolist())) == 1 for group in set(groups.tolist()))
        assert np.abs(np.bincount(drawn, minlength=len(shares)) - num_rows * np.array(shares)).max() <= largest + 1
    is_pure = all(len(set(classes[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    for label in set(classes.tolist()) if is_pure else ():
        counts = np.bincount(drawn[classes == label], minlength=len(shares))
        assert np.abs(counts - np.array(shares) * counts.sum()).max() <= 2 * largest


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(0, 2**31))
def test_groups_of_one_row_are_drawn_as_rows_without_groups(classes, seed):
    keys, labels_, shares = np.arange(len(classes)), np.array(classes, np.int64), [0.7, 0.15, 0.15]
    alone = keys[::-1].copy()
    plain = bins.stratified(keys, labels_, shares, seed)
    assert bins.stratified(keys, labels_, shares, seed, alone).tolist() == plain.tolist()
    assert bins.shuffled(keys, shares, seed, alone).tolist() == bins.shuffled(keys, shares, seed).tolist()
