"""Some training rows of a version, by the bins of their columns, beside which rows of windows are held.

They are taken from the split that the version was trained on, at even distances, once: the bins of these rows lie
beside the state of the log, ``<store>/monitor/<name>/trained-<key>.npy``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.deploy.prediction_log import logged_name
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.row_sample import Codes, encode
from mlsys.store import Store, digest_json, write_atomic

MAX_TRAINED = 2_000
"""Rows that are taken."""


def codes(store: Store, name: str, bundle: Bundle, reference: ReferenceRows) -> Codes | None:
    """The rows by the bins of `ReferenceRows.sampled`; None where the split is no longer stored, or lacks a column."""
    digest = bundle.provenance.get("split")
    if digest is None or len(reference.sampled) < 2 or not store.has("split", digest):
        return None
    key = digest_json([bundle.digest, list(reference.sampled), MAX_TRAINED])[:32]
    file = store.root / "monitor" / name / f"trained-{key}.npy"
    stored = _stored(file)
    if stored is not None:
        return stored
    own = {logged_name(column.name): column.name for column in bundle.schema.features}
    rows = sample(Split.open(store, digest).only("train").paths("train"), [own[each] for each in reference.sampled])
    if rows is None:
        return None
    encoded = encode(rows.rename_columns(list(reference.sampled)), [reference.bins[each] for each in reference.sampled])
    content = io.BytesIO()
    np.save(content, encoded)
    write_atomic(file, content.getvalue())
    return encoded


def _stored(file: Path) -> Codes | None:
    """The codes of a file; None where there is none that can be read."""
    try:
        return np.asarray(np.load(file, allow_pickle=False), np.uint8)
    except (OSError, EOFError, ValueError):
        return None


def sample(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table | None:
    """Every n-th row of some files, `MAX_TRAINED` at most; None if they lack a column or hold no row."""
    if not paths or not set(columns) <= set(pq.read_schema(paths[0]).names):
        return None
    counts = [pq.read_metadata(path).num_rows for path in paths]
    step = max(math.ceil(sum(counts) / MAX_TRAINED), 1)
    begins = np.cumsum([0, *counts])
    parts = []
    for path, count, begin in zip(paths, counts, begins, strict=False):
        chosen = np.arange(-begin % step, count, step)
        if len(chosen):
            parts.append(pq.read_table(path, columns=list(columns)).select(list(columns)).take(pa.array(chosen)))
    return pa.concat_tables(parts) if parts else None
