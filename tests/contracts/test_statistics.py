"""The promises of every mergeable accumulator of `mlsys.statistics`, asked of each entry of `ACCUMULATORS`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import json
import pickle
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlsys.statistics
from mlsys.schema import FOLD, Column, Kind, Role, Schema, Task
from mlsys.statistics import ColumnStatistics, TableStatistics, TrainStatistics, encode_target
from mlsys.statistics.arrays import LengthStatistics, as_floats, lengths_of
from mlsys.statistics.encoding import encode
from mlsys.statistics.frequencies import FrequencyTable, label_sums
from mlsys.statistics.hashing import hash_array
from mlsys.statistics.image_statistics import ImageStatistics
from mlsys.statistics.moments import Comoments, Moments
from mlsys.statistics.numeric_statistics import Distributions, NumericStatistics
from mlsys.statistics.pairwise import PairLayout, PairwiseStatistics
from mlsys.statistics.sketches import BottomKSketch, DistinctSketch, QuantileSketch
from mlsys.statistics.table import encode_columns
from mlsys.statistics.text_statistics import TextStatistics
from pictures import encoded, noise

NUM_ROWS = 240
TASK = Task(kind="binary", target="y", classes=("no", "yes"))
COLUMNS = {
    "whole": ("int64", Kind.NUMERIC, Role.FEATURE),
    "real": ("double", Kind.NUMERIC, Role.FEATURE),
    "word": ("string", Kind.CATEGORICAL, Role.FEATURE),
    "truth": ("bool", Kind.BOOLEAN, Role.FEATURE),
    "text": ("string", Kind.TEXT, Role.FEATURE),
    "list": ("list<item: double>", Kind.LIST, Role.FEATURE),
    "picture": ("binary", Kind.IMAGE, Role.FEATURE),
    "at": ("timestamp[us, tz=UTC]", Kind.DATETIME, Role.TIME),
    "y": ("string", Kind.CATEGORICAL, Role.TARGET),
}
SCHEMA = Schema(
    columns=tuple(Column(name=name, type=type_, kind=kind, role=role) for name, (type_, kind, role) in COLUMNS.items())
)


def _rows():
    rng = np.random.default_rng(5)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    pictures = [encoded(noise(seed=seed)) for seed in range(12)] + [b"no picture"]
    texts = [f"text {number % 70} of so many" for number in range(NUM_ROWS)]
    return pa.table(
        {
            "whole": pa.array(rng.integers(-30, 30, NUM_ROWS), mask=rng.random(NUM_ROWS) < 0.1),
            "real": pa.array(rng.normal(size=NUM_ROWS), mask=rng.random(NUM_ROWS) < 0.1),
            "word": pa.array(rng.choice(list("abcd"), NUM_ROWS), mask=rng.random(NUM_ROWS) < 0.2),
            "truth": rng.random(NUM_ROWS) < 0.3,
            "text": pa.array(texts, mask=rng.random(NUM_ROWS) < 0.1),
            "list": pa.array([[1.0] * (n % 4) if n % 5 else None for n in range(NUM_ROWS)]),
            "picture": pa.array([pictures[n % 13] for n in range(NUM_ROWS)]),
            "at": pa.array([start + timedelta(hours=int(hour)) for hour in rng.integers(0, 900, NUM_ROWS)]),
            "y": pa.array(rng.choice(["no", "yes"], NUM_ROWS), mask=rng.random(NUM_ROWS) < 0.05),
            FOLD: np.arange(NUM_ROWS) % 3,
        }
    )


ROWS = _rows()
LAYOUT = PairLayout.of(ROWS, SCHEMA, TASK)


def _column(name):
    kind = COLUMNS[name][1]

    def fill(rows):
        statistics = ColumnStatistics(kind, 2)
        statistics.update(rows[name], encode_target(rows["y"], TASK))
        return statistics

    return fill


def _updated(empty, update):
    def fill(rows):
        accumulator = empty()
        update(accumulator, rows)
        return accumulator

    return fill


def _finite(rows, name):
    return as_floats(rows[name].combine_chunks().drop_null())


def _pairs(rows):
    known = rows.filter(pa.compute.and_(rows["whole"].is_valid(), rows["real"].is_valid()))
    return _finite(known, "whole"), _finite(known, "real")


def _words(table, rows):
    encoded_rows = rows["word"].combine_chunks().dictionary_encode()
    codes, keys = np.asarray(encoded_rows.indices.fill_null(len(encoded_rows.dictionary))), encoded_rows.dictionary
    y = encode_target(rows["y"], TASK)
    table.update(keys, np.bincount(codes, minlength=len(keys) + 1)[:-1], label_sums(codes, len(keys) + 1, y, 2)[:-1])


def _table(rows):
    return _updated(lambda: TableStatistics.empty(SCHEMA, TASK), TableStatistics.update)(rows)


def _pairwise(rows):
    return PairwiseStatistics.of(encode_columns(rows, SCHEMA, TASK), rows, LAYOUT, encode_target(rows["y"], TASK))


def _distributions(rows):
    return Distributions.of(encode_columns(rows, SCHEMA, TASK), encode_target(rows["y"], TASK), 2)


@dataclasses.dataclass
class Accumulator:
    """How rows make one, and by how much the merge of parts may be off from the whole."""

    of: Callable[[pa.Table], Any]
    rank_error: float = 0.0


ACCUMULATORS = {
    "Moments": Accumulator(lambda rows: Moments.of(_finite(rows, "real"))),
    "Comoments": Accumulator(lambda rows: Comoments.of(*_pairs(rows))),
    "LengthStatistics": Accumulator(
        lambda rows: LengthStatistics.of(lengths_of(rows["list"].combine_chunks().drop_null()))
    ),
    "QuantileSketch": Accumulator(
        _updated(lambda: QuantileSketch(NUM_ROWS), lambda sketch, rows: sketch.update(_finite(rows, "real")))
    ),
    "QuantileSketch, small": Accumulator(
        _updated(lambda: QuantileSketch(50), lambda sketch, rows: sketch.update(_finite(rows, "real"))),
        rank_error=2 * 2.446 / 50**0.9433,
    ),
    "DistinctSketch": Accumulator(
        _updated(DistinctSketch, lambda sketch, rows: sketch.update(hash_array(rows["real"])))
    ),
    "BottomKSketch": Accumulator(
        _updated(lambda: BottomKSketch(40), lambda sketch, rows: sketch.update(hash_array(rows["text"])))
    ),
    "FrequencyTable": Accumulator(_updated(lambda: FrequencyTable(100, 20, 2), _words)),
    "NumericStatistics": Accumulator(
        _updated(NumericStatistics, lambda numbers, rows: numbers.update(encode(rows["real"], Kind.NUMERIC).part()))
    ),
    "TextStatistics": Accumulator(
        _updated(TextStatistics, lambda texts, rows: texts.update(rows["text"].combine_chunks().drop_null()))
    ),
    "ImageStatistics": Accumulator(
        _updated(ImageStatistics, lambda pictures, rows: pictures.update(rows["picture"].combine_chunks()))
    ),
    **{f"ColumnStatistics, {name}": Accumulator(_column(name)) for name in COLUMNS if name != "y"},
    "TableStatistics": Accumulator(_table),
    "TrainStatistics": Accumulator(lambda rows: TrainStatistics.of_table(rows, SCHEMA, TASK)),
    "Distributions": Accumulator(_distributions),
    "PairwiseStatistics": Accumulator(_pairwise),
    "CrossProducts": Accumulator(lambda rows: _pairwise(rows).products),
    "GroupedMoments": Accumulator(lambda rows: _pairwise(rows).groups),
    "ContingencyTables": Accumulator(lambda rows: _pairwise(rows).tables),
    "MissingPatterns": Accumulator(lambda rows: _pairwise(rows).missing),
    "Timeline": Accumulator(lambda rows: _pairwise(rows).timeline),
}

REPORTED = (
    "Distributions",
    "PairwiseStatistics",
    "CrossProducts",
    "GroupedMoments",
    "ContingencyTables",
    "MissingPatterns",
    "Timeline",
)
"""Accumulators that serve the report alone: the report is stored, and they are not."""


def bits(value):
    """All that an object holds as plain values, floats by their bits; the order of a dictionary does not count."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return sorted(((repr(key), bits(item)) for key, item in value.items()), key=lambda pair: pair[0])
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if type(value).__module__.startswith("mlsys.statistics") and not isinstance(value, PairLayout):
        return bits(vars(value))
    return value.to_pylist() if isinstance(value, pa.Array) else value


