"""A new model against the champion: rows that neither has seen, and a rule that chance does not fool."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import bundle
from mlsys.dataset import Split
from mlsys.evaluate import access_log, champion
from mlsys.evaluate.intervals import Estimate
from mlsys.evaluate.unseen_rows import UnseenRows
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema

FACTS = {
    "metric": "roc_auc",
    "title": "ROC AUC",
    "challenger_value": 0.81,
    "champion_value": 0.80,
    "num_rows": 5000,
    "num_left_out": 0,
    "resampling": {"unit": "rows", "num_units": 5000},
}


def judged(low, high, margin=0.0, **facts):
    value = (low + high) / 2
    return champion.judge("new", "old", Estimate(value, low, high, 0.01), {**FACTS, "margin": margin, **facts})


@pytest.mark.parametrize(
    ("low", "high", "margin", "outcome", "promotes"),
    [
        (0.001, 0.019, 0, "better", True),
        (-0.001, 0.019, 0, "not better", False),
        (0.0, 0.02, 0, "not better", False),
        (-0.02, -0.001, 0, "worse", False),
        (-0.001, 0.019, 0.002, "not worse", True),
        (-0.003, 0.019, 0.002, "not better", False),
        (-0.0019, -0.001, 0.002, "not worse", True),
    ],
)
def test_a_model_is_promoted_if_its_interval_lies_above_the_margin(low, high, margin, outcome, promotes):
    found = judged(low, high, margin)
    assert (found.outcome, found.promotes) == (outcome, promotes)
    assert bool(found.advice) is not promotes


def test_the_sentences_say_how_it_stands_and_what_would_change_it():
    found = judged(-0.01, 0.03, num_left_out=120)
    assert found.reason == (
        "not shown to be better than the champion: ROC AUC 0.8100 against 0.8000 on 5,000 test rows, 120 left out that "
        "the champion has seen; gain +0.0100 [-0.0100, +0.0300], by rows"
    )
    assert found.advice == (
        "about 20,000 test rows in place of 5,000 would show a gain of 0.0100 beyond chance, if it is one",
        "deploy.margin: 0.011 would promote it: it may then be worse by as much",
    )
    assert judged(-0.01, 0.03, 0.011).promotes
    by_days = judged(-0.01, 0.03, resampling={"unit": "blocks of 1 day", "num_units": 30})
    assert by_days.advice[0].startswith(
        "about 20,000 test rows in place of 5,000, 120 in place of 30 blocks of 1 day would show"
    )


def test_without_an_interval_nothing_is_decided():
    found = champion.judge("new", "old", Estimate(0.1, reason="4 groups or blocks; an interval needs 5"), dict(FACTS))
    assert (found.outcome, found.promotes) == ("not comparable", False)
    assert found.reason == "not comparable: no interval of the difference (4 groups or blocks; an interval needs 5)"


def test_two_models_that_always_answer_alike_are_not_exchanged():
    found = champion.judge("new", "old", Estimate(0.0, error=0.0, reason="the same"), {**FACTS, "margin": 0.0})
    assert (found.outcome, found.promotes) == ("not better", False)


@pytest.mark.parametrize(
    ("gain", "num_lines"),
    [
        (Estimate(0.0, -0.1, 0.1, 0.05), 0),
        (Estimate(-1.0, -1.5, -0.5, 0.1), 0),
        (Estimate(0.0, error=0.0), 0),
        (Estimate(0.01, -0.01, 0.03, 0.01), 1),
        (Estimate(1e-300, -0.01, 0.03, 0.01), 0),
        (Estimate(5e-324, -1.0, 1.0, 0.1), 0),
    ],
)
def test_against_a_champion_without_an_error_no_margin_is_advised(gain, num_lines):
    """A margin is a fraction of its error, and a fraction of 0 allows nothing."""
    facts = {**FACTS, "metric": "rmse", "champion_value": 0.0, "margin": 0.0}
    found = champion.judge("new", "old", gain, facts)
    assert (found.promotes, len(found.advice)) == (False, num_lines)


def test_a_gain_next_to_nothing_is_no_reason_to_collect_rows():
    found = judged(-0.01, 0.01 + 1e-9)
    assert [line.partition(":")[0] for line in found.advice] == ["deploy.margin"]


# Real bundles on real splits.


def rebuilt(world, made, **provenance):
    """The same model, with another word on where it comes from."""
    parts = {name: getattr(made, name) for name in ("task", "program", "family", "params", "threshold", "example")}
    return bundle.write(
        world.store,
        **parts,
        schema=world.split.schema,
        model=made.model(),
        reference=made.reference,
        provenance=provenance,
    )


def compare(world, new, old):
    return champion.compare(world.store, new, old, world.split, world.recipe)


@pytest.fixture
def two(make_world):
    """A world with a linear model and a dummy, both trained on its split."""
    world = make_world("binary")
    dummy = make_world("binary", family="dummy").bundle
    return world, *(rebuilt(world, made, split=world.split.digest) for made in (world.bundle, dummy))


def test_a_better_model_is_promoted_and_a_worse_one_is_not(two):
    world, linear, dummy = two
    better, worse = compare(world, linear, dummy), compare(world, dummy, linear)
    assert (better.outcome, better.promotes, better.num_rows, better.num_left_out) == ("better", True, 600, 0)
    assert (worse.outcome, worse.promotes) == ("worse", False)
    assert better.gain["value"] == pytest.approx(-worse.gain["value"])
    assert better.champion_value == 0.5
    assert json.loads(json.dumps(better.to_json(), allow_nan=False))["resampling"]["unit"] == "rows"


def test_an_error_counts_as_a_gain_where_it_is_smaller(make_world):
    world = make_world("regression")
    made = [
        rebuilt(world, made.bundle, split=world.split.digest)
        for made in (world, make_world("regression", family="dummy"))
    ]
    found = compare(world, *made)
    assert (found.metric, found.outcome) == ("rmse", "better")
    assert found.gain["low"] > 0


def test_the_comparison_is_an_opening_of_the_test_rows(two):
    world, linear, dummy = two
    compare(world, linear, dummy)
    (opening,) = access_log.read(world.store, access_log.digest_of_rows(world.split))
    assert opening.reason == f"comparison with the champion {dummy.digest[:12]}"


def test_models_that_cannot_be_compared_say_why(two):
    world, linear, dummy = two
    assert compare(world, linear, rebuilt(world, dummy)).reason == (
        "not comparable: the champion does not say which rows it was trained on"
    )
    gone = compare(world, linear, rebuilt(world, dummy, split="f" * 64))
    assert gone.reason == (
        "not comparable: the rows that the champion was trained on are not in the store any more (split ffffffffffff)"
    )
    narrow = replace(world.split, schema=world.split.schema.select(["noise", "origin", "carrier", "y"]))
    reads = champion.compare(world.store, dummy, linear, narrow, world.recipe)
    assert reads.reason == "not comparable: the champion reads columns that the rows do not have any more: x"
    assert reads.advice == ()


def test_other_tasks_are_not_comparable(two, make_world):
    world, linear, _ = two
    other = make_world("multiclass").bundle
    assert compare(world, linear, other).reason == (
        "not comparable: the champion's task is multiclass, the new model's binary"
    )


# Which rows the champion has seen.


def split_of(store, columns, parts, *, roles=None, forward=False, shuffle=0):
    """A stored split of a table by column, whose parts are named row by row."""
    roles = roles or {}
    kinds = {"f": Kind.NUMERIC, "i": Kind.NUMERIC, "U": Kind.CATEGORICAL, "M": Kind.DATETIME}
    table = pa.table(columns)
    schema = Schema(
        columns=[
            Column(
                name=name,
                type=str(table[name].type),
                kind=kinds[np.asarray(values).dtype.kind],
                role=roles.get(name, Role.FEATURE),
            )
            for name, values in columns.items()
        ]
    )
    order = np.random.default_rng(shuffle).permutation(table.num_rows) if shuffle else np.arange(table.num_rows)
    numbered = table.append_column(ROW, pa.array(order)).append_column(FOLD, pa.array(np.zeros(len(order), np.int8)))

    def write(folder):
        for part in ("train", "validation", "test"):
            (folder / part).mkdir()
            rows = [row for row in order if parts[row] == part]
            pq.write_table(numbered.take(rows), folder / part / "part-00000.parquet")
        num_rows = {part: list(parts).count(part) for part in ("train", "validation", "test")}
        return {"schema": schema.model_dump(mode="json"), "num_rows": num_rows, "num_folds": 1, "forward": forward}

    return Split.open(store, store.put("split", write))


def kept(trained, split):
    unseen = UnseenRows.of(trained, split)
    table = split.table("test")
    return [value for value, keep in zip(table["x"].to_pylist(), unseen(table), strict=True) if keep]


OLD = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
NEW = ["test"] * 2 + ["train"] * 5 + ["test"] * 3 + ["validation"] * 2


def test_rows_that_the_champion_learned_from_are_left_out_by_their_values(binary_world):
    x = np.arange(12.0)
    store, y = binary_world.store, x % 2
    trained = split_of(store, {"x": x, "y": y}, OLD)
    # the same rows in another order, the numbers as integers, and a column more
    columns = {"more": np.array(list("abcdefghijkl")), "y": y, "x": x.astype(np.int64)}
    assert kept(trained, split_of(store, columns, NEW, shuffle=3)) != []
    assert sorted(kept(trained, split_of(store, columns, NEW, shuffle=3))) == [8, 9]
    assert UnseenRows.of(trained, trained) is None


def test_a_row_is_the_same_after_its_values_were_corrected_if_it_has_an_id(binary_world):
    x = np.arange(12.0)
    roles = {"key": Role.ID}
    trained = split_of(binary_world.store, {"key": np.arange(12), "x": x, "y": x % 2}, OLD, roles=roles)
    corrected = split_of(binary_world.store, {"key": np.arange(12), "x": x + 0.5, "y": x % 3}, NEW, roles=roles)
    assert kept(trained, corrected) == [8.5, 9.5]


def test_an_id_that_names_a_customer_and_not_a_row_does_not_count_as_one(binary_world):
    x = np.arange(12.0)
    roles = {"key": Role.ID}
    customer = {"key": np.arange(12) // 12, "x": x, "y": x % 2}
    trained = split_of(binary_world.store, customer, OLD, roles=roles)
    assert kept(trained, split_of(binary_world.store, customer, NEW, roles=roles)) == [8, 9]


def test_other_rows_of_a_group_that_the_champion_knows_are_left_out_too(binary_world):
    x = np.arange(12.0)
    group = np.array([0, 0, 1, 1, 2, 2, 3, 3, 0, 4, 4, 4])
    columns, roles = {"group": group, "x": x, "y": x % 2}, {"group": Role.GROUP}
    trained = split_of(binary_world.store, columns, OLD, roles=roles)
    assert kept(trained, split_of(binary_world.store, columns, NEW, roles=roles)) == [9]
    in_time = split_of(binary_world.store, columns, NEW, roles=roles, forward=True)
    assert kept(trained, in_time) == [8, 9]  # where time divides, groups go on


def test_too_few_rows_left_are_not_compared(two):
    world, linear, dummy = two
    test = world.split.table("test").drop_columns([ROW, FOLD])
    columns = {name: test[name] for name in test.column_names}

    def write(folder):
        for part in ("train", "validation"):
            (folder / part).mkdir()
            pq.write_table(
                pa.table(columns).slice(0, 590 if part == "train" else 0), folder / part / "part-00000.parquet"
            )
        schema = world.split.schema.model_dump(mode="json")
        return {"schema": schema, "num_rows": {"train": 590, "validation": 0}, "num_folds": 1, "forward": False}

    seen = world.store.put("split", write)
    found = compare(world, linear, rebuilt(world, dummy, split=seen))
    assert (found.num_rows, found.num_left_out) == (10, 590)
    assert found.reason == "not comparable: 10 test rows that the champion has not seen; a comparison needs 20"


def test_ids_that_one_double_stands_for_are_different_rows(binary_world):
    store, ids = binary_world.store, np.arange(12) + 2**60
    trained = split_of(store, {"x": ids[:10], "y": ids[:10] % 2}, OLD[:10])
    again = split_of(store, {"x": ids, "y": ids % 2}, NEW)
    assert sorted(kept(trained, again)) == sorted(ids[[8, 9]].tolist())
