from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import palmerpenguins
import pyarrow as pa
import pytest
from pyarrow import csv
from sklearn import datasets

from mlsys import errors
from mlsys.explore import leakage, scan
from mlsys.explore.leakage import Finding
from mlsys.schema import Role, Task

BINARY = Task(kind="binary", target="y", classes=(0, 1))


def table(n, seed=0, **more):
    rng = np.random.default_rng(seed)
    return pa.table({"a": rng.normal(size=n), "b": rng.choice(["x", "y"], n), "y": rng.integers(0, 2, n), **more})


def look(split, task=BINARY, allow=(), limit=None, suspects="warn"):
    return leakage.scan(split, task, scan.profile(split, task), allow, limit, suspects)


def parted(whole, seed=0):
    order = np.random.default_rng(seed).permutation(whole.num_rows)
    cut = [0, int(0.6 * len(order)), int(0.8 * len(order)), len(order)]
    train, validation, test = (whole.take(np.sort(order[a:b])) for a, b in pairwise(cut))
    return train, {"validation": validation, "test": test}


def penguins():
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    file = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    return csv.read_csv(file, convert_options=options).drop_columns(["year"])


SPECIES = Task(kind="multiclass", target="species", classes=("Adelie", "Chinstrap", "Gentoo"))


def test_independent_rows_leak_nothing(divide):
    assert look(divide(table(600), validation=table(200, 1), test=table(200, 2))) == []


def test_copies_of_training_rows_are_told_and_stop_the_run_over_a_stated_fraction(divide):
    train = table(600)
    test = pa.concat_tables([table(190, 2), train.slice(5, 10)])
    split = divide(train, test=test)
    (found,) = look(split)
    assert (found.kind, found.column, found.evidence, found.blocking) == ("twins", None, 0.05, False)
    assert look(split, limit=0.01)[0].blocking
    assert found.detail == "10 of 200 test rows (5.0%) are copies of training rows on all 2 features"
    assert not look(split, limit=0.06)[0].blocking


def test_a_table_that_was_multiplied_before_the_split_stops_the_run(divide, schema_of):
    """Lab DS-08 unions the penguins with themselves twice and splits afterwards."""
    train, parts = parted(pa.concat_tables([penguins()] * 4))
    twins = [
        f for f in look(divide(train, schema_of(train, "species"), **parts), SPECIES, limit=0.05) if f.kind == "twins"
    ]
    assert [finding.blocking for finding in twins] == [True, True]
    assert min(finding.evidence for finding in twins) > 0.8


def test_coarse_rows_that_are_equal_by_chance_do_not_stop_the_run(divide):
    rng = np.random.default_rng(0)

    def coarse(n):
        return pa.table({"a": rng.integers(0, 3, n), "b": rng.choice(["x", "y"], n), "y": rng.integers(0, 2, n)})

    (found,) = look(divide(coarse(500), test=coarse(100)))
    assert (found.evidence, found.blocking) == (0.0, False)
    assert found.detail == (
        "100 of 100 test rows (100.0%) equal a training row on all 2 features;"
        " no more than expected by chance: training rows equal one another, too"
    )


def test_traffic_may_repeat_training_rows(divide):
    train = table(300)
    (found,) = look(divide(train, production=train.slice(0, 100)))
    assert (found.evidence, found.blocking) == (1.0, False)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_well_known_tables_pass(divide, schema_of, name):
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    whole = pa.Table.from_pandas(frame, preserve_index=False)
    train, parts = parted(whole)
    classes = tuple(sorted(set(whole["target"].to_pylist())))
    kind = "regression" if name == "diabetes" else "binary" if len(classes) == 2 else "multiclass"
    task = Task(kind=kind, target="target", classes=() if kind == "regression" else classes)
    found = look(divide(train, schema_of(train, "target"), **parts), task)
    assert not [f for f in found if f.blocking or f.suspected]


def test_penguins_pass(divide, schema_of):
    train, parts = parted(penguins())
    assert look(divide(train, schema_of(train, "species"), **parts), SPECIES) == []


def test_a_column_equal_to_the_target_is_suspected_and_stops_nothing(divide):
    train = table(300)
    train = train.append_column("again", train["y"].cast(pa.float64()))
    (found,) = look(divide(train))
    assert (found.kind, found.column, found.suspected, found.blocking) == ("identical", "again", True, False)
    leakage.enforce([found])
    assert found.sentence == (
        "'again' equals the target 'y' in all 300 rows of the sample: it may be known only with the answer. It is kept;"
        " data.known_after: [again] leaves it out, explore.allow: [again] says that it is known in time"
    )


def test_a_recipe_may_ask_that_suspects_stop_the_run(divide):
    train = table(300)
    split = divide(train.append_column("again", train["y"]))
    with pytest.raises(errors.LeakageError, match=r"put again under data\.known_after"):
        leakage.enforce(look(split, suspects="stop"))
    leakage.enforce(look(split, suspects="stop", allow=["again"]))