def answers(value):
    """What an object holds, comparable between any orders of parts: approximate floats, counts by their key."""
    if isinstance(value, QuantileSketch):
        return [value.n, value.cdf(np.linspace(-3, 3, 25)) if value.n else None]
    if isinstance(value, FrequencyTable):
        return {str(key): [int(n), sums] for key, n, sums in zip(value.values(), value.counts, value.sums, strict=True)}
    if isinstance(value, dict):
        return {str(key): answers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [answers(item) for item in value]
    if isinstance(value, PairLayout):
        return None
    return answers(vars(value)) if type(value).__module__.startswith("mlsys.statistics") else value


def assert_close(ours, theirs, rank_error):
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = [ours[key] for key in theirs], list(theirs.values())
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, rank_error)
    elif isinstance(theirs, float | np.ndarray):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=max(rank_error, 1e-8))
    else:
        assert ours == theirs


def merged(parts):
    return parts[0] if len(parts) == 1 else parts[0].merge(merged(parts[1:]))


@pytest.fixture(scope="module", params=ACCUMULATORS)
def accumulator(request):
    return ACCUMULATORS[request.param]


@pytest.fixture(scope="module")
def whole(accumulator):
    return accumulator.of(ROWS)


@pytest.fixture(scope="module")
def empty(accumulator):
    return accumulator.of(ROWS.slice(0, 0))


