"""Odd tables get through: few rows, many classes, rare classes, many columns, one value in nearly all rows."""

import numpy as np
import pyarrow as pa
import pytest

from modelled import collected

FAST = {"split": {"folds": 2}, "train": {"rounds": 10}, "selection": {"families": ["linear", "xgboost"]}}
RNG = np.random.default_rng(0)


def features(num_rows, columns=2):
    return {f"x{number}": RNG.normal(size=num_rows) for number in range(columns)}


def said(values):
    return np.where(values > 0, "yes", "no")


def thirty_rows():
    x = features(30)
    return pa.table({**x, "y": said(x["x0"])})


def a_class_with_two_rows():
    x = features(200)
    return pa.table({**x, "y": np.where(np.arange(200) < 2, "rare", said(x["x0"]))})


def three_hundred_classes():
    x = features(1_500)
    return pa.table({**x, "y": [f"class {value}" for value in np.clip(x["x0"] * 75, -149, 150).round().astype(int)]})


def one_row_in_a_thousand():
    x = features(3_000)
    return pa.table({**x, "y": np.where(np.argsort(np.argsort(-x["x0"])) < 3, "yes", "no")})


def twelve_whole_numbers():
    x = features(400)
    return pa.table({**x, "y": np.clip(6 + 2 * x["x0"], 1, 12).round().astype(int)})


def more_columns_than_rows():
    x = features(100, 250)
    return pa.table({**x, "y": said(x["x0"])})


TABLES = [
    thirty_rows,
    a_class_with_two_rows,
    three_hundred_classes,
    one_row_in_a_thousand,
    twelve_whole_numbers,
    more_columns_than_rows,
]


@pytest.mark.parametrize("table", TABLES)
def test_an_odd_table_gets_from_collection_to_a_verdict(tmp_path, table):
    sections = {**FAST, "selection": {"families": ["linear"]}} if table is three_hundred_classes else FAST
    rows = collected(tmp_path, table(), **sections)
    ranking = rows.ranking()
    evaluation = rows.evaluation(rows.fit(ranking))
    assert ranking.beats_dummy
    assert evaluation["verdict"]["checks"]