def test_a_column_that_stands_in_for_the_target_is_suspected(divide):
    train = table(1_000)
    y = np.asarray(train["y"])
    train = train.append_column("paid", pa.array(np.where(y, 100.0, 0) + np.random.default_rng(1).normal(size=1_000)))
    train = train.append_column("state", pa.array(np.where(y, "closed", "open")))
    found = {finding.column: finding for finding in look(divide(train))}
    assert {name: (f.kind, f.suspected, f.blocking) for name, f in found.items()} == {
        "paid": ("proxy", True, False),
        "state": ("proxy", True, False),
    }
    assert found["paid"].detail == "'paid' alone predicts the target with an AUC of 1.000"


def test_a_copy_of_a_number_in_another_unit_is_suspected(divide):
    rng = np.random.default_rng(3)
    price = rng.lognormal(3, 1, 800)
    train = pa.table({"a": rng.normal(size=800), "log_euro": np.log(0.9 * price), "y": price})
    (found,) = look(divide(train), Task(kind="regression", target="y"))
    assert (found.kind, found.column, found.suspected) == ("proxy", "log_euro", True)


def test_a_strong_column_is_reported_and_not_suspected(divide):
    train = table(2_000)
    strong = np.asarray(train["y"]) * 2.5 + np.random.default_rng(4).normal(size=2_000)  # AUC Φ(2.5/√2) = 0.961
    split = divide(train.append_column("strong", pa.array(strong)))
    (found,) = look(split)
    assert (found.column, found.suspected) == ("strong", False)
    assert found.evidence == pytest.approx(0.961, abs=0.01)
    told = f"'strong' alone predicts the target with an AUC of {found.evidence:.3f}"
    assert leakage.warnings([found]) == (f"{told}: check that this is known when the prediction is made",)
    (allowed,) = look(split, allow=["strong"])
    assert leakage.warnings([allowed]) == ()


def test_a_group_in_two_parts_stops_the_run_unless_parts_follow_in_time(divide, schema_of):
    train = table(300, house=np.arange(300) // 10)
    test = table(100, 1, house=25 + np.arange(100) // 10)
    schema = schema_of(train, house=Role.GROUP)
    (found,) = look(divide(train, schema, test=test))
    assert (found.kind, found.column, found.evidence, found.blocking) == ("group", "house", 0.5, True)


def test_a_row_without_a_group_is_in_no_group_of_another_part(divide, schema_of):
    train = table(300, house=pa.array([None if i % 7 == 0 else i // 10 for i in range(300)], pa.int64()))
    test = table(100, 1, house=pa.array([None if i % 5 == 0 else 1_000 + i // 10 for i in range(100)], pa.int64()))
    assert look(divide(train, schema_of(train, house=Role.GROUP), test=test)) == []


def test_a_test_row_before_the_training_rows_stops_a_run_by_time(divide, schema_of):
    start = datetime(2013, 1, 1)  # noqa: DTZ001  (a time without a zone, as tables have)
    train = table(200, at=[start + timedelta(days=i) for i in range(200)])
    test = table(100, 1, at=[start + timedelta(days=150 + i) for i in range(100)])
    (found,) = look(divide(train, schema_of(train, at=Role.TIME), forward=True, test=test))
    assert (found.kind, found.evidence, found.blocking) == ("time", 0.49, True)
    assert found.detail == "49.0% of the test rows are earlier than the last train row by 'at'"


def test_an_allowed_column_is_reported_and_not_suspected(divide):
    train = table(300)
    train = train.append_column("again", train["y"])
    (found,) = look(divide(train), allow=["again"])
    assert not found.suspected
    assert found.detail.endswith("; allowed by the recipe")
    leakage.enforce([found])


def test_a_tiny_table_is_left_alone(divide):
    train, test = (rows.append_column("again", rows["y"]) for rows in (table(8), table(3, 1)))
    assert look(divide(train, test=test)) == []


def test_constant_columns_and_empty_parts_are_no_leak(divide):
    assert look(divide(table(300, one=np.ones(300), none=pa.nulls(300, pa.float64())))) == []


def test_sealed_parts_are_not_opened(divide):
    train = table(200)
    assert look(divide(train, test=train.slice(0, 50)).only("train")) == []


def test_what_stops_the_run_says_why_and_how_to_go_on():
    findings = [
        Finding("proxy", "paid", "'paid' alone predicts the target with an AUC of 1.000", 1.0, True),
        Finding("identical", "again", "'again' equals the target 'y' in all 300 rows of the sample", 1.0, True),
        Finding("proxy", "strong", "'strong' alone predicts …", 0.96, False),
    ]
    with pytest.raises(errors.LeakageError) as raised:
        leakage.enforce(findings)
    assert str(raised.value) == (
        "explore: leakage scan, proxy 'paid'\n"
        "  got:      'paid' alone predicts the target with an AUC of 1.000\n"
        "            also identical: 'again' equals the target 'y' in all 300 rows of the sample\n"
        "  expected: training rows and features that know nothing of the answer\n"
        "  hint:     put again, paid under data.known_after or data.ignore; "
        "if you have checked them, under explore.allow"
    )
    assert raised.value.field == "paid"


def test_copies_name_the_bound():
    with pytest.raises(errors.LeakageError, match=r"explore\.max_duplicate_fraction, which is the bound"):
        leakage.enforce([Finding("twins", None, "50 of 100 test rows (50.0%) are copies", 0.5, True)])
