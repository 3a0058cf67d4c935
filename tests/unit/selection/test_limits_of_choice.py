"""Limits on latency and bytes in the comparison itself: measured, refused, and said."""

import dataclasses

import pytest

from mlsys import models, selection, train
from mlsys.train import constraints


def rank(built, **changes):
    split, statistics, recipe, task = built
    told = []
    wish = {f"selection.{name}": value for name, value in changes.items()}
    settings = recipe.having({"selection.families": ["linear", "forest", "lightgbm"], **wish})
    return selection.rank(split.only("train"), statistics, settings, task, progress=told.append), told


@pytest.fixture(scope="module")
def built(make_split):
    return make_split(num_rows=900)


def test_bytes_are_measured_only_where_they_are_limited(built):
    board, _ = rank(built)
    assert [entry.num_bytes for entry in board.entries] == [None] * 4
    assert board.refused == {}


def test_what_is_larger_than_the_limit_is_refused_and_the_next_best_is_taken(built):
    free, _ = rank(built, max_bytes=10**9)
    sizes = {entry.family: entry.num_bytes for entry in free.entries}
    assert sizes["linear"] < min(sizes["forest"], sizes["lightgbm"])
    limit = sizes["linear"] + 1
    board, told = rank(built, max_bytes=limit)
    assert f"forest was refused: {sizes['forest']:,} bytes, more than selection.max_bytes: {limit:,}" in told
    assert (set(board.refused), board.preferred) == ({"forest", "lightgbm"}, "linear")
    assert board.left.keys() >= board.refused.keys()  # after two rounds of the three


def test_a_latency_that_nothing_keeps_leaves_the_dummy(built):
    board, _ = rank(built, max_latency_us=1e-6)
    assert board.preferred == "dummy"
    assert set(board.refused) == {"linear", "forest", "lightgbm"}
    assert all(reason.endswith("more than selection.max_latency_us: 1e-06") for reason in board.refused.values())


def test_the_bytes_of_a_model_are_those_that_its_bundle_stores(built, tmp_path):
    split, statistics, recipe, task = built
    rows = train.prepare(split.only("train"), statistics, recipe, task, "forest", fit_folds=[0, 1], judge=2)
    family = models.family("forest")
    model = family.fit(rows.train, None, task, family.params(), seed=0, threads=1)
    models.save("forest", model, tmp_path)
    assert constraints.num_bytes("forest", model) == sum(file.stat().st_size for file in tmp_path.rglob("*.*"))


def test_limits_are_kept_in_the_search_too(built):
    limits = train.Constraints(max_latency_us=10, max_bytes=1_000)
    assert limits.refusal(10, 1_000) is None
    assert limits.refusal(10.1, None) == "10.1 µs a row, more than selection.max_latency_us: 10"
    assert limits.refusal(None, 1_001) == "1,001 bytes, more than selection.max_bytes: 1,000"
    assert dataclasses.replace(limits, max_bytes=None).excess(5, 9_999) == 0.5