def test_parts_merge_to_the_whole_in_any_order_and_grouping(accumulator, whole):
    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.integers(0, NUM_ROWS), max_size=3), st.randoms(use_true_random=False), st.booleans())
    def check(cuts, random, from_the_left):
        ends = sorted({0, *cuts, NUM_ROWS})
        parts = [accumulator.of(ROWS.slice(start, end - start)) for start, end in itertools.pairwise(ends)]
        random.shuffle(parts)
        total = merged(parts)
        if from_the_left:
            total = parts[0]
            for part in parts[1:]:
                total = total.merge(part)
        assert_close(answers(total), answers(whole), accumulator.rank_error)

    check()


def test_nothing_is_nothing_on_either_side_of_a_merge(whole, empty):
    assert bits(whole.merge(empty)) == bits(whole)
    assert bits(empty.merge(whole)) == bits(whole)


def test_a_merge_changes_neither_part(accumulator):
    one, other = accumulator.of(ROWS.slice(0, 100)), accumulator.of(ROWS.slice(100))
    before = bits(one), bits(other)
    one.merge(other)
    assert (bits(one), bits(other)) == before


def test_the_same_rows_give_the_same_bits(accumulator, whole):
    assert bits(accumulator.of(ROWS)) == bits(whole)


def test_it_crosses_processes(whole, empty):
    assert bits(pickle.loads(pickle.dumps(whole))) == bits(whole)
    assert bits(pickle.loads(pickle.dumps(empty))) == bits(empty)


@pytest.mark.parametrize("accumulator", [name for name in ACCUMULATORS if name not in REPORTED], indirect=True)
def test_json_keeps_every_bit(accumulator, whole, empty):
    options = {"with_sketch": True} if isinstance(whole, NumericStatistics) else {}
    for statistics in (whole, empty):
        text = json.dumps(statistics.to_json(**options))
        again = type(statistics).from_json(json.loads(text))
        assert json.dumps(again.to_json(**options)) == text
        assert_close(answers(again), answers(statistics), accumulator.rank_error)


@pytest.mark.parametrize("accumulator", REPORTED, indirect=True)
def test_what_serves_the_report_alone_is_not_stored(whole):
    assert not hasattr(whole, "to_json")


def test_every_accumulator_is_asked():
    names = set()
    for info in pkgutil.walk_packages(mlsys.statistics.__path__, "mlsys.statistics."):
        module = importlib.import_module(info.name)
        classes = inspect.getmembers(module, inspect.isclass)
        names |= {name for name, value in classes if value.__module__ == info.name and hasattr(value, "merge")}
    assert names == {name.split(",")[0] for name in ACCUMULATORS}
