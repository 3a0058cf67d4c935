from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.monitor import trained_rows
from mlsys.monitor.reference import ReferenceRows
from traffic import Traffic, with_split


def write(folder, *counts):
    """Files with one number after another in `a`, and its square in `b`."""
    paths, begin = [], 0
    for number, count in enumerate(counts):
        values = np.arange(begin, begin + count)
        paths.append(folder / f"part-{number}.parquet")
        pq.write_table(pa.table({"a": values, "b": values**2, "c": values}), paths[-1])
        begin += count
    return paths


def test_every_nth_row_is_taken_across_files(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_rows, "MAX_TRAINED", 4)
    rows = trained_rows.sample(write(tmp_path, 3, 0, 5, 2), ["b", "a"])
    assert rows.to_pydict() == {"b": [0, 9, 36, 81], "a": [0, 3, 6, 9]}


def test_few_rows_are_all_taken_and_a_column_that_is_missing_gives_none(tmp_path):
    paths = write(tmp_path, 2, 3)
    assert trained_rows.sample(paths, ["a"])["a"].to_pylist() == [0, 1, 2, 3, 4]
    assert trained_rows.sample(paths, ["a", "z"]) is None
    assert trained_rows.sample([], ["a"]) is None


def test_the_rows_of_a_split_are_kept_by_their_bins(made):
    store, bundle = made
    trained = with_split(store, bundle, Traffic.draw(3_000, 7))
    reference = ReferenceRows.of(trained)
    codes = trained_rows.codes(store, "kept", trained, reference)
    assert reference.sampled == ("a", "b", "seats", "colour", "night")
    assert codes.shape == (1_500, 5)
    assert np.bincount(codes[:, 0], minlength=11)[1:11].min() > 100  # ten deciles
    assert (codes[:, 1] == 12).mean() == pytest.approx(0.05, abs=0.02)  # nulls
    (file,) = (store.root / "monitor" / "kept").glob("trained-*.npy")
    assert np.load(file).tolist() == codes.tolist()
    file.write_bytes(b"damaged")
    assert trained_rows.codes(store, "kept", trained, reference).tolist() == codes.tolist()


def test_a_version_whose_split_is_not_stored_has_none(made):
    store, bundle = made
    assert trained_rows.codes(store, "world", bundle, ReferenceRows.of(bundle)) is None
