"""Pairs that act together: H by hand, against a plain loop, and nothing where effects add up."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bundles
from mlsys.evaluate import interactions
from mlsys.predict import Predictor
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.store import Store

NUMBERS = st.floats(-10, 10)


def test_h_is_the_share_of_what_is_no_sum():
    """F_jk = x + y + xy on the four corners of a square: mean squares 1, 1 and 1 of 3."""
    x, y = np.array([[-1.0], [-1], [1], [1]]), np.array([[-1.0], [1], [-1], [1]])
    effect, h = interactions.strength(x + y + x * y, x, y)
    assert effect == pytest.approx(1.0)
    assert h == pytest.approx(np.sqrt(1 / 3))


@given(arrays.arrays(float, (6, 2), elements=NUMBERS), arrays.arrays(float, (6, 2), elements=NUMBERS))
def test_effects_that_add_up_are_no_interaction(first, second):
    first, second = interactions.centred(first), interactions.centred(second)
    assert interactions.strength(first + second, first, second)[0] == pytest.approx(0, abs=1e-8)


@given(arrays.arrays(float, (5, 3), elements=st.floats(-4, 4)))
def test_margins_of_a_softmax_are_its_scores_about_their_mean(scores):
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = scores - scores.mean(axis=1, keepdims=True)
    assert interactions.margin(p, TaskKind.MULTICLASS) == pytest.approx(expected, abs=1e-6)


def table_of(law, num_rows=900, seed=0):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, num_rows))
    return pa.table({"a": a, "b": b, "c": c, "y": law(a, b, c) + 0.1 * rng.normal(size=num_rows)})


def fitted(folder, table, family):
    columns = [Column(name=name, type="double", kind=Kind.NUMERIC) for name in "abc"]
    schema = Schema(columns=(*columns, Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)))
    task = Task(kind=TaskKind.REGRESSION, target="y")
    settings = {"rounds": 150, "max_depth": 4, "colsample_bytree": 1.0} if family == "xgboost" else {}
    return Predictor(bundles.stored(Store.open(folder), table, schema, task, family, settings=settings, example={}))


def test_a_product_is_found_and_columns_beside_it_are_not(tmp_path):
    table = table_of(lambda a, b, c: a * b + c)
    predictor = fitted(tmp_path, table, "xgboost")
    found = interactions.find(predictor, predictor.conform(table.slice(0, 30).drop_columns(["y"])), ["c", "a", "b"])
    first = found["pairs"][0]
    assert (first["columns"], first["matters"]) == (["a", "b"], True)
    assert first["h"] > 0.9
    assert all(pair["effect"] < first["effect"] / 2 for pair in found["pairs"][1:])


def test_a_linear_model_of_any_task_has_none(tmp_path):
    for kind in (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION):
        of = bundles.fit(Store.open(tmp_path / kind.value), kind, "linear")
        predictor = Predictor(of)
        rows = predictor.conform(bundles.rows(20, 3, kind).drop_columns(["y"]))
        found = interactions.find(predictor, rows, ["distance", "carrier", "night"])
        assert not any(pair["matters"] for pair in found["pairs"])
        assert max(pair["effect"] for pair in found["pairs"]) < 1e-4 * found["spread"]


def test_dependence_is_that_of_a_plain_loop(tmp_path):
    table = table_of(lambda a, b, c: a * b + c)
    predictor = fitted(tmp_path, table, "xgboost")
    rows = predictor.conform(table.slice(0, 7).drop_columns(["y"]))
    found = interactions._dependence(predictor, rows, ["a", "b"])
    records = rows.to_pylist()
    expected = [
        np.mean([predictor.rows([{**other, "a": own["a"], "b": own["b"]}]).score[0] for other in records])
        for own in records
    ]
    assert found[:, 0] == pytest.approx(expected, rel=1e-6)


def test_every_pair_is_looked_at_once(tmp_path):
    table = table_of(lambda a, b, c: a + b + c)
    predictor = fitted(tmp_path, table, "linear")
    rows = predictor.conform(table.slice(0, 6).drop_columns(["y"]))
    pairs = interactions.find(predictor, rows, ["a", "b", "c"])["pairs"]
    assert sorted(tuple(pair["columns"]) for pair in pairs) == list(itertools.combinations("abc", 2))
    assert interactions.find(predictor, rows, ["a"])["pairs"] == []
