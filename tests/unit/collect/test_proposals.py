"""What a table's columns are for is proposed by rules that are stated, each with its reason."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from mlsys import errors
from mlsys.collect import proposals, survey

N = 400
RNG = np.random.default_rng(0)
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def proposed(tmp_path):
    """Propose for the rows of some columns, written as Parquet."""

    def run(columns, target=None):
        pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet")
        return proposals.propose(survey.take(str(tmp_path / "t.parquet")), target)

    return run


def features():
    return {"a": RNG.normal(size=N), "colour": RNG.choice(["r", "g", "b"], N)}


@pytest.mark.parametrize(
    ("columns", "target", "reason"),
    [
        (["label", "colour", "a"], "label", "its name says so"),
        (["colour", "Churn", "a"], "Churn", "by its name"),
        (["a", "SalePrice"], "SalePrice", "by its name, and it is the last column"),
        (["a", "b", "colour"], "colour", "the last column"),
        (["a", "b", "id"], "b", "the last column that can be learned"),
        (["income_ratio", "a", "repaid", "b"], "repaid", "by its name"),
        (["x", "y", "z", "price"], "price", "by its name, and it is the last column"),
    ],
)
def test_the_target_goes_by_its_name_then_by_its_place(proposed, columns, target, reason):
    values = {"id": range(N), "label": RNG.choice(["x", "y"], N), "Churn": RNG.integers(0, 2, N), **features()}
    values["repaid"] = values["Churn"].astype(float)
    found = proposed({name: values.get(name, RNG.normal(size=N)) for name in columns})
    assert (found.target, found.target_reason) == (target, reason)


def test_other_targets_are_named_if_their_names_say_anything(proposed):
    found = proposed({"price": RNG.normal(size=N), "a": RNG.normal(size=N), "label": RNG.integers(0, 3, N)})
    assert (found.target, found.alternatives, found.task_words) == ("label", ("price",), "3 classes: multiclass")


def test_a_table_without_anything_to_learn_says_what_to_do(proposed):
    with pytest.raises(errors.TargetError, match="name one with --target"):
        proposed({"id": [f"k{i}" for i in range(N)], "day": [START + dt.timedelta(days=i) for i in range(N)]})


def test_an_id_is_unique_in_all_rows_and_what_only_tells_rows_apart_is_ignored(proposed):
    found = proposed({
        "Unnamed: 0": range(N), "order_id": RNG.permutation(N) + 10_000, "token": [f"t{i}" for i in range(N)],
        "ref": [f"r{i % 390}" for i in range(N)], "one": ["x"] * N, "written": [f"{i / 7:.2f}" for i in range(N)],
        **features(), "y": RNG.integers(0, 2, N),
    })  # fmt: skip
    assert found.id == "order_id"
    assert found.ignore == {
        "token": "a value of its own in every row: nothing to learn from",
        "ref": "390 different values in 400 rows: new rows will have others",
        "one": "the same value in every row",
    }


def test_personal_data_is_ignored_and_is_no_id_and_coordinates_are_kept(proposed):
    found = proposed({
        "email_id": [f"user{i}@example.org" for i in range(N)], "lat": RNG.uniform(40, 50, N).round(4),
        **features(), "y": RNG.integers(0, 2, N),
    })  # fmt: skip
    assert found.id is None
    assert found.ignore == {"email_id": "e-mail addresses: 100% of 400 different values"}
    assert list(found.remarks) == ["lat"]


def test_known_after_needs_the_name_and_the_relation_or_is_a_copy(proposed):
    y = RNG.integers(0, 2, N)
    near = np.where(y, 100.0, 0) + RNG.normal(size=N)
    found = proposed({
        **features(), "state": np.where(y, "closed", "open"), "refund_amount": near, "score": near * 2,
        "duration": y + RNG.normal(size=N), "result_code": RNG.normal(size=N), "y": y,
    })  # fmt: skip
    assert found.known_after == {
        "state": "names the classes of the target 'y' in all 400 rows",
        "refund_amount": "by its name, and as it alone predicts the target with an AUC of 1.000",
    }
    assert list(found.suspects) == ["score", "duration"]
    assert found.suspects["score"] == "it alone predicts the target with an AUC of 1.000; kept until you say so"


def test_the_time_begins_something_and_is_no_date_of_birth(proposed):
    hours = np.arange(N)
    found = proposed({
        "birth_date": [START - dt.timedelta(days=int(d)) for d in RNG.integers(7_000, 20_000, N)],
        "closed_at": [START + dt.timedelta(hours=int(h) + 5) for h in hours],
        "created_at": [START + dt.timedelta(hours=int(h)) for h in hours],
        "seen": [None, *(START + dt.timedelta(hours=int(h)) for h in hours[1:])],
        **features(), "y": RNG.integers(0, 2, N),
    })  # fmt: skip
    assert found.time == ("created_at", "the rows are in its order, 2024-01-01 to 2024-01-17")
    assert list(found.suspects) == ["closed_at"]


@pytest.mark.parametrize(
    ("name", "values", "is_group"),
    [
        ("customer_id", 50, True),
        ("patient", 50, True),
        ("visit_id", 150, True),
        ("location_id", 15, False),
        ("product_code", 50, False),
        ("customer_id", 5, False),
    ],
)
def test_a_group_is_an_id_that_repeats(proposed, name, values, is_group):
    found = proposed({name: np.arange(N) % values, **features(), "y": RNG.integers(0, 2, N)})
    reason = f"{values} values in 400 rows, so that rows of one would be in training and in test"
    assert found.group == ((name, reason) if is_group else None)
