"""An identity counts once, whether it came in this run or in one before."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.monitor import seen_identities
from mlsys.monitor.log_rows import IDENTITY
from mlsys.monitor.seen_identities import SeenIdentities

BATCHES = st.lists(st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=8)


def rows_of(values):
    hashes = pl.Series([0 if value is None else value * 2654435761 + 7 for value in values], dtype=pl.UInt64)
    ids = pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
    return pl.DataFrame({IDENTITY: hashes, "prediction_id": ids})


@given(BATCHES, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_the_first_row_of_an_identity_is_marked_in_whatever_run_it_came(tmp_path_factory, batches, per_run):
    folder, names, expected = tmp_path_factory.mktemp("state"), [], set()
    for start in range(0, len(batches), per_run):
        known = SeenIdentities(folder, names)
        for batch in batches[start : start + per_run]:
            marks = known.first(rows_of(batch)).to_list()
            for value, mark in zip(batch, marks, strict=True):
                assert mark == (value is None or value not in expected)
                expected |= set() if value is None else {value}
        names = known.save()
    stored = np.concatenate([np.empty(0, np.uint64), *(np.load(folder / name) for name in names)])
    assert len(stored) == len(set(stored.tolist())) == len(expected)


def test_short_runs_are_merged_and_long_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_identities, "MAX_RUN", 100)
    names = []
    for number in range(20):
        known = SeenIdentities(tmp_path, names)
        known.first(rows_of([number * 25 + k for k in range(25)]))
        names = known.save()
    lengths = [len(np.load(tmp_path / name)) for name in names]
    assert (sum(lengths), max(lengths) <= 100, len(lengths) <= 8) == (500, True, True)
